"""A child that a task forks ends when it comes to the end of the task's function, and sends nothing."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import mobula as ray
import pytest
from conftest import start

pytestmark = pytest.mark.mobula_only

RunScript = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    ray.shutdown()
    start(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def returns() -> Any:
    child = os.fork()
    if child == 0:
        return "child"
    return "parent", status_of(child)


def returns_what_cannot_be_pickled() -> Any:
    child = os.fork()
    return threading.Lock() if child == 0 else ("parent", status_of(child))


def raises() -> Any:
    child = os.fork()
    if child == 0:
        raise ValueError("in the child")
    return "parent", status_of(child)


def exits() -> Any:
    child = os.fork()
    if child == 0:
        sys.exit(7)
    return "parent", status_of(child)


def exits_with_words() -> Any:
    child = os.fork()
    if child == 0:
        sys.exit("words")
    return "parent", status_of(child)


def is_interrupted() -> Any:
    child = os.fork()
    if child == 0:
        raise KeyboardInterrupt
    return "parent", status_of(child)


def forks_twice() -> Any:
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        return "grandchild" if grandchild == 0 else status_of(grandchild)
    return "parent", status_of(child)


def forks_in_a_thread() -> Any:
    found: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child != 0:
            found.append(status_of(child))

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    return "parent", found[0]


def uses_a_ref_first() -> Any:
    ref = ray.put(1)
    child = os.fork()
    if child == 0:
        try:
            ray.get(ref)
        except RuntimeError:
            return "refused"
        os._exit(9)
    return "parent", status_of(child)


def prints_in_the_child() -> Any:
    sys.stdout.write("of the parent ")
    child = os.fork()
    if child == 0:
        sys.stdout.write("of the child")
        return None
    return "parent", status_of(child)


@pytest.mark.parametrize(
    ("function", "status"),
    [
        (returns, 0),
        (returns_what_cannot_be_pickled, 0),
        (raises, 1),
        (exits, 7),
        (exits_with_words, 1),
        (is_interrupted, 1),
        (forks_twice, 0),
        (forks_in_a_thread, 0),
        (uses_a_ref_first, 0),
        (prints_in_the_child, 0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("where", ["task", "actor", "threads", "event loop"])
def test_the_child_ends_quietly(where: str, function: Callable[[], Any], status: int) -> None:
    if where == "task":
        run = ray.remote(max_retries=0)(function)
        assert ray.get(run.remote(), timeout=60) == ("parent", status)
        assert ray.get(run.remote(), timeout=60) == ("parent", status)
        return

    class Runs:
        def run(self, function: Callable[[], Any]) -> Any:
            return function()

    class Awaits:
        async def run(self, function: Callable[[], Any]) -> Any:
            await asyncio.sleep(0)
            return function()

    kind = ray.remote(Awaits if where == "event loop" else Runs)
    actor = kind.options(max_concurrency=3 if where != "actor" else None).remote()
    assert ray.get(actor.run.remote(function), timeout=60) == ("parent", status)
    assert ray.get(actor.run.remote(function), timeout=60) == ("parent", status)
    ray.kill(actor)


def test_a_constructor_may_fork() -> None:
    @ray.remote
    class Forks:
        def __init__(self, fails: bool) -> None:
            child = os.fork()
            if child == 0:
                if fails:
                    raise ValueError("in the child")
                return
            self.status = status_of(child)

        def found(self) -> int:
            return self.status

    for fails, status in ((False, 0), (True, 1)):
        actor = Forks.remote(fails)
        assert ray.get(actor.found.remote(), timeout=60) == status
        ray.kill(actor)


@pytest.mark.parametrize("num_returns", ["streaming", 3])
def test_a_generator_may_fork(num_returns: Any) -> None:
    @ray.remote(num_returns=num_returns, max_retries=0)
    def items() -> Iterator[Any]:
        yield 1
        child = os.fork()
        yield "child" if child == 0 else status_of(child)
        yield 3

    assert [ray.get(ref, timeout=60) for ref in items.remote()] == [1, 0, 3]


def double(x: int) -> int:
    return 2 * x


def test_multiprocessing_forks_as_ever() -> None:
    @ray.remote
    def pools() -> list[Any]:
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            first = pool.map(double, range(5))
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            second = list(executor.map(double, range(5)))
        process = context.Process(target=sys.exit, args=(3,))
        process.start()
        process.join()
        return [first, second, process.exitcode]

    assert ray.get(pools.remote(), timeout=60) == [[0, 2, 4, 6, 8], [0, 2, 4, 6, 8], 3]


def test_a_child_that_outlives_its_task_sends_nothing() -> None:
    @ray.remote(max_retries=0)
    def forks() -> Any:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reading, 1)
            return "child"
        return child, writing

    @ray.remote
    def ends(child: int, writing: int) -> int:
        os.write(writing, b"x")
        return status_of(child)

    @ray.remote
    class Same:
        def run(self, function: Any, *args: Any) -> Any:
            return function(*args)

    actor = Same.remote()
    child, writing = ray.get(actor.run.remote(forks._function))
    assert ray.get([actor.run.remote(abs, -i) for i in range(100)]) == list(range(100))
    assert ray.get(actor.run.remote(ends._function, child, writing)) == 0
    ray.kill(actor)


def test_what_the_child_prints_is_seen_once(run_script: RunScript) -> None:
    done = run_script(
        """
import os, sys
import mobula as ray

ray.init(num_cpus=1)

@ray.remote
def forks():
    sys.stdout.write("parent ")
    child = os.fork()
    if child == 0:
        sys.stdout.write("child")
        return
    os.waitpid(child, 0)

@ray.remote
def fails():
    child = os.fork()
    if child == 0:
        raise ValueError("of the child")
    os.waitpid(child, 0)

ray.get([forks.remote(), fails.remote()])
ray.shutdown()
"""
    )
    assert "parent child" in done.stdout
    assert done.stdout.count("parent") == 1
    assert "ValueError: of the child" in done.stderr
    assert "(fails pid=" in done.stderr
