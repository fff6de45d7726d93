"""Seeing objects: `list_objects`, `summarize_objects`, `mobula memory`, and figures of the store."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import conftest
import leftovers
import mobula as ray
import numpy as np
import pytest
from mobula.util import state
from mobula.util.state.exception import RayStateApiException

pytestmark = pytest.mark.mobula_only

MIB = 1 << 20


@pytest.fixture
def session(no_session: None) -> Iterator[Any]:
    yield conftest.start(address="local", num_cpus=2, object_store_memory=80 * MIB)


@ray.remote
def hold(value: Any, path: str) -> int:
    """Until the file is there."""
    import time

    while not os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


@ray.remote
def make(size: int) -> Any:
    return np.zeros(size, dtype="u1")


@ray.remote
class Keeper:
    def keep(self, value: Any) -> int:
        self.value = value
        return os.getpid()


def views_of(ref: Any) -> dict[int, state.common.ObjectState]:
    """The object as each process sees it, by pid."""
    return {row.pid: row for row in state.get_objects(ref)}


def mine(ref: Any) -> state.common.ObjectState:
    return views_of(ref)[os.getpid()]


def array(size: int) -> np.ndarray[Any, Any]:
    return np.ones(size, dtype="u1")


def test_a_small_private_object_is_listed_by_its_process_alone(session: Any) -> None:
    ref = ray.put(b"x" * 1000)
    (row,) = state.get_objects(ref)
    assert (row.pid, row.type, row.where) == (os.getpid(), "DRIVER", "process")
    assert (row.reference_type, row.task_status) == ("LOCAL_REFERENCE", "NIL")
    assert 1000 <= row.object_size < 1200
    assert row.references == {"refs": 1, "tasks": 0, "values": 0, "views": 0}
    assert row.held_by == [f"pid {os.getpid()}"]
    assert row.call_site == "disabled"


def test_a_value_that_is_looked_at_is_pinned(session: Any) -> None:
    ref = ray.put(array(MIB))
    assert (mine(ref).reference_type, mine(ref).where) == ("LOCAL_REFERENCE", "memory")
    view = ray.get(ref)
    assert mine(ref).reference_type == "PINNED_IN_MEMORY"
    assert mine(ref).created_ms is not None
    del view
    gc.collect()
    assert mine(ref).reference_type == "LOCAL_REFERENCE"


def test_an_argument_of_a_task_that_has_not_ended_is_used_by_it(
    session: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    ref = ray.put(array(MIB))
    result = hold.remote([ref], str(gate))
    assert mine(ref).reference_type == "USED_BY_PENDING_TASK"
    leftovers.wait_until(lambda: len(views_of(ref)) == 2, "the worker has it, too")
    other = next(row for pid, row in views_of(ref).items() if pid != os.getpid())
    assert (other.type, other.object_size) == ("WORKER", mine(ref).object_size)
    pending = mine(result)
    assert (pending.object_size, pending.where) == (-1, "pending")
    assert pending.task_status == "RUNNING"
    gate.touch()
    assert ray.get(result) == other.pid
    assert mine(result).task_status == "FINISHED"
    leftovers.wait_until(lambda: mine(ref).reference_type == "LOCAL_REFERENCE", "the task is over")


def test_a_ref_inside_of_a_value_is_captured(session: Any) -> None:
    inner = ray.put(b"inner")
    text = inner.hex()
    outer = ray.put([inner])
    assert mine(inner).references == {"refs": 1, "tasks": 0, "values": 1, "views": 0}
    del inner
    (row,) = state.get_objects(text)
    assert row.reference_type == "CAPTURED_IN_OBJECT"
    del outer
    leftovers.wait_until(lambda: state.get_objects(text) == [], "nobody has it")


def test_an_actor_that_keeps_a_ref_is_named_as_holder(session: Any) -> None:
    keeper = Keeper.remote()
    ref = ray.put(array(MIB))
    pid = ray.get(keeper.keep.remote([ref]))
    leftovers.wait_until(lambda: set(views_of(ref)) == {os.getpid(), pid}, "both have it")
    leftovers.wait_until(
        lambda: set(mine(ref).held_by or []) == {f"pid {os.getpid()}", f"pid {pid}"}, "both hold it"
    )
    handles = [row for row in state.list_objects() if row.reference_type == "ACTOR_HANDLE"]
    assert os.getpid() in {row.pid for row in handles}


def test_what_only_another_value_holds_is_the_nodes(session: Any) -> None:
    @ray.remote(max_calls=1)
    def nested() -> Any:
        return [ray.put(array(MIB))]

    outer = nested.remote()
    ray.wait([outer])
    whole = ray.put([outer])  # Shared when the actor gets it; then we drop what we know.
    keeper = Keeper.remote()
    ray.get(keeper.keep.remote([whole]))
    del outer, whole

    def kinds() -> set[tuple[str, str]]:
        rows = state.list_objects(detail=True)
        return {(row.type, row.reference_type) for row in rows if row.object_size >= MIB}

    leftovers.wait_until(lambda: kinds() == {("NODE", "CAPTURED_IN_OBJECT")}, "nobody else has it")


def test_spilled_values_say_that_they_are_on_disk(session: Any) -> None:
    refs = [ray.put(array(4 * MIB)) for _ in range(40)]
    rows = [row for row in state.list_objects(detail=True, limit=1000) if row.object_size > MIB]
    assert len(rows) == 40
    places = {row.where for row in rows}
    assert "disk" in places and places & {"memory", "memory+disk"}
    on_disk = state.list_objects(filters=[("where", "=", "disk")], limit=1000)
    assert 10 <= len(on_disk) < 40
    del refs


def test_the_largest_come_first_and_filters_and_limits_count(session: Any) -> None:
    refs = [ray.put(b"x" * size) for size in (10, 1000, 100)]
    sizes = [row.object_size for row in state.list_objects()]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 3
    assert len(state.list_objects(limit=2)) == 2
    one = state.list_objects(filters=[("object_id", "=", refs[0].hex())])
    assert [row.object_id for row in one] == [refs[0].hex()]
    assert state.list_objects(filters=[("pid", "!=", os.getpid())]) == []
    with pytest.raises(RayStateApiException, match="filter column"):
        state.list_objects(filters=[("colour", "=", "red")])


def test_fields_are_those_of_ray(session: Any) -> None:
    ref = ray.put(1)
    (row,) = state.list_objects()
    assert row.base_columns() == {
        "object_id", "object_size", "task_status", "attempt_number", "reference_type", "call_site",
        "type", "pid", "ip",
    }  # fmt: skip
    assert row.object_id == ref.hex()
    assert row.where is None, "of detail"


def test_dropped_objects_are_not_listed(session: Any) -> None:
    ref = ray.put(array(MIB))
    result = make.remote(MIB)
    ray.wait([result])
    del ref, result
    leftovers.wait_until(lambda: state.list_objects() == [], "they are gone")


def test_a_stopped_process_is_named(session: Any, tmp_path: Path) -> None:
    import signal

    keeper = Keeper.remote()
    ref = ray.put(array(MIB))
    pid = ray.get(keeper.keep.remote([ref]))
    leftovers.wait_until(lambda: pid in views_of(ref), "the actor has it")
    leftovers.stop_process(pid)
    try:
        with pytest.raises(RayStateApiException, match=f"process {pid}"):
            state.list_objects()
        with pytest.warns(UserWarning, match=f"process {pid}"):
            rows = state.list_objects(raise_on_missing_output=False, detail=True)
        unknown = [row for row in rows if row.pid == pid and row.object_id == ref.hex()]
        assert [row.reference_type for row in unknown] == ["UNKNOWN_STATUS"], "the node says so"
    finally:
        os.kill(pid, signal.SIGCONT)


def test_many_objects_are_counted_and_the_largest_listed(session: Any) -> None:
    refs = [ray.put(index) for index in range(30_000)]
    large = ray.put(b"x" * 5000)
    rows = state.list_objects(limit=10_000)
    assert len(rows) == 10_000
    assert rows[0].object_id == large.hex()
    del refs


def test_a_summary_counts_by_kind(session: Any) -> None:
    refs = [ray.put(array(MIB)) for _ in range(3)]
    view = ray.get(refs[0])
    told = state.summarize_objects()["cluster"]
    assert (told["total_objects"], told["callsite_enabled"]) == (3, False)
    assert told["total_size_mb"] == pytest.approx(3, abs=0.01)
    group = told["summary"]["disabled"]
    assert group["ref_type_counts"] == {"PINNED_IN_MEMORY": 1, "LOCAL_REFERENCE": 2}
    assert (group["total_objects"], group["total_num_workers"], group["total_num_nodes"]) == (
        3,
        1,
        1,
    )
    del view


# ---- call sites -------------------------------------------------------------------------------

SITES = """
import json, os, sys
import mobula as ray
import numpy as np
from mobula.util import state

ray.init(num_cpus=1, object_store_memory=80 << 20)

@ray.remote
def inner(values):
    return ray.put(b"in a task"), values.size

def helper():
    return ray.put(b"in a function")  # LINE put

made = helper()
nested, size = ray.get(inner.remote(np.zeros(1 << 20, dtype="u1")))  # LINE call
big = inner.remote(np.zeros(1 << 20, dtype="u1"))  # LINE big
while True:  # Until the daemon has heard of what the worker made.
    rows = state.list_objects(detail=True)
    if any(row.object_id == nested.hex() and row.created_ms for row in rows):
        break
print(json.dumps([[row.object_id, row.call_site, row.created_ms] for row in rows]))
print(made.hex(), nested.hex(), big.hex())
print(json.dumps([made.call_site(), big.call_site()]))
print(json.dumps(state.summarize_objects()))
"""


def test_call_sites_name_the_lines_that_made_objects(
    no_session: None,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MOBULA_RECORD_CALL_SITE", "1")
    lines = SITES.splitlines()
    at = {mark: next(i for i, line in enumerate(lines, 1) if line.endswith(f"# LINE {mark}"))
          for mark in ("put", "call", "big")}  # fmt: skip
    rows_text, ids, own_sites, summary_text = run_script(SITES).stdout.splitlines()
    sites = {row[0]: row[1] for row in json.loads(rows_text)}
    made, nested, big = ids.split()
    times = {row[0]: row[2] for row in json.loads(rows_text)}
    assert None not in (times[made], times[nested], times[big]), "when each was made"
    assert json.loads(own_sites) == [sites[made], sites[big]]
    assert sites[made].startswith("(put object) | ")
    assert f"script0.py:helper:{at['put']} | " in sites[made]
    assert "script0.py:<module>:" in sites[made]
    assert sites[big].startswith("(task call) | ") and f":<module>:{at['big']}" in sites[big]
    assert "/mobula/" not in sites[big], "our own frames are left out"
    assert "script0.py:inner:" in sites[nested], "also when its maker has let it go"
    summary = json.loads(summary_text)["cluster"]
    assert summary["callsite_enabled"] is True
    assert sites[made] in summary["summary"]


# ---- on the command line, and for Prometheus ---------------------------------------------------


@pytest.fixture
def mobula(session: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "mobula", *words],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "MOBULA_ADDRESS": session.address_info["session_dir"]},
        )
        assert result.returncode == status, result.stdout + result.stderr
        return result

    return run


Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_memory_shows_each_object_and_how_full_the_store_is(mobula: Command) -> None:
    ref = ray.put(array(2 * MIB))
    view = ray.get(ref)
    small = ray.put(b"small")
    text = mobula("memory").stdout
    line = next(line for line in text.splitlines() if line.startswith(ref.hex()))
    for word in ("2.0 MiB", "memory", "PINNED_IN_MEMORY", str(os.getpid()), "DRIVER"):
        assert word in line
    assert "LOCAL_REFERENCE" in next(x for x in text.splitlines() if x.startswith(small.hex()))
    assert "of 80.0 MiB" in text and "MOBULA_RECORD_CALL_SITE=1" in text
    assert "2 objects, 2.0 MiB" in text
    del view


def test_memory_groups_sorts_cuts_and_filters(mobula: Command) -> None:
    refs = [ray.put(array(size)) for size in (MIB, 3 * MIB, 2 * MIB)]
    told = json.loads(mobula("memory", "--json").stdout)
    assert len(json.loads(mobula("memory", "--json", "-n", "1").stdout)["objects"]) == 1
    assert [row["object_size"] // MIB for row in told["objects"]] == [3, 2, 1]
    assert told["store"]["capacity_bytes"] == 80 * MIB
    by_age = mobula("memory", "--sort-by", "age", "--group-by", "pid", "-n", "1").stdout
    assert f"Process {os.getpid()} (driver)" in by_age and "... and 2 more" in by_age
    assert refs[0].hex() in by_age and refs[1].hex() not in by_age
    only = mobula("memory", "-f", f"object_id={refs[2].hex()}", "--units", "MB").stdout
    assert "2.0 MB" in only and refs[0].hex() not in only
    assert "No objects." in mobula("memory", "-f", "where=disk").stdout
    stats = mobula("memory", "--stats-only").stdout
    assert "of 80.0 MiB" in stats and refs[0].hex() not in stats
    for bad in (("--filter", "colour=red"), ("--filter", "x"), ("-n", "-1")):
        assert "mobula memory: " in mobula("memory", *bad, status=1).stderr


def test_objects_are_a_kind_like_others(mobula: Command) -> None:
    ref = ray.put(array(MIB))
    (row,) = json.loads(mobula("list", "objects", "--format", "json").stdout)
    assert row["object_id"] == ref.hex() and row["reference_type"] == "LOCAL_REFERENCE"
    assert "held_by: " in mobula("get", "objects", ref.hex()).stdout
    assert "1 LOCAL_REFERENCE" in mobula("summary", "objects").stdout


def test_status_and_prometheus_tell_of_the_store(mobula: Command) -> None:
    refs = [ray.put(array(4 * MIB)) for _ in range(40)]
    assert (ray.get(refs[0]) == array(4 * MIB)).all()
    assert " read back" in mobula("status").stdout
    url = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        page = answer.read().decode()
    values = dict(
        line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("mobula_object_store")
    )
    assert float(values["mobula_object_store_values"]) > 10
    assert float(values["mobula_object_store_spilled_bytes_total"]) >= 40 * MIB
    assert float(values["mobula_object_store_restored_bytes_total"]) >= 4 * MIB
    assert float(values["mobula_object_store_disk_files"]) >= 1
    assert float(values["mobula_object_store_cannot_spill"]) == 0
    assert float(values["mobula_object_store_values_bytes"]) <= 80 * MIB
