"""mobula.util.queue.Queue: a queue that processes share."""

from __future__ import annotations

import asyncio
import queue as standard
from collections.abc import Iterator
from typing import Any

import mobula as ray
import pytest
from mobula.util.queue import Empty, Full, Queue

pytestmark = pytest.mark.usefixtures("shared_session")


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue(maxsize=3, actor_options={"num_cpus": 0})
    yield made
    made.shutdown(force=True)


def test_first_in_first_out(queue: Queue) -> None:
    assert queue.empty() and len(queue) == 0
    for i in range(3):
        queue.put(i)
    assert queue.full() and queue.qsize() == queue.size() == 3
    assert [queue.get() for _ in range(3)] == [0, 1, 2]


def test_a_full_or_empty_queue_says_so_with_the_standard_errors(queue: Queue) -> None:
    assert issubclass(Full, standard.Full) and issubclass(Empty, standard.Empty)
    for call in (
        lambda: queue.get(block=False),
        lambda: queue.get(timeout=0.01),
        lambda: queue.get_nowait(),
        lambda: queue.get_nowait_batch(1),
    ):
        with pytest.raises(Empty):
            call()
    queue.put_nowait_batch([1, 2, 3])
    for call in (
        lambda: queue.put(4, block=False),
        lambda: queue.put(4, timeout=0.01),
        lambda: queue.put_nowait(4),
        lambda: queue.put_nowait_batch([4]),
    ):
        with pytest.raises(Full):
            call()
    assert queue.get_nowait_batch(3) == [1, 2, 3]


def test_a_batch_is_all_or_nothing(queue: Queue) -> None:
    queue.put_nowait_batch([1, 2])
    with pytest.raises(Full):
        queue.put_nowait_batch([3, 4])
    with pytest.raises(Empty):
        queue.get_nowait_batch(3)
    assert queue.size() == 2
    assert queue.get_nowait_batch(0) == []


def test_wrong_arguments_are_refused(queue: Queue) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        queue.put(1, timeout=-1)
    with pytest.raises(ValueError, match="non-negative"):
        queue.get(timeout=-1)
    with pytest.raises(TypeError, match="num_items"):
        queue.get_nowait_batch("a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nonnegative"):
        queue.get_nowait_batch(-1)
    with pytest.raises(TypeError, match="items"):
        queue.put_nowait_batch(5)  # type: ignore[arg-type]


@ray.remote(num_cpus=0)
def produce(queue: Queue, count: int) -> None:
    for i in range(count):
        queue.put(i)


@ray.remote(num_cpus=0)
def consume(queue: Queue, count: int) -> list[Any]:
    return [queue.get() for _ in range(count)]


def test_tasks_at_both_ends_wait_for_each_other(queue: Queue) -> None:
    consumers = [consume.remote(queue, 20) for _ in range(2)]
    producers = [produce.remote(queue, 20) for _ in range(2)]
    ray.get(producers)
    taken = [value for values in ray.get(consumers) for value in values]
    assert sorted(taken) == sorted([*range(20), *range(20)])
    assert queue.empty()


def test_coroutines_use_it_too(queue: Queue) -> None:
    async def both() -> list[int]:
        async def put_all() -> None:
            for i in range(10):
                await queue.put_async(i)

        async def take_all() -> list[int]:
            return [await queue.get_async() for _ in range(10)]

        _, taken = await asyncio.gather(put_all(), take_all())
        with pytest.raises(Empty):
            await queue.get_async(block=False)
        with pytest.raises(Empty):
            await queue.get_async(timeout=0.01)
        return taken

    assert asyncio.run(both()) == list(range(10))


def test_options_of_its_actor_can_be_given() -> None:
    named = Queue(actor_options={"name": "a named queue", "num_cpus": 0})
    named.put(1)
    assert ray.get(ray.get_actor("a named queue").qsize.remote()) == 1
    named.shutdown()


def test_after_shutdown_there_is_no_actor() -> None:
    queue = Queue()
    actor = queue.actor
    queue.shutdown()
    assert queue.actor is None
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.qsize.remote())
