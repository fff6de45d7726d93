"""What a worker leaves behind when it dies: its shared objects stay, pending ones are finished."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import numpy as np
import pytest
from mobula import exceptions

pytestmark = pytest.mark.mobula_only


@pytest.fixture
def session(no_session: None) -> None:
    ray.init(num_cpus=4, object_store_memory=128 << 20)


@ray.remote
def wait_for(goal: Path, value: Any) -> Any:
    while not goal.exists():
        pass
    return value


def die(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    leftovers.wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the worker is gone")


def test_ready_objects_outlive_the_worker_that_made_them(session: None) -> None:
    @ray.remote
    def parent() -> tuple[int, list[Any]]:
        small, large = ray.put("small"), ray.put(np.arange(100_000))
        inner = ray.put([small, large])
        return os.getpid(), [small, large, inner]

    pid, refs = ray.get(parent.remote())
    die(pid)
    assert ray.get(refs[0]) == "small"
    assert ray.get(refs[1])[-1] == 99_999
    assert [type(ray.get(ref)) for ref in ray.get(refs[2])] == [str, np.ndarray]


def test_pending_objects_of_a_dead_worker_are_finished(session: None, tmp_path: Path) -> None:
    goal = tmp_path / "go on"

    @ray.remote(num_cpus=0)
    def parent(goal: Path) -> tuple[int, list[Any]]:
        first = wait_for.remote(goal, 1)
        second = wait_for.remote(goal, first)
        return os.getpid(), [first, second]

    pid, refs = ray.get(parent.remote(goal))
    die(pid)
    goal.touch()
    assert ray.get(refs, timeout=60) == [1, 1]


def test_all_returns_of_one_call_are_finished_by_one_run(session: None, tmp_path: Path) -> None:
    goal = tmp_path / "go on"

    @ray.remote(num_returns=2)
    def two(goal: Path) -> Any:
        while not goal.exists():
            pass
        with open(goal, "a") as file:
            file.write("x")
        return np.zeros(50_000), "two"

    @ray.remote(num_cpus=0)
    def parent(goal: Path) -> tuple[int, list[Any]]:
        return os.getpid(), two.remote(goal)

    pid, refs = ray.get(parent.remote(goal))
    die(pid)
    goal.touch()
    large, small = ray.get(refs, timeout=60)
    assert (large.shape, small) == ((50_000,), "two")
    assert goal.read_text() == "x"


def test_a_value_inside_of_the_arguments_is_there_for_the_heir(
    session: None, tmp_path: Path
) -> None:
    goal = tmp_path / "go on"

    @ray.remote
    def read(goal: Path, box: list[Any]) -> int:
        while not goal.exists():
            pass
        return int(ray.get(box[0]).sum())

    @ray.remote(num_cpus=0)
    def parent(goal: Path) -> tuple[int, list[Any]]:
        return os.getpid(), [read.remote(goal, [ray.put(np.ones(50_000))])]

    pid, refs = ray.get(parent.remote(goal))
    die(pid)
    goal.touch()
    assert ray.get(refs, timeout=60) == [50_000]


def test_without_retries_the_death_of_the_owner_is_told(session: None, tmp_path: Path) -> None:
    @ray.remote(num_cpus=0)
    def parent(goal: Path) -> tuple[int, list[Any]]:
        return os.getpid(), [wait_for.options(max_retries=0).remote(goal, 1)]

    pid, refs = ray.get(parent.remote(tmp_path / "never"))
    die(pid)
    with pytest.raises(exceptions.OwnerDiedError, match="SIGKILL"):
        ray.get(refs[0], timeout=60)
