"""Actors that do several things at a time: event loops, threads, concurrency groups."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import mobula as ray
import pytest
from actor_helpers import wait_until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
class Loop:
    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.cancelled = 0
        self.most = self.now = 0

    async def wait(self) -> int:
        await self.open.wait()
        return 1

    async def set(self) -> None:
        self.open.set()

    async def echo(self, value: Any) -> Any:
        return value

    async def inside(self, seconds: float) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(seconds)
        self.now -= 1

    async def seen(self) -> int:
        return self.most

    async def forever(self) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def how_often(self) -> int:
        return self.cancelled

    async def items(self, count: int) -> Any:
        for i in range(count):
            await asyncio.sleep(0)
            yield i

    def plain_items(self, count: int) -> Any:
        yield from range(count)

    async def broken_items(self) -> Any:
        yield 1
        raise ValueError("enough")

    async def fail(self) -> None:
        raise KeyError("async")

    async def context(self) -> tuple[str, str]:
        context = ray.get_runtime_context()
        before = context.get_task_id()
        await asyncio.sleep(0.01)
        assert context.get_task_id() == before
        return context.get_task_name(), before

    async def ask(self, handles: list[Any]) -> list[Any]:
        return list(await asyncio.gather(*[handle.echo.remote(1) for handle in handles]))

    async def slow_ask(self, ref: list[Any]) -> Any:
        return await ref[0]

    async def leave(self) -> None:
        ray.actor.exit_actor()


@ray.remote
def late(seconds: float, value: Any) -> Any:
    time.sleep(seconds)
    return value


def test_calls_of_an_event_loop_overlap() -> None:
    actor = Loop.remote()
    waiting = [actor.wait.remote() for _ in range(500)]
    assert ray.wait(waiting, timeout=0.2)[0] == []
    ray.get(actor.set.remote())
    assert sum(ray.get(waiting)) == 500


def test_max_concurrency_bounds_an_event_loop() -> None:
    actor = Loop.options(max_concurrency=3).remote()
    ray.get([actor.inside.remote(0.02) for _ in range(20)])
    assert ray.get(actor.seen.remote()) == 3


def test_an_event_loop_goes_on_while_a_call_awaits_a_ref() -> None:
    actor, other = Loop.remote(), Loop.remote()
    assert ray.get(actor.ask.remote([other, other])) == [1, 1]
    pending = actor.slow_ask.remote([late.remote(0.5, "late")])
    assert ray.get(actor.echo.remote("now")) == "now"
    assert ray.wait([pending], timeout=0)[0] == []
    assert ray.get(pending) == "late"


def test_ready_calls_of_an_event_loop_pass_those_whose_arguments_are_late() -> None:
    actor = Loop.remote()
    first = actor.echo.remote(late.remote(0.5, "late"))
    assert ray.get(actor.echo.remote("ready")) == "ready"
    assert ray.get(first) == "late"


def test_plain_and_asynchronous_generators_of_an_event_loop() -> None:
    actor = Loop.remote()
    assert [ray.get(ref) for ref in actor.items.remote(5)] == list(range(5))
    assert [ray.get(ref) for ref in actor.plain_items.remote(5)] == list(range(5))
    limited = actor.items.options(_generator_backpressure_num_objects=1).remote(5)
    assert [ray.get(ref) for ref in limited] == list(range(5))
    broken = actor.broken_items.remote()
    assert ray.get(next(broken)) == 1
    with pytest.raises(ValueError, match="enough"):
        ray.get(next(broken))


def test_errors_and_contexts_of_an_event_loop_belong_to_their_calls() -> None:
    actor = Loop.remote()
    with pytest.raises(KeyError, match="async"):
        ray.get(actor.fail.remote())
    refs = [actor.context.remote() for _ in range(5)]
    assert ray.get(refs) == [("Loop.context", ref.task_id().hex()) for ref in refs]


def test_cancelling_a_call_cancels_its_coroutine() -> None:
    actor = Loop.remote()
    running = actor.forever.remote()
    ray.get(actor.echo.remote(1))
    ray.cancel(running)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(running)
    assert ray.get(actor.how_often.remote()) == 1
    assert ray.get(actor.echo.remote(2)) == 2


def test_exit_actor_ends_an_event_loop() -> None:
    actor = Loop.remote()
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.leave.remote())


def test_max_pending_calls_is_a_limit_for_each_caller() -> None:
    actor = Loop.options(max_pending_calls=3).remote()
    waiting = [actor.wait.remote() for _ in range(3)]
    with pytest.raises(ray.exceptions.PendingCallsLimitExceeded, match="more than 3 tasks"):
        actor.echo.remote(1)

    @ray.remote
    def open_it(handle: Any) -> None:
        ray.get(handle.set.remote())

    ray.get(open_it.remote(actor))
    ray.get(waiting)
    assert ray.get(actor.echo.remote(1)) == 1


class Threads:
    def __init__(self) -> None:
        self.barrier = threading.Barrier(4)
        self.local = threading.local()

    def meet(self) -> str:
        self.barrier.wait(60)
        return threading.current_thread().name

    def name(self) -> str:
        return threading.current_thread().name

    def child(self) -> Any:
        return ray.get(late.remote(0, 5))


def test_a_threaded_actor_runs_as_many_calls_at_a_time_as_allowed() -> None:
    actor = ray.remote(Threads).options(max_concurrency=4).remote()
    assert len(set(ray.get([actor.meet.remote() for _ in range(4)]))) == 4


def test_threads_of_an_actor_submit_and_wait_for_tasks() -> None:
    actor = ray.remote(Threads).options(max_concurrency=4).remote()
    assert ray.get([actor.child.remote() for _ in range(20)]) == [5] * 20


def test_each_concurrency_group_has_its_own_threads() -> None:
    @ray.remote(concurrency_groups={"io": 1, "compute": 2})
    class Grouped:
        def __init__(self) -> None:
            self.go = threading.Event()

        @ray.method(concurrency_group="io")
        def wait(self) -> str:
            assert self.go.wait(60)
            return threading.current_thread().name

        @ray.method(concurrency_group="compute")
        def compute(self) -> str:
            return threading.current_thread().name

        def open(self) -> str:
            self.go.set()
            return threading.current_thread().name

    actor = Grouped.remote()
    waiting = [actor.wait.remote() for _ in range(3)]
    names = set(ray.get([actor.compute.remote() for _ in range(10)]))
    elsewhere = ray.get(actor.compute.options(concurrency_group="_default").remote())
    assert ray.wait(waiting, timeout=0)[0] == []
    opened = ray.get(actor.open.remote())
    io = set(ray.get(waiting))
    assert len(io) == 1 and len(names) in (1, 2) and opened == elsewhere
    assert not ({opened} & io) and not ({opened} & names) and not (io & names)
    with pytest.raises(ValueError, match="no concurrency group 'none'"):
        actor.compute.options(concurrency_group="none")


def test_groups_of_an_event_loop_do_not_wait_for_each_other() -> None:
    @ray.remote(concurrency_groups={"io": 1})
    class Grouped:
        def __init__(self) -> None:
            self.most = self.now = 0

        @ray.method(concurrency_group="io")
        async def one_by_one(self) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            return self.most

        async def free(self) -> str:
            return "free"

    actor = Grouped.remote()
    slow = [actor.one_by_one.remote() for _ in range(10)]
    assert ray.get(actor.free.remote()) == "free"
    assert max(ray.get(slow)) == 1


def test_an_asyncio_driver_awaits_calls() -> None:
    async def program() -> list[Any]:
        actor = Loop.remote()
        return await asyncio.gather(*[actor.echo.remote(i) for i in range(10)])

    assert asyncio.run(program()) == list(range(10))


def test_the_handle_of_a_busy_event_loop_goes_and_so_does_its_process() -> None:
    import gc
    import os

    from actor_helpers import is_alive

    actor = Loop.remote()
    pid = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))
    refs = [actor.inside.remote(0.1) for _ in range(3)]
    del actor
    gc.collect()
    ray.get(refs)
    wait_until(lambda: not is_alive(pid))


def test_a_constructor_can_start_coroutines_on_the_loop_of_the_actor() -> None:
    @ray.remote
    class Ticks:
        def __init__(self) -> None:
            self.loop = asyncio.get_running_loop()
            self.first = asyncio.create_task(self.tick(1))
            self.second = asyncio.get_event_loop().create_task(self.tick(2))

        async def tick(self, value: int) -> int:
            await asyncio.sleep(0.01)
            return value

        async def both(self) -> tuple[int, int, bool]:
            same = asyncio.get_running_loop() is self.loop
            return await self.first, await self.second, same

    assert ray.get(Ticks.remote().both.remote(), timeout=60) == (1, 2, True)


def test_the_constructor_of_an_asyncio_actor_fails_like_any_other() -> None:
    class Fails:
        def __init__(self) -> None:
            raise RuntimeError("not today")

        async def nothing(self) -> None: ...

    with pytest.raises(ray.exceptions.ActorDiedError, match="not today") as caught:
        ray.get(ray.remote(Fails).remote().nothing.remote(), timeout=60)
    assert "run_until_complete" not in str(caught.value)
