"""Metrics of programs, and the page for Prometheus."""

from __future__ import annotations

import importlib
import json
import math
import os
import pickle
import signal
import socket
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import conftest
import leftovers
import mobula as ray
import pytest
from mobula import exceptions
from mobula.util.metrics import Counter, Gauge, Histogram

pytestmark = [pytest.mark.mobula_only]

# Only `make test` installs it.
prometheus: Any = importlib.import_module("prometheus_client.parser")


@pytest.fixture
def session(no_session: None) -> Iterator[None]:
    conftest.start(num_cpus=2)
    yield


def port() -> int:
    return int(ray.nodes()[0]["MetricsExportPort"])


def fetch(path: str = "/metrics", **headers: str) -> tuple[str, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port()}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode(), answer.headers


Samples = dict[str, list[tuple[dict[str, str], float]]]


def samples() -> Samples:
    """By name, what the page shows, read with Prometheus's own parser."""
    found: Samples = {}
    for family in prometheus.text_string_to_metric_families(fetch()[0]):
        assert family.documentation or not family.name.startswith("mobula")
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of all that have these labels."""
    return sum(
        number
        for has, number in found.get(name, [])
        if all(has.get(key) == wanted for key, wanted in labels.items())
    )


@ray.remote
def until(path: str) -> None:
    import time

    while not os.path.exists(path):
        time.sleep(0.005)


def test_the_page_shows_the_daemons_own_figures(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    @ray.remote
    def fine() -> None: ...

    @ray.remote
    def fails() -> None:
        raise ValueError

    ray.get([fine.remote() for _ in range(7)])
    with pytest.raises(ValueError):
        ray.get(fails.remote())
    runs = [until.remote(gate) for _ in range(5)]

    @ray.remote
    def depends(_: None) -> None: ...

    last = depends.remote(runs[-1])
    leftovers.wait_until(
        lambda: value(samples(), "mobula_tasks", State="RUNNING") == 2, "two tasks run"
    )
    found = samples()
    assert value(found, "mobula_tasks", State="PENDING_ARGS_AVAIL") == 1
    assert value(found, "mobula_tasks") == 6
    assert value(found, "mobula_tasks_ended_total", Name="fine", State="FINISHED") == 7
    assert value(found, "mobula_tasks_ended_total", Name="fails", State="FAILED") == 1
    assert value(found, "mobula_workers", State="leased") == 2
    assert value(found, "mobula_leases", State="running") == 2
    assert value(found, "mobula_drivers") == 1
    assert value(found, "mobula_resources_total", Resource="CPU") == 2
    assert value(found, "mobula_resources_available", Resource="CPU") == 0
    assert value(found, "mobula_object_store_capacity_bytes") > 2**20
    assert value(found, "mobula_uplink_records_total") > 0
    for component in ("daemon", "driver", "worker"):
        assert value(found, "mobula_process_memory_bytes", Component=component) > 100_000
        assert value(found, "mobula_process_cpu_seconds_total", Component=component) >= 0
    Path(gate).touch()
    ray.get([*runs, last])
    leftovers.wait_until(lambda: value(samples(), "mobula_tasks") == 0, "all tasks have ended")
    kept = ray.put(b"x" * 2**20)
    assert value(samples(), "mobula_object_store_used_bytes") >= 2**20
    del kept


def test_it_is_plain_text_of_the_right_version(session: None) -> None:
    text, headers = fetch()
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(headers["Content-Length"]) == len(text.encode())
    assert text.endswith("\n")


def test_only_this_machine_is_answered(session: None) -> None:
    def status(path: str = "/metrics", **headers: str) -> int:
        try:
            fetch(path, **headers)
            return 200
        except urllib.error.HTTPError as error:
            return error.code

    assert status() == 200
    assert status(Host=f"localhost:{port()}") == 200
    assert status(Host="evil.example") == 403
    assert status("/") == 404
    with socket.socket() as outside:
        outside.settimeout(5)
        addresses = socket.gethostbyname_ex(socket.gethostname())[2]
        for address in addresses:
            if not address.startswith("127."):
                assert outside.connect_ex((address, port())) != 0


def test_nonsense_and_silence_disturb_nobody(session: None) -> None:
    silent = [socket.create_connection(("127.0.0.1", port())) for _ in range(8)]
    for nonsense in (b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000):
        with socket.create_connection(("127.0.0.1", port())) as peer:
            peer.settimeout(20)
            try:
                peer.sendall(nonsense)
                answer = peer.recv(100)
            except OSError:
                continue
            assert b" 400 " in answer or answer == b""
    assert "mobula_tasks" in fetch()[0]
    for peer in silent:
        peer.close()
    assert ray.get(ray.remote(lambda: 1).remote()) == 1


def test_counters_gauges_and_histograms_of_a_driver(session: None) -> None:
    counter = Counter("driver_requests", description="What\ncame \\ in.", tag_keys=("route", "how"))
    counter.set_default_tags({"how": "get"})
    counter.inc(tags={"route": '/"quoted"'})
    counter.inc(2.5, tags={"route": "/b", "how": "put"})
    gauge = Gauge("driver_level", description="How high.", tag_keys=())
    gauge.set(7)
    gauge.set(-3.5)
    gauge.set(None)
    histogram = Histogram("driver_seconds", "How long.", boundaries=[0.1, 1, 10], tag_keys=("of",))
    for seconds in (0.05, 0.1, 0.5, 5, 50):
        histogram.observe(seconds, tags={"of": "x"})
    found = samples()
    assert value(found, "ray_driver_requests_total", route='/"quoted"', how="get") == 1
    assert value(found, "ray_driver_requests_total", route="/b", how="put") == 2.5
    assert value(found, "ray_driver_level") == -3.5
    buckets = {labels["le"]: count for labels, count in found["ray_driver_seconds_bucket"]}
    assert buckets == {"0.1": 2, "1": 3, "10": 4, "+Inf": 5}
    assert value(found, "ray_driver_seconds_count") == 5
    assert math.isclose(value(found, "ray_driver_seconds_sum"), 55.65)
    text, _ = fetch()
    assert "# HELP ray_driver_requests_total What\\ncame \\\\ in." in text
    assert "# TYPE ray_driver_seconds histogram" in text


def test_tasks_count_together_and_the_dead_still_count(session: None) -> None:
    @ray.remote(max_retries=0)
    def count(by: int, then: str) -> int:
        metric = Counter("task_counter", tag_keys=("where",))
        metric.inc(by, tags={"where": "here"})
        Gauge("task_gauge").set(by)
        Histogram("task_histogram", boundaries=[10, 100]).observe(by)
        if then == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    ray.get([count.remote(1, "live") for _ in range(50)])
    for _ in range(3):
        with pytest.raises(exceptions.WorkerCrashedError):
            ray.get(count.remote(1000, "die"))
    found = samples()
    assert value(found, "ray_task_counter_total", where="here") == 3050
    assert value(found, "ray_task_histogram_count") == 53
    assert value(found, "ray_task_histogram_bucket", le="10") == 50
    pids = {labels.get("WorkerId") for labels, _ in found["ray_task_gauge"]}
    assert len(pids) == len(found["ray_task_gauge"])


def test_what_is_recorded_before_init_is_shown_after_it(no_session: None) -> None:
    early = Counter("early_counter")
    early.inc(3)
    early.inc(4)
    gauge = Gauge("early_gauge", tag_keys=("k",))
    gauge.set(1, tags={"k": "v"})
    gauge.set(2, tags={"k": "v"})
    conftest.start(num_cpus=1)
    found = samples()
    assert value(found, "ray_early_counter_total") == 7
    assert value(found, "ray_early_gauge", k="v") == 2
    early.inc()
    assert value(samples(), "ray_early_counter_total") == 8
    ray.shutdown()
    conftest.start(num_cpus=1)  # Another session begins at nothing.
    early.inc()
    assert value(samples(), "ray_early_counter_total") == 1


def test_too_many_series_are_dropped_and_counted(session: None) -> None:
    counter = Counter("many", tag_keys=("k",))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(2000):
            counter.inc(tags={"k": f"{i:0900}"})
    assert any("no room" in str(warning.message) for warning in caught)
    found = samples()
    assert 0 < len(found["ray_many_total"]) < 2000
    dropped = value(found, "mobula_metric_series_dropped")
    assert dropped == 2000 - len(found["ray_many_total"])


def test_wrong_metrics_are_refused() -> None:
    counter = Counter("valid", tag_keys=("a", "b"))
    with pytest.raises(ValueError, match="Empty name"):
        Counter("")
    with pytest.warns(UserWarning, match="Invalid metric name"):
        Counter("a b-c").inc()
    with pytest.warns(UserWarning, match="Invalid metric name"):
        Counter("1a")
    with pytest.raises(TypeError):
        Counter("x", tag_keys="a")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Counter("x", tag_keys=("a", 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zz"):
        counter.set_default_tags({"zz": "1"})
    with pytest.raises(TypeError):
        counter.set_default_tags({"a": 1})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"Missing value for tag key\(s\): a,b"):
        counter.inc()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="value must be >0"):
            counter.inc(wrong, tags={"a": "1", "b": "2"})
    with pytest.raises(TypeError, match="int or float"):
        counter.inc("x", tags={"a": "1", "b": "2"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Tag values must be str"):
        counter.inc(1, tags={"a": 1, "b": "2"})  # type: ignore[dict-item]
    for boundaries in (None, []):
        with pytest.raises(ValueError, match="boundaries"):
            Histogram("h", boundaries=boundaries)
    for boundaries in ([0, 1], [-1.0, 2.0]):
        with pytest.raises(ValueError, match="index 0"):
            Histogram("h", boundaries=boundaries)
    with pytest.raises(TypeError):
        Gauge("g").set("high")  # type: ignore[arg-type]


def test_a_metric_can_be_sent_along() -> None:
    counter = Counter("sent", description="d", tag_keys=("a",))
    assert pickle.loads(pickle.dumps(counter)).info == counter.info
    histogram = Histogram("sent_h", boundaries=[1.0, 2.0])
    assert pickle.loads(pickle.dumps(histogram)).info == histogram.info


def test_the_port_can_be_chosen(no_session: None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    context = conftest.start(num_cpus=1, _metrics_export_port=number)
    assert port() == number == context.address_info["metrics_export_port"]
    directory = Path(context.address_info["session_dir"])
    targets = json.loads((directory / "prom_metrics_service_discovery.json").read_text())
    assert targets[0]["targets"] == [f"127.0.0.1:{number}"]
    assert samples()


def test_a_port_that_is_taken_is_named(no_session: None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(ConnectionError, match=str(number)):
            conftest.start(num_cpus=1, _metrics_export_port=number)


def test_there_need_not_be_a_page(no_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBULA_METRICS_EXPORT_PORT", "-1")
    conftest.start(num_cpus=1)
    assert port() == -1
    Counter("unseen").inc()
    ray.shutdown()
    for wrong in ("x", "70000", "-2"):
        monkeypatch.setenv("MOBULA_METRICS_EXPORT_PORT", wrong)
        with pytest.raises(ValueError):
            conftest.start(num_cpus=1)


def test_tasks_can_use_metrics_of_their_driver(
    run_script: Callable[..., Any],
) -> None:
    text = """
import mobula as ray
from mobula.util.metrics import Counter
import urllib.request
seen = Counter("seen", description="Items.", tag_keys=("kind",))

@ray.remote
def work(i):
    seen.inc(tags={"kind": "even" if i % 2 == 0 else "odd"})

ray.init(num_cpus=2)
ray.get([work.remote(i) for i in range(101)])
port = ray.nodes()[0]["MetricsExportPort"]
page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
lines = [line for line in page.splitlines() if line.startswith("ray_seen_total")]
print(sum(float(line.split()[-1]) for line in lines if 'kind="even"' in line))
print(sum(float(line.split()[-1]) for line in lines if 'kind="odd"' in line))
"""
    assert run_script(text).stdout.split() == ["51.0", "50.0"]
