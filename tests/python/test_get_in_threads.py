"""`get` in several threads of a driver at a time, and beside threads that compute."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import mobula as ray
import pytest

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def double(value: int) -> int:
    return 2 * value


@ray.remote
def nothing() -> None:
    pass


def test_many_threads_each_get_their_own_results() -> None:
    def doubles(start: int) -> list[int]:
        return [ray.get(double.remote(i)) for i in range(start, start + 500)]

    starts = range(0, 4000, 500)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(doubles, starts))
    assert found == [[2 * i for i in range(start, start + 500)] for start in starts]


def test_threads_that_get_wait_and_await_do_not_keep_each_other() -> None:
    async def awaits() -> int:
        return sum([await double.remote(i) for i in range(300)])

    def waits() -> int:
        refs = [double.remote(i) for i in range(300)]
        rest = refs
        while rest:
            _, rest = ray.wait(rest)
        return sum(ray.get(refs))

    def gets() -> int:
        return sum(ray.get(double.remote(i)) for i in range(300))

    def futures() -> int:
        return sum(double.remote(i).future().result(60) for i in range(300))

    kinds = [gets, waits, lambda: asyncio.run(awaits()), futures]
    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(kind) for kind in 2 * kinds]
        assert [one.result(120) for one in running] == [300 * 299] * 8


def test_gets_go_on_beside_a_thread_that_computes() -> None:
    done = threading.Event()
    got = []

    def gets() -> None:
        for i in range(300):
            got.append(ray.get(double.remote(i)))
        done.set()

    thread = threading.Thread(target=gets)
    thread.start()
    steps = 0
    while not done.is_set() and steps < 2_000_000_000:
        steps += 1
    assert done.is_set(), f"{len(got)} gets ended while this thread took {steps} steps"
    thread.join()
    assert got == [2 * i for i in range(300)]


def test_a_thread_that_computes_goes_on_beside_gets() -> None:
    stop = threading.Event()

    def gets() -> int:
        count = 0
        while not stop.is_set():
            ray.get(nothing.remote())
            count += 1
        return count

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(gets) for _ in range(4)]
        assert sum(range(5_000_000)) == 12_499_997_500_000
        stop.set()
        assert all(one.result(60) > 0 for one in running)
