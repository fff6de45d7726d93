"""`priority`: of the tasks of a job that wait, those with the highest run first."""

from __future__ import annotations

import os
import time
from pathlib import Path

import mobula as ray
import pytest

pytestmark = pytest.mark.mobula_only


@ray.remote
def holds(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.005)


@ray.remote
def notes(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(word)


@pytest.fixture
def one_cpu(no_session: None) -> None:
    ray.init(num_cpus=1)


def test_the_highest_goes_first(one_cpu: None, tmp_path: Path) -> None:
    order = str(tmp_path / "order")
    go = tmp_path / "go"
    holder = holds.remote(str(go))
    refs = []
    for word, priority in (("c", -5), ("b", None), ("a", 7), ("b", 0), ("a", 7), ("c", -5)):
        refs.append(notes.options(priority=priority).remote(order, word))
    # The daemon knows what is wanted before the CPU is free.
    ray.get(holds.options(num_cpus=0).remote("/"))
    go.touch()
    ray.get([holder, *refs])
    assert Path(order).read_text() == "aabbcc"


def test_many_that_wait_do_not_hold_up_a_higher_one(one_cpu: None, tmp_path: Path) -> None:
    order = str(tmp_path / "order")

    @ray.remote
    def slow(path: str) -> None:
        time.sleep(0.02)
        with open(path, "a") as file:
            file.write("s")

    many = [slow.remote(order) for _ in range(50)]
    ray.get(many[0])
    ray.get(notes.options(priority=1).remote(order, "!"))
    # Which were running and which pipelined when it came is chance.
    assert Path(order).read_text().index("!") < 25
    ray.get(many)


def test_tasks_inherit_the_priority_of_who_submits_them(one_cpu: None, tmp_path: Path) -> None:
    order = str(tmp_path / "order")
    go = tmp_path / "go"

    @ray.remote
    def parent(path: str, word: str) -> None:
        ray.get(notes.remote(path, word))

    holder = holds.remote(str(go))
    low = [notes.options(priority=3).remote(order, "l") for _ in range(10)]
    high = parent.options(priority=5).remote(order, "h")
    ray.get(holds.options(num_cpus=0).remote("/"))
    go.touch()
    ray.get([holder, high, *low])
    assert Path(order).read_text() == "h" + "l" * 10


def test_lower_ones_run_when_the_higher_are_done(one_cpu: None) -> None:
    @ray.remote
    def one() -> int:
        return 1

    for _ in range(20):
        assert sum(ray.get([one.options(priority=p).remote() for p in range(-3, 4)])) == 7


@pytest.mark.parametrize("value", [1001, -1001, 10**30])
def test_priorities_beyond_the_range_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match="priority"):
        notes.options(priority=value)
    with pytest.raises(TypeError):
        notes.options(priority=0.5)
