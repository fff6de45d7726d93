"""mobula.util.queue.Queue: a queue that processes share."""

from __future__ import annotations

import asyncio
import queue as standard
from collections.abc import Iterator
from typing import Any

import mobula as ray
import pytest
from leftovers import wait_until
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


# ---- who waits, and who need not


@ray.remote(num_cpus=0)
def get_one(queue: Queue, timeout: float | None = None) -> Any:
    try:
        return queue.get(timeout=timeout)
    except Empty:
        return "empty"


@ray.remote(num_cpus=0)
def put_one(queue: Queue, item: Any, timeout: float | None = None) -> str:
    try:
        queue.put(item, timeout=timeout)
    except Full:
        return "full"
    return "put"


def waiting_gets(queue: Queue) -> int:
    """How many wait in the queue's actor."""
    call = queue.actor.__ray_call__.remote(lambda actor: len(actor._items._getters))
    return int(ray.get(call))


@pytest.mark.mobula_only
def test_who_waits_gets_what_comes_also_when_others_need_not_wait(queue: Queue) -> None:
    waiting = [get_one.remote(queue) for _ in range(3)]
    wait_until(lambda: waiting_gets(queue) == 3, "three gets wait")
    assert queue.empty()
    queue.put_nowait_batch([1, 2])
    queue.put(3)
    assert sorted(ray.get(waiting)) == [1, 2, 3]
    assert queue.empty()


def test_a_get_that_gives_up_takes_nothing(queue: Queue) -> None:
    assert ray.get([get_one.remote(queue, 0.01) for _ in range(5)]) == ["empty"] * 5
    with pytest.raises(Empty):
        queue.get(timeout=0)
    queue.put(1)
    assert queue.get(timeout=0) == 1 and queue.empty()


def test_a_put_that_gives_up_leaves_nothing(queue: Queue) -> None:
    queue.put_nowait_batch([1, 2, 3])
    assert ray.get([put_one.remote(queue, 9, 0.01) for _ in range(5)]) == ["full"] * 5
    with pytest.raises(Full):
        queue.put(9, timeout=0)
    assert queue.get_nowait_batch(3) == [1, 2, 3]
    queue.put(4, timeout=0)
    assert queue.get() == 4 and queue.empty()


def test_puts_that_wait_for_room_get_it_in_turn(queue: Queue) -> None:
    queue.put_nowait_batch([1, 2, 3])
    waiting = [put_one.remote(queue, 10 + i) for i in range(4)]
    taken = [queue.get() for _ in range(7)]
    assert taken[:3] == [1, 2, 3] and sorted(taken[3:]) == [10, 11, 12, 13]
    assert ray.get(waiting) == ["put"] * 4


def test_two_tasks_that_wait_for_each_other_through_two_queues(queue: Queue) -> None:
    other = Queue(maxsize=1, actor_options={"num_cpus": 0})

    @ray.remote(num_cpus=0)
    def echo(source: Queue, sink: Queue, count: int) -> None:
        for _ in range(count):
            sink.put(source.get() + 1)

    echoing = echo.remote(queue, other, 200)
    value = 0
    for _ in range(200):
        queue.put(value)
        value = other.get()
    ray.get(echoing)
    assert value == 200
    other.shutdown()


def test_a_queue_without_a_limit_is_never_full() -> None:
    for maxsize in (0, -1):
        queue = Queue(maxsize, actor_options={"num_cpus": 0})
        for i in range(200):
            queue.put(i)
        assert queue.size() == 200 and not queue.full()
        queue.put_nowait_batch(range(200, 400))
        assert [queue.get() for _ in range(400)] == list(range(400))
        queue.shutdown()


def test_items_are_what_they_were(queue: Queue) -> None:
    import numpy as np

    items: list[Any] = [None, False, (), (True, None), [Empty()], ValueError("an item")]
    for item in items:
        queue.put(item)
        assert repr(queue.get()) == repr(item)
    array = np.arange(200_000)
    queue.put(array)
    assert (queue.get() == array).all()
    ref = ray.put("behind a ref")
    queue.put([ref])
    del ref
    assert ray.get(queue.get()[0]) == "behind a ref"


def test_batches_of_coroutines_and_sizes_agree(queue: Queue) -> None:
    async def main() -> None:
        await asyncio.gather(*(queue.put_async(i) for i in range(3)))
        with pytest.raises(Full):
            await queue.put_async(9, block=False)
        with pytest.raises(Full):
            await queue.put_async(9, timeout=0.01)
        assert sorted(await asyncio.gather(*(queue.get_async() for _ in range(3)))) == [0, 1, 2]

    asyncio.run(main())
    assert queue.size() == 0


@pytest.mark.mobula_only
def test_shutdown_fails_who_waits() -> None:
    queue = Queue(actor_options={"num_cpus": 0})
    waiting = get_one.options(max_retries=0).remote(queue)
    wait_until(lambda: waiting_gets(queue) == 1, "a get waits")
    queue.shutdown(force=True)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(waiting)


@pytest.mark.mobula_only
def test_calls_of_one_caller_are_answered_in_their_order(queue: Queue) -> None:
    actor = queue.actor
    for _ in range(20):
        refs = []
        expected: list[Any] = []
        for i in range(3):
            refs += [actor.put.remote(i, None), actor.qsize.remote(), actor.get.remote(None)]
            expected += [True, 1, (True, i)]
        refs += [actor.put_now.remote([1, 2]), actor.__ray_call__.remote(lambda own: own.qsize())]
        refs += [actor.get_now.remote(2), actor.empty.remote()]
        expected += [(True, 0), 2, (True, [1, 2]), True]
        assert ray.get(refs) == expected


@pytest.mark.mobula_only
def test_errors_of_calls_that_are_answered_at_once_come_back(queue: Queue) -> None:
    with pytest.raises(TypeError):
        ray.get(queue.actor.get_now.remote("a"))
    with pytest.raises(TypeError):
        ray.get(queue.actor.put_now.remote(3))
    assert ray.get(queue.actor.qsize.remote()) == 0


@pytest.mark.mobula_only
def test_a_get_that_waits_can_be_cancelled_and_takes_nothing(queue: Queue) -> None:
    waiting = [queue.actor.get.remote(None) for _ in range(3)]
    wait_until(lambda: waiting_gets(queue) == 3, "three gets wait")
    ray.cancel(waiting[1])
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(waiting[1])
    queue.put_nowait_batch([1, 2, 3])
    assert sorted(ray.get([waiting[0], waiting[2]])) == [(True, 1), (True, 2)]
    assert queue.get() == 3 and queue.empty()


@pytest.mark.mobula_only
def test_a_method_that_is_called_early_knows_its_call(queue: Queue) -> None:
    class Tells:
        def __reduce__(self) -> Any:
            # Called in the queue's actor, for the arguments of a call that is answered at once.
            return _task_name, ()

    queue.put(Tells())
    name = queue.get()
    assert name.endswith("put")
    assert ray.get(queue.actor.qsize.remote()) == 0


def _task_name() -> str:
    return str(ray.get_runtime_context().get_task_function_name())


def test_timers_of_the_actor_run_beside_a_caller_that_never_rests(queue: Queue) -> None:
    waiting = get_one.remote(queue, 0.05)
    while not ray.wait([waiting], timeout=0)[0]:
        queue.size()
    assert ray.get(waiting) == "empty"
