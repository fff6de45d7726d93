"""`await ref` and futures of event loops: asyncio's, the same in debug mode, and uvloop's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
import uvloop

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.mobula_only]

uvloop.new_event_loop().close()  # Of its first loop a process keeps two descriptors.

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class NoReaders(asyncio.SelectorEventLoop):
    """A loop that takes no readers."""

    def add_reader(self, *_: Any) -> None:
        raise NotImplementedError


def run_in(make: Callable[[], asyncio.AbstractEventLoop], debug: bool = False) -> Run:
    def run(main: Coroutine[Any, Any, Any]) -> Any:
        loop = make()
        loop.set_debug(debug)
        try:
            return loop.run_until_complete(main)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return run


KINDS = {
    "asyncio": run_in(asyncio.SelectorEventLoop),
    "debug": run_in(asyncio.SelectorEventLoop, debug=True),
    "uvloop": run_in(uvloop.new_event_loop),
    "no readers": run_in(NoReaders),
}


@pytest.fixture(params=list(KINDS))
def run(request: pytest.FixtureRequest) -> Run:
    return KINDS[request.param]


@ray.remote
def double(value: int) -> int:
    return 2 * value


@ray.remote
def fails(name: str) -> None:
    import builtins

    raise getattr(builtins, name)("gone")


@ray.remote
def hold(path: str) -> str:
    import time

    while not os.path.exists(path):
        time.sleep(0.001)
    return "released"


async def value_of(ref: Any) -> Any:
    return await ref


def test_one_by_one(run: Run) -> None:
    async def main() -> list[int]:
        return [await double.remote(i) for i in range(300)]

    assert run(main()) == [2 * i for i in range(300)]


def test_many_at_once(run: Run) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(double.remote(i) for i in range(2000)))

    assert run(main()) == [2 * i for i in range(2000)]


def test_as_they_come(run: Run) -> None:
    async def main() -> list[int]:
        tasks = [asyncio.ensure_future(value_of(double.remote(i))) for i in range(200)]
        return sorted([await task for task in asyncio.as_completed(tasks)])

    assert run(main()) == [2 * i for i in range(200)]


def test_errors_are_raised(run: Run) -> None:
    async def main(name: str, is_ready: bool) -> None:
        ref = fails.remote(name)
        if is_ready:
            ray.wait([ref])
        await ref

    for is_ready in (True, False):
        with pytest.raises(KeyError, match="gone"):
            run(main("KeyError", is_ready))


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_task_that_raises_stop_iteration_does_not_end_a_coroutine(
    run: Run, is_ready: bool
) -> None:
    async def main() -> str:
        ref = fails.remote("StopIteration")
        if is_ready:
            ray.wait([ref])
        try:
            await ref
        except RuntimeError as error:
            assert isinstance(error.__cause__, StopIteration)
            return str(error)
        return "nothing was raised"

    assert "raised StopIteration" in run(main())


def test_what_is_ready_gives_others_their_turn(run: Run) -> None:
    ref = ray.put(1)
    turns: list[str] = []

    async def one(name: str) -> None:
        for _ in range(3):
            turns.append(name)
            await ref

    async def main() -> None:
        await asyncio.gather(one("a"), one("b"))

    run(main())
    assert turns == ["a", "b"] * 3


def test_awaiting_twice_gives_the_value_twice(run: Run) -> None:
    async def main() -> list[int]:
        ref = double.remote(4)
        return [await ref, await ref, await asyncio.gather(ref, ref)]

    assert run(main()) == [8, 8, [8, 8]]


def test_other_callbacks_run_while_a_task_does(run: Run, tmp_path: Path) -> None:
    async def main() -> str:
        waiting = asyncio.ensure_future(value_of(hold.remote(str(tmp_path / "go"))))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        (tmp_path / "go").touch()
        return await waiting

    assert run(main()) == "released"


def test_cancelling_the_await_leaves_the_task(run: Run, tmp_path: Path) -> None:
    ref = hold.remote(str(tmp_path / "go"))

    async def main() -> None:
        task = asyncio.ensure_future(value_of(ref))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(value_of(ref), 0.01)

    run(main())
    (tmp_path / "go").touch()
    assert ray.get(ref) == "released"


def test_cancelling_the_await_of_what_is_ready_is_a_cancellation(run: Run) -> None:
    ref = ray.put(1)

    async def main() -> None:
        task = asyncio.ensure_future(value_of(ref))
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_futures_of_a_loop_are_settled(run: Run) -> None:
    async def main() -> Any:
        future = double.remote(21).as_future()
        wrapped = asyncio.wrap_future(double.remote(4).future())
        done, _ = await asyncio.wait([future, wrapped])
        assert done == {future, wrapped}
        return future.result(), wrapped.result()

    assert run(main()) == (42, 8)


def test_loops_of_many_threads_at_a_time(run: Run) -> None:
    async def main(start: int) -> int:
        one_by_one = sum([await double.remote(i) for i in range(start, start + 50)])
        at_once = await asyncio.gather(*(double.remote(i) for i in range(start, start + 50)))
        assert sum(at_once) == one_by_one
        return one_by_one

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        sums = list(threads.map(lambda start: run(main(start)), range(0, 400, 50)))
    assert sum(sums) == sum(2 * i for i in range(400))


def test_awaiting_beside_a_thread_that_gets(run: Run) -> None:
    stop = threading.Event()

    def gets() -> int:
        count = 0
        while not stop.is_set():
            assert ray.get(double.remote(count)) == 2 * count
            count += 1
        return count

    async def main() -> int:
        return sum([await double.remote(i) for i in range(200)])

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        other = threads.submit(gets)
        try:
            assert run(main()) == 200 * 199
        finally:
            stop.set()
        assert other.result(60) > 0


def test_no_descriptor_is_left(run: Run) -> None:
    async def main() -> int:
        return sum(await asyncio.gather(*(double.remote(i) for i in range(20))))

    run(main())
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run(main())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_was_awaited_cannot_be_awaited_without_a_loop() -> None:
    coroutine = value_of(ray.put(1))
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)


def test_an_iterator_of_a_value_can_be_used_by_hand(run: Run) -> None:
    ref = ray.put(5)

    async def main() -> Any:
        steps = ref.__await__()
        assert iter(steps) is steps and next(steps) is None
        with pytest.raises(StopIteration) as stop:
            next(steps)
        with pytest.raises(RuntimeError, match="awaited already"):
            next(steps)
        return stop.value.value

    assert run(main()) == 5


def test_values_that_look_like_arguments_of_exceptions_come_whole(run: Run) -> None:
    values: list[Any] = [(1, 2), (), None, StopIteration(3), [ValueError("no error")]]
    refs = [ray.put(value) for value in values]

    async def main() -> list[Any]:
        first = []
        for ref in refs:
            steps = ref.__await__()
            next(steps)
            with pytest.raises(StopIteration) as stop:
                next(steps)
            first.append(stop.value.value)
        return [first, [await ref for ref in refs]]

    for found in run(main()):
        assert [repr(value) for value in found] == [repr(value) for value in values]
