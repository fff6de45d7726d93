"""Calls on an actor's event loop are tasks of asyncio's like any other, though none of them costs more
Python than its method."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import types
from collections.abc import Generator
from typing import Any

import mobula as ray
import pytest

pytestmark = pytest.mark.usefixtures("shared_session")

chosen: contextvars.ContextVar[str] = contextvars.ContextVar("chosen", default="nothing")


class Awaitable:
    """Something to await that is no coroutine."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps

    def __await__(self) -> Generator[Any, Any, Any]:
        for step in self.steps:
            yield from step.__await__()
        return len(self.steps)


class NoIterator:
    def __await__(self) -> Any:
        return 7


@ray.remote
class Loop:
    def __init__(self) -> None:
        self.tasks: list[Any] = []
        self.event = asyncio.Event()

    async def nop(self) -> None:
        pass

    async def number(self, waits: int) -> tuple[int, bool]:
        task = asyncio.current_task()
        self.tasks.append(task)
        for _ in range(waits):
            await asyncio.sleep(0)
        return id(task), asyncio.current_task() is task

    async def kept(self) -> list[tuple[bool, bool]]:
        return [(task.done(), task.cancelled()) for task in self.tasks]

    async def choose(self, value: str, waits: int) -> tuple[str, str]:
        before = chosen.get()
        chosen.set(value)
        for _ in range(waits):
            await asyncio.sleep(0)
        return before, chosen.get()

    async def wait(self) -> None:
        await self.event.wait()

    async def shown(self) -> list[tuple[str, list[str]]]:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        rows = [(repr(task), [f.f_code.co_name for f in task.get_stack()]) for task in tasks]
        self.event.set()
        return rows

    def awaitable(self, waits: int) -> Any:
        return Awaitable(*[asyncio.sleep(0) for _ in range(waits)])

    def future(self) -> Any:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "settled")
        return future

    def no_iterator(self) -> Any:
        return NoIterator()

    def plain(self) -> str:
        return "plain"

    async def cancels_itself(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return "never"

    async def fails(self, waits: int) -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise LookupError(f"after {waits}")

    async def times_out(self) -> str:
        try:
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        except asyncio.TimeoutError:
            return "late"
        return "never"

    async def children(self, count: int) -> int:
        async def child(n: int) -> int:
            await asyncio.sleep(0)
            return n

        return sum(await asyncio.gather(*[child(n) for n in range(count)]))

    async def set_debug(self, debug: bool) -> None:
        asyncio.get_running_loop().set_debug(debug)

    async def make_tasks_by(self, kind: str) -> None:
        made: list[Any] = []

        def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
            made.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **options)

        self.made = made
        asyncio.get_running_loop().set_task_factory(factory if kind == "factory" else None)

    async def made_how_many(self) -> int:
        return len(self.made)

    async def coroutine_of_task(self) -> tuple[bool, bool, str]:
        task = asyncio.current_task()
        assert task is not None
        coroutine = task.get_coro()
        name = getattr(coroutine, "__qualname__", "")
        return asyncio.iscoroutine(coroutine), isinstance(coroutine, types.CoroutineType), name

    async def left(self) -> int:
        gc.collect()
        return sum(type(thing).__name__ == "ActorCall" for thing in gc.get_objects())

    async def submits(self, waits: int) -> tuple[str, str]:
        for _ in range(waits):
            await asyncio.sleep(0)
        mine = ray.get_runtime_context().get_task_id()
        return mine, await name_of_parent.remote()


@ray.remote
def name_of_parent() -> str:
    return ray.get_runtime_context().get_task_id()


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_each_call_is_a_task_of_its_own(waits: int) -> None:
    actor = Loop.remote()
    rows = ray.get([actor.number.remote(waits) for _ in range(50)])
    assert all(same for _, same in rows)
    assert len({task for task, _ in rows}) == 50
    assert ray.get(actor.kept.remote()) == [(True, False)] * 50


@pytest.mark.parametrize("waits", [0, 2])
def test_what_a_call_sets_in_its_context_no_other_call_sees(waits: int) -> None:
    actor = Loop.remote()
    rows = ray.get([actor.choose.remote(str(n), waits) for n in range(50)])
    assert rows == [("nothing", str(n)) for n in range(50)]


def test_a_waiting_call_shows_its_name_and_where_it_waits() -> None:
    actor = Loop.remote()
    waiting = actor.wait.remote()
    rows = ray.get(actor.shown.remote())
    ray.get(waiting)
    shown = [(text, stack) for text, stack in rows if "wait" in stack]
    assert len(shown) == 1
    assert "Loop.wait" in shown[0][0]


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_what_can_be_awaited_is_awaited(waits: int) -> None:
    actor = Loop.remote()
    assert ray.get(actor.awaitable.remote(waits)) == waits
    assert ray.get(actor.future.remote()) == "settled"
    assert ray.get(actor.plain.remote()) == "plain"


def test_what_says_that_it_can_be_awaited_and_cannot_is_an_error() -> None:
    actor = Loop.remote()
    with pytest.raises(TypeError, match="non-iterator of type 'int'"):
        ray.get(actor.no_iterator.remote())
    assert ray.get(actor.plain.remote()) == "plain"


def test_a_call_that_cancels_its_own_task_is_cancelled() -> None:
    actor = Loop.remote()
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(actor.cancels_itself.remote())
    assert ray.get(actor.plain.remote()) == "plain"


@pytest.mark.parametrize("waits", [0, 2])
def test_an_exception_of_a_coroutine_names_its_line_and_none_of_ours(waits: int) -> None:
    actor = Loop.remote()
    with pytest.raises(LookupError, match=f"after {waits}") as caught:
        ray.get(actor.fails.remote(waits))
    assert "in Loop.fails" in str(caught.value)
    assert "_actor_worker" not in str(caught.value)


def test_timeouts_and_tasks_of_calls_are_asyncios() -> None:
    actor = Loop.remote()
    assert ray.get([actor.times_out.remote(), actor.children.remote(20)]) == ["late", 190]


def test_a_loop_in_debug_mode_executes_calls() -> None:
    actor = Loop.remote()
    ray.get(actor.set_debug.remote(True))
    assert len(ray.get([actor.number.remote(1) for _ in range(5)])) == 5
    with pytest.raises(LookupError):
        ray.get(actor.fails.remote(1))


def test_a_task_factory_makes_the_tasks_of_calls() -> None:
    actor = Loop.remote()
    ray.get(actor.make_tasks_by.remote("factory"))
    ray.get([actor.nop.remote() for _ in range(5)])
    assert ray.get(actor.made_how_many.remote()) >= 5


def test_a_task_of_a_call_has_a_coroutine_with_the_methods_name() -> None:
    actor = Loop.remote()
    assert ray.get(actor.coroutine_of_task.remote()) == (True, False, "Loop.coroutine_of_task")


def test_calls_that_are_over_are_freed() -> None:
    actor = Loop.remote()
    ray.get([actor.nop.remote() for _ in range(2000)])
    assert ray.get(actor.left.remote()) == 1  # The one that counts.


@pytest.mark.parametrize("waits", [0, 1])
def test_a_call_that_submits_is_known_as_such_at_each_of_its_steps(waits: int) -> None:
    actor = Loop.remote()
    rows = ray.get([actor.submits.remote(waits) for _ in range(3)])
    assert len({mine for mine, _ in rows}) == 3
    assert all(mine != child for mine, child in rows)


def test_more_calls_than_may_run_at_a_time_all_run() -> None:
    actor = Loop.options(max_concurrency=7).remote()
    assert len(ray.get([actor.number.remote(n % 3) for n in range(500)])) == 500
