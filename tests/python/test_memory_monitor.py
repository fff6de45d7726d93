"""A worker that takes too much memory is killed before the machine has none left.

The limit is one of the session's own, so that no other process of the machine is in danger. This
process counts as its driver: whatever it holds before the test is added to what the tests need. What
the tasks take leaves 100 MiB for what it gives back or takes meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import leftovers
import mobula as ray
import pytest
from mobula import exceptions

pytestmark = pytest.mark.mobula_only

_NEEDED = 400 << 20


def _limit() -> int:
    """Bytes for the whole session."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return _NEEDED + (int(line.split()[1]) << 10)
    raise AssertionError("the kernel does not say how much this process holds")


@pytest.fixture
def session(no_session: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Its limit in bytes."""
    limit = _limit()
    monkeypatch.setenv("MOBULA_MEMORY_LIMIT_BYTES", str(limit))
    monkeypatch.setenv("MOBULA_MEMORY_MONITOR_REFRESH_MS", "50")
    ray.init(num_cpus=2, object_store_memory=128 << 20)
    return limit


def take_memory(megabytes: int, goal: Path | None = None) -> int:
    """Holds so much until `goal` exists, or killed."""
    held = []
    for _ in range(megabytes):
        held.append(bytearray(b"x" * (1 << 20)))
        time.sleep(0.001)
    while goal is not None and not goal.exists():
        time.sleep(0.01)
    return len(held)


def test_a_task_that_takes_all_memory_fails_with_who_used_what(session: int) -> None:
    too_much = ray.remote(take_memory)
    with pytest.raises(exceptions.OutOfMemoryError) as info:
        ray.get(too_much.remote(2000), timeout=60)
    text = str(info.value)
    assert "memory ran out" in text
    assert _of(session) in text
    assert "(killed)" in text
    assert "driver of job 1" in text
    assert "only one at work" in text


def test_a_task_without_retries_is_not_tried_again(session: int, tmp_path: Path) -> None:
    @ray.remote(max_retries=0)
    def once(folder: Path) -> int:
        with open(folder / "runs", "a") as file:
            file.write("x")
        return take_memory(2000)

    with pytest.raises(exceptions.OutOfMemoryError):
        ray.get(once.remote(tmp_path), timeout=60)
    assert (tmp_path / "runs").read_text() == "x"


def test_the_newest_is_killed_and_tried_again_when_there_is_memory(
    session: int, tmp_path: Path
) -> None:
    goal = tmp_path / "go on"

    @ray.remote
    def old(goal: Path, started: Path) -> int:
        started.touch()
        return take_memory(150, goal)

    @ray.remote
    def new(goal: Path, folder: Path) -> int:
        with open(folder / "runs", "a") as file:
            file.write("x")
            first = file.tell() == 1
        if first:
            goal_soon = folder / "never"
            return take_memory(400, goal_soon)
        goal.touch()
        return take_memory(10)

    first = old.remote(goal, tmp_path / "started")
    _wait_for(lambda: (tmp_path / "started").exists())
    second = new.remote(goal, tmp_path)
    assert ray.get([first, second], timeout=90) == [150, 10]
    assert (tmp_path / "runs").read_text() == "xx"


def test_who_declared_less_than_it_takes_goes_first(session: int, tmp_path: Path) -> None:
    goal = tmp_path / "go on"

    @ray.remote(memory=50 << 20)
    def liar(goal: Path, started: Path) -> int:
        with open(started, "a") as file:
            file.write("x")
            first = file.tell() == 1
        return take_memory(240 if first else 1, goal if first else None)

    @ray.remote(memory=300 << 20)
    def honest(goal: Path) -> int:
        return take_memory(290, goal)

    first = liar.remote(goal, tmp_path / "started")
    _wait_for(lambda: (tmp_path / "started").exists())
    second = honest.remote(goal)
    assert ray.get(first, timeout=60) == 1  # The second time.
    goal.touch()
    assert ray.get(second, timeout=60) == 290
    assert (tmp_path / "started").read_text() == "xx"


def test_it_can_be_turned_off(no_session: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBULA_MEMORY_LIMIT_BYTES", str(_limit()))
    monkeypatch.setenv("MOBULA_MEMORY_MONITOR_REFRESH_MS", "0")
    ray.init(num_cpus=1, object_store_memory=128 << 20)
    assert ray.get(ray.remote(take_memory).remote(450)) == 450


def test_the_kernel_would_take_workers_before_the_daemon(session: int) -> None:
    @ray.remote
    def score() -> int:
        return int(Path("/proc/self/oom_score_adj").read_text())

    assert ray.get(score.remote()) == 1000


def _of(limit: int) -> str:
    mebibytes = limit / (1 << 20)
    size = f"{mebibytes:.1f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.2f} GiB"
    return f"of {size} of this session"


def _wait_for(condition: Callable[[], bool]) -> None:
    import leftovers

    leftovers.wait_until(condition, "the task has started")


# ---- a limit that the kernel enforces ----------------------------------------------------------

_GROUPS = Path("/sys/fs/cgroup")
_GROUP_LIMIT = 600 << 20

IN_A_GROUP = """
import os, sys, time
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
import mobula as ray
from mobula import exceptions

ray.init(num_cpus=1, object_store_memory=80 << 20)

@ray.remote(max_retries=0)
def grow():
    held = []
    for _ in range(2000):
        held.append(bytearray(b"x" * (1 << 20)))
        time.sleep(0.002)

try:
    ray.get(grow.remote(), timeout=90)
except exceptions.OutOfMemoryError as error:
    print("OutOfMemoryError", "cgroup" in str(error))
print(ray.get(ray.remote(lambda: 7).remote()))
ray.shutdown()
"""


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A cgroup of ours with a limit, of either version."""
    is_v1 = (_GROUPS / "memory").is_dir()
    group = (_GROUPS / "memory" if is_v1 else _GROUPS) / f"mobula-test-{os.getpid()}"
    limit = group / ("memory.limit_in_bytes" if is_v1 else "memory.max")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        try:
            limit.write_text(str(_GROUP_LIMIT))
        except OSError as error:
            pytest.skip(f"its memory cannot be limited: {error}")
        yield group
    finally:
        leftovers.wait_until(lambda: (group / "cgroup.procs").read_text() == "", "all have ended")
        group.rmdir()


def test_growth_stops_before_the_kernel_kills(
    memory_group: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    told = run_script(IN_A_GROUP, str(memory_group), timeout=150).stdout.split()
    assert told == ["OutOfMemoryError", "True", "7"], "the monitor was faster, and the node lives"
    for name in ("memory.oom_control", "memory.events"):
        if (memory_group / name).exists():
            counts = dict(line.split() for line in (memory_group / name).read_text().splitlines())
            assert counts.get("oom_kill", "0") == "0", "the kernel did not kill anything"
