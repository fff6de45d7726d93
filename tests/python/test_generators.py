"""Generator tasks: streams of refs, backpressure, errors in the middle, retries."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import mobula as ray
import numpy as np
import pytest
from leftovers import wait_until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def count(n: int) -> Any:
    yield from range(n)


def test_items_come_in_order() -> None:
    items = count.remote(5)
    assert isinstance(items, ray.ObjectRefGenerator)
    assert [ray.get(ref) for ref in items] == [0, 1, 2, 3, 4]
    with pytest.raises(StopIteration):
        next(items)


def test_an_empty_generator_ends_at_once() -> None:
    assert list(count.remote(0)) == []


def test_items_are_there_before_the_task_ends(tmp_path: Path) -> None:
    @ray.remote
    def hold(path: str) -> Any:
        yield "first"
        while not os.path.exists(path):
            pass
        yield "second"

    items = hold.remote(str(tmp_path / "go"))
    assert ray.get(next(items)) == "first"
    (tmp_path / "go").touch()
    assert ray.get(next(items)) == "second"


def test_large_items_lie_in_the_store() -> None:
    @ray.remote
    def arrays() -> Any:
        for i in range(4):
            yield np.full(200_000, i)

    for i, ref in enumerate(arrays.remote()):
        array = ray.get(ref)
        assert array[0] == i and len(array) == 200_000 and not array.flags.writeable


def test_items_may_hold_refs() -> None:
    @ray.remote
    def nested() -> Any:
        for i in range(3):
            yield [ray.put(i), ray.put(np.zeros(100_000))]

    held = [ray.get(ref) for ref in nested.remote()]
    gc.collect()
    assert [ray.get(small) for small, _ in held] == [0, 1, 2]
    assert all(ray.get(large).shape == (100_000,) for _, large in held)


def test_a_million_small_items() -> None:
    assert sum(ray.get(ref) for ref in count.remote(1_000_000)) == 499_999_500_000


def test_an_error_is_the_last_item() -> None:
    @ray.remote
    def fails() -> Any:
        yield 1
        raise ValueError("no more")

    items = fails.remote()
    assert ray.get(next(items)) == 1
    with pytest.raises(ValueError, match="no more"):
        ray.get(next(items))
    with pytest.raises(StopIteration):
        next(items)
    assert ray.get(items.completed()) is None


def test_an_item_that_cannot_be_sent_is_an_error() -> None:
    @ray.remote
    def bad() -> Any:
        yield 1
        yield (lock for lock in [1])

    items = bad.remote()
    assert ray.get(next(items)) == 1
    with pytest.raises(TypeError):
        ray.get(next(items))


def test_completed_is_ready_at_the_end() -> None:
    items = count.remote(3)
    assert ray.get(items.completed()) is None
    assert [ray.get(ref) for ref in items] == [0, 1, 2]


def test_backpressure_holds_the_task_back(tmp_path: Path) -> None:
    @ray.remote(_generator_backpressure_num_objects=2)
    def writes(path: str) -> Any:
        for i in range(10):
            with open(path, "a") as file:
                file.write("x")
            yield i

    path = tmp_path / "log"
    items = writes.remote(str(path))
    wait_until(lambda: path.exists() and path.stat().st_size == 2, "two items")
    assert ray.wait([count.remote(1)], timeout=10)[1] == []
    assert path.stat().st_size == 2
    assert ray.get(next(items)) == 0
    wait_until(lambda: path.stat().st_size == 3, "a third item")
    assert [ray.get(ref) for ref in items] == list(range(1, 10))


def test_who_waits_for_its_consumer_gives_its_cpus_back() -> None:
    @ray.remote(num_cpus=2, _generator_backpressure_num_objects=1)
    def ahead() -> Any:
        yield from range(3)

    @ray.remote(num_cpus=2)
    def other() -> int:
        return 1

    items = ahead.remote()
    first = next(items)
    assert ray.get(other.remote(), timeout=30) == 1
    assert [ray.get(first), *(ray.get(ref) for ref in items)] == [0, 1, 2]


def test_a_dropped_generator_lets_its_task_run_on(tmp_path: Path) -> None:
    @ray.remote(_generator_backpressure_num_objects=1)
    def writes(path: str) -> Any:
        yield from range(20)
        Path(path).touch()

    items = writes.remote(str(tmp_path / "done"))
    next(items)
    del items
    wait_until((tmp_path / "done").exists, "the task has ended")


def test_a_task_that_is_run_again_sends_no_item_twice(tmp_path: Path) -> None:
    @ray.remote(max_retries=1)
    def dies_once(path: str) -> Any:
        for i in range(10):
            if i == 5 and not os.path.exists(path):
                Path(path).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield i

    items = dies_once.remote(str(tmp_path / "died"))
    assert [ray.get(ref) for ref in items] == list(range(10))
    assert (tmp_path / "died").exists()


def test_a_crash_without_retries_is_the_last_item() -> None:
    @ray.remote(max_retries=0)
    def dies() -> Any:
        yield 1
        os._exit(3)

    items = dies.remote()
    assert ray.get(next(items)) == 1
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(next(items))
    with pytest.raises(StopIteration):
        next(items)


def test_wait_tells_when_the_next_item_is_there(tmp_path: Path) -> None:
    @ray.remote
    def hold(path: str) -> Any:
        while not os.path.exists(path):
            pass
        yield 1

    held = hold.remote(str(tmp_path / "go"))
    quick = count.remote(2)
    ready, rest = ray.wait([held, quick], num_returns=1)
    assert ready == [quick] and rest == [held]
    (tmp_path / "go").touch()
    ready, rest = ray.wait([held], timeout=30)
    assert ready == [held] and rest == []
    assert ray.get(next(held)) == 1


def test_iteration_by_an_event_loop() -> None:
    async def total() -> int:
        return sum([await ref async for ref in count.remote(100)])

    assert asyncio.run(total()) == 4950


def test_num_returns_splits_a_generator() -> None:
    first, second = count.options(num_returns=2).remote(2)
    assert ray.get([first, second]) == [0, 1]


def test_dynamic_gives_what_came_before_an_error_then_the_error() -> None:
    @ray.remote(num_returns="dynamic")
    def breaks_off() -> Any:
        yield 1
        raise KeyError("k")

    first, last = ray.get(breaks_off.remote())
    assert ray.get(first) == 1
    with pytest.raises(KeyError):
        ray.get(last)


def test_dynamic_is_retried_before_its_error_is_the_last_item(tmp_path: Path) -> None:
    @ray.remote(num_returns="dynamic", retry_exceptions=True, max_retries=2)
    def breaks_off(path: str, times: int) -> Any:
        yield 1
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) <= times:
            raise KeyError("k")
        yield 2

    assert [ray.get(ref) for ref in ray.get(breaks_off.remote(str(tmp_path / "a"), 2))] == [1, 2]
    first, last = ray.get(breaks_off.remote(str(tmp_path / "b"), 3))
    assert ray.get(first) == 1
    with pytest.raises(KeyError):
        ray.get(last)


@pytest.mark.mobula_only
def test_a_retried_generator_in_a_worker_that_ends_goes_on(tmp_path: Path) -> None:
    @ray.remote(retry_exceptions=True, max_retries=2, max_calls=1)
    def breaks_off(path: str) -> Any:
        yield 1
        if not os.path.exists(path):
            Path(path).touch()
            raise KeyError("k")
        yield 2

    assert [ray.get(ref) for ref in breaks_off.remote(str(tmp_path / "a"))] == [1, 2]


def test_dynamic_returns_its_refs_together() -> None:
    ref = count.options(num_returns="dynamic").remote(4)
    refs = ray.get(ref)
    assert isinstance(refs, ray.DynamicObjectRefGenerator)
    assert [ray.get(item) for item in refs] == [0, 1, 2, 3]


def test_it_cannot_be_sent_away() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(count.remote(1))


def test_get_leaves_it_as_it_is() -> None:
    items = count.remote(1)
    assert ray.get(items) is items
    with pytest.raises(TypeError):
        ray.get([items])


def test_returns_before_an_error_are_good() -> None:
    @ray.remote(num_returns=3)
    def fails() -> Any:
        yield 1
        raise KeyError("k")

    first, second, third = fails.remote()
    assert ray.get(first) == 1
    for ref in (second, third):
        with pytest.raises(KeyError):
            ray.get(ref)


def test_too_few_items_fail_the_rest() -> None:
    first, second, third = count.options(num_returns=3).remote(2)
    assert ray.get([first, second]) == [0, 1]
    with pytest.raises(ValueError, match="num_returns=3"):
        ray.get(third)


def test_an_argument_that_failed_is_the_only_item() -> None:
    @ray.remote
    def raises() -> None:
        raise KeyError("k")

    items = count.remote(raises.remote())
    with pytest.raises(KeyError):
        ray.get(next(items))
    with pytest.raises(StopIteration):
        next(items)


@pytest.mark.parametrize("mode", ["streaming", "dynamic"])
def test_what_does_not_yield_is_no_stream(mode: str) -> None:
    with pytest.raises(ValueError):
        ray.remote(num_returns=mode)(lambda: 1).remote()


def test_retried_exceptions_leave_out_what_was_sent(tmp_path: Path) -> None:
    @ray.remote(retry_exceptions=[ValueError], max_retries=2)
    def fails_once(path: str) -> Any:
        yield 1
        if not os.path.exists(path):
            Path(path).touch()
            raise ValueError("first")
        yield 2

    assert [ray.get(ref) for ref in fails_once.remote(str(tmp_path / "failed"))] == [1, 2]
