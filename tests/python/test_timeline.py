"""The timeline in the Chrome trace format."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import pytest
from mobula import exceptions

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.mobula_only]


def events(kind: str) -> list[dict[str, Any]]:
    trace = ray.timeline()
    assert trace is not None
    return [event for event in trace if event["ph"] == kind]


def events_named(name: str) -> list[dict[str, Any]]:
    return [event for event in events("X") if event["name"] == name]


def test_each_task_is_an_event_of_its_worker() -> None:
    @ray.remote
    def traced(i: int) -> tuple[int, int, int]:
        start = time.monotonic_ns()
        while time.monotonic_ns() < start + 200_000:
            pass
        return os.getpid(), start, time.monotonic_ns()

    results = ray.get([traced.remote(i) for i in range(50)])
    leftovers.wait_until(lambda: len(events_named("traced")) >= 50, "all events")
    found = events_named("traced")
    assert len(found) == 50
    for pid, start, end in results:
        # Its event spans what the task measured of itself.
        around = [
            event
            for event in found
            if event["tid"] == pid
            and event["ts"] * 1000 <= start
            and end <= (event["ts"] + event["dur"]) * 1000 + 1
        ]
        assert len(around) == 1
        assert around[0]["args"]["worker_pid"] == pid
    by_worker: dict[int, list[dict[str, Any]]] = {}
    for event in found:
        by_worker.setdefault(event["tid"], []).append(event)
    for row in by_worker.values():  # A worker runs one task at a time.
        row.sort(key=lambda event: event["ts"])
        for earlier, later in itertools.pairwise(row):
            assert earlier["ts"] + earlier["dur"] <= later["ts"] + 0.001


def test_rows_have_names() -> None:
    @ray.remote
    def named() -> int:
        return os.getpid()

    pid = ray.get(named.remote())
    leftovers.wait_until(lambda: events_named("named"), "the event")
    metadata = events("M")
    rows = {e["tid"]: e["args"]["name"] for e in metadata if e["name"] == "thread_name"}
    assert str(pid) in rows[pid]
    processes = [e for e in metadata if e["name"] == "process_name"]
    assert {e["pid"] for e in events("X")} == {e["pid"] for e in processes}


def test_failed_tasks_are_coloured() -> None:
    @ray.remote
    def failing() -> None:
        raise ValueError

    @ray.remote
    def succeeding() -> None:
        pass

    with pytest.raises(ValueError):
        ray.get(failing.remote())
    ray.get(succeeding.remote())
    leftovers.wait_until(
        lambda: events_named("failing") and events_named("succeeding"), "both events"
    )
    (event,) = events_named("failing")
    assert event["args"]["failed"] is True
    assert event["cname"]
    (event,) = events_named("succeeding")
    assert event["args"]["failed"] is False
    assert "cname" not in event


def test_nested_tasks_and_names_from_options() -> None:
    @ray.remote
    def inner() -> None:
        pass

    @ray.remote
    def outer() -> None:
        ray.get(inner.options(name="inside").remote())

    ray.get(outer.remote())
    leftovers.wait_until(lambda: events_named("inside") and events_named("outer"), "both events")


def test_the_file_is_json_and_complete(tmp_path: Path) -> None:
    ray.get(ray.remote(lambda: 1).remote())
    leftovers.wait_until(lambda: events("X"), "an event")
    file = tmp_path / "trace.json"
    assert ray.timeline(str(file)) is None
    written = json.loads(file.read_text())
    for event in written:
        assert event["ph"] in ("X", "M")
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert event["ts"] > 0
    assert ray.timeline(file) is None


def test_it_needs_a_session() -> None:
    import subprocess
    import sys

    text = "import mobula; mobula.timeline()"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert exceptions.RaySystemError.__name__ in done.stderr
