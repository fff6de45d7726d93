"""Who gets the CPUs: nested tasks, blocked tasks, owners beside each other, limits that hold."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import pytest
from mobula import _core

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("no_session")]

StartScript = Callable[..., "subprocess.Popen[str]"]


def children_of_the_daemon() -> set[int]:
    (node,) = _core.nodes()
    found: set[int] = set()
    for task in Path(f"/proc/{node['pid']}/task").glob("*"):
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def test_a_thousand_tasks_nested_three_deep_need_one_cpu_and_few_processes() -> None:
    ray.init(num_cpus=1)

    @ray.remote
    def leaf(i: int) -> tuple[int, set[int]]:
        return i, {os.getpid()}

    @ray.remote
    def middle(i: int) -> tuple[int, set[int]]:
        value, pids = ray.get(leaf.remote(i))
        return value, pids | {os.getpid()}

    @ray.remote
    def top(i: int) -> tuple[int, set[int]]:
        value, pids = ray.get(middle.remote(i))
        return value, pids | {os.getpid()}

    results = ray.get([top.remote(i) for i in range(1000)])
    assert [value for value, _ in results] == list(range(1000))
    workers = set().union(*(pids for _, pids in results))
    assert len(workers) <= 16
    # One of the children is the zygote.
    assert len(children_of_the_daemon()) - 1 <= 16


@pytest.mark.parametrize("how", ["get", "wait"])
def test_a_blocked_task_lends_its_cpu_and_takes_it_back(how: str, tmp_path: Path) -> None:
    ray.init(num_cpus=1)
    go = str(tmp_path / "go")

    @ray.remote
    def child(path: str) -> int:
        while not os.path.exists(path):
            time.sleep(0.005)
        return 1

    @ray.remote
    def parent(path: str, how: str, done: str) -> int:
        ref = child.remote(path)
        value = ray.get(ref) if how == "get" else len(ray.wait([ref])[0])
        Path(done).touch()
        while not os.path.exists(done + ".seen"):  # Now it works: it has its CPU again.
            time.sleep(0.005)
        return value

    done = str(tmp_path / "done")
    ref = parent.remote(go, how, done)
    leftovers.wait_until(
        lambda: ray.available_resources().get("CPU", 0.0) == 0.0, "the child has the CPU"
    )
    Path(go).touch()
    leftovers.wait_until(lambda: os.path.exists(done), "the parent goes on")
    assert ray.available_resources().get("CPU", 0.0) == 0.0
    Path(done + ".seen").touch()
    assert ray.get(ref) == 1
    leftovers.wait_until(lambda: ray.available_resources().get("CPU") == 1, "all is free")


def test_running_tasks_never_hold_more_than_there_is(tmp_path: Path) -> None:
    """Each running task is a file; whoever starts counts those of others."""
    ray.init(num_cpus=4, resources={"slot": 2})
    folder = str(tmp_path)

    def holding(folder: str, word: str) -> Any:
        """Runs in the task: how many of that kind run, this one included."""
        mine = os.path.join(folder, f"{word}-{os.getpid()}")
        Path(mine).touch()
        try:
            time.sleep(0.002)
            return sum(name.startswith(word) for name in os.listdir(folder))
        finally:
            os.unlink(mine)

    one = ray.remote(holding)
    two = ray.remote(num_cpus=2)(holding)
    half = ray.remote(num_cpus=0.5)(holding)
    slot = ray.remote(num_cpus=0, resources={"slot": 1})(holding)
    refs = {
        "one": ([one.remote(folder, "one") for _ in range(200)], 4),
        "two": ([two.remote(folder, "two") for _ in range(100)], 2),
        "half": ([half.remote(folder, "half") for _ in range(200)], 8),
        "slot": ([slot.remote(folder, "slot") for _ in range(200)], 2),
    }
    for word, (kind, most) in refs.items():
        assert max(ray.get(kind)) <= most, word


def test_no_kind_of_task_starves_another(tmp_path: Path) -> None:
    """Of a queue of each kind, the first is done long before any queue is."""
    ray.init(num_cpus=2, resources={"room": 1})
    order = str(tmp_path / "order")

    def note(path: str, word: str) -> None:
        time.sleep(0.003)
        with open(path, "a") as file:
            file.write(word)

    kinds = {
        "a": ray.remote(note),
        "b": ray.remote(num_cpus=2)(note),
        "c": ray.remote(num_cpus=0.5)(note),
        "d": ray.remote(resources={"room": 1})(note),
    }
    refs = []
    for word, function in kinds.items():
        refs += [function.remote(order, word) for _ in range(150)]
    ray.get(refs)
    text = Path(order).read_text()
    assert len(text) == 600
    for word in kinds:
        assert text.index(word) < 450, text


def test_a_million_queued_tasks_hold_up_nobody_elses_first(start_script: StartScript) -> None:
    """Two drivers of one daemon. What counts is how many tasks of the first one run meanwhile."""
    context = ray.init(num_cpus=1)

    @ray.remote
    def little() -> float:
        time.sleep(0.001)
        return time.monotonic()

    refs = [little.remote() for _ in range(1_000_000)]
    ray.get(refs[:10])
    other = start_script(
        f"""
import time
import mobula as ray
ray.init(address={context.address_info["address"]!r})

@ray.remote
def first():
    return time.monotonic()

asked = time.monotonic()
done = ray.get(first.remote())
print(asked, done)
"""
    )
    out, error = other.communicate(timeout=120)
    assert other.returncode == 0, error
    asked, done = map(float, out.split())
    ready, _ = ray.wait(refs[:200_000], num_returns=200_000, timeout=0)
    between = sum(asked < end < done for end in ray.get(ready))
    # A worker of the other job has to start first, which may take a while on a busy machine.
    assert between < 2000, between
    assert done - asked < 60
