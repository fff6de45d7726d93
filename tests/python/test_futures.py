"""await, asyncio and futures of refs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import threading
from pathlib import Path
from typing import Any

import mobula as ray
import numpy as np
import pytest
from leftovers import wait_until


@ray.remote
def double(value: int) -> int:
    return 2 * value


@ray.remote
def fails() -> None:
    raise KeyError("gone")


@ray.remote
def hold(path: str) -> str:
    while not os.path.exists(path):
        pass
    return "released"


@pytest.mark.usefixtures("shared_session")
class TestFutures:
    def test_await_a_task(self) -> None:
        async def main() -> int:
            return await double.remote(21)

        assert asyncio.run(main()) == 42

    def test_await_what_is_ready(self) -> None:
        ref = ray.put("here")

        async def main() -> Any:
            return await ref, await ref

        assert asyncio.run(main()) == ("here", "here")

    def test_await_an_array_of_the_store(self) -> None:
        @ray.remote
        def array() -> Any:
            return np.arange(100_000)

        async def main() -> Any:
            return await array.remote()

        assert asyncio.run(main())[-1] == 99_999

    def test_gather_many(self) -> None:
        async def main() -> list[int]:
            return await asyncio.gather(*(double.remote(i) for i in range(5000)))

        assert asyncio.run(main()) == [2 * i for i in range(5000)]

    def test_errors_are_raised_by_await(self) -> None:
        async def main() -> None:
            await fails.remote()

        with pytest.raises(KeyError):
            asyncio.run(main())

    def test_wait_of_asyncio_takes_futures_of_refs(self, tmp_path: Path) -> None:
        async def main() -> Any:
            slow = asyncio.wrap_future(hold.remote(str(tmp_path / "go")).future())
            fast = asyncio.wrap_future(double.remote(1).future())
            done, pending = await asyncio.wait([slow, fast], return_when=asyncio.FIRST_COMPLETED)
            assert done == {fast} and pending == {slow}
            (tmp_path / "go").touch()
            return await slow

        assert asyncio.run(main()) == "released"

    def test_the_loop_runs_while_a_task_does(self, tmp_path: Path) -> None:
        async def main() -> str:
            waiting = asyncio.ensure_future(result())
            await asyncio.sleep(0)
            (tmp_path / "go").touch()  # Only a loop that is not blocked gets here.
            return await waiting

        async def result() -> str:
            return await hold.remote(str(tmp_path / "go"))

        assert asyncio.run(main()) == "released"

    def test_giving_up_the_await_leaves_the_task(self, tmp_path: Path) -> None:
        ref = hold.remote(str(tmp_path / "go"))

        async def main() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(_result(ref), 0.05)

        asyncio.run(main())
        (tmp_path / "go").touch()
        assert ray.get(ref) == "released"

    def test_future_settles_with_the_value_or_the_error(self) -> None:
        future = double.remote(4).future()
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(timeout=30) == 8
        assert isinstance(fails.remote().future().exception(timeout=30), KeyError)

    def test_callbacks_of_a_future(self) -> None:
        called = threading.Event()
        double.remote(1).future().add_done_callback(lambda _: called.set())
        assert called.wait(30)

    def test_loops_of_several_threads(self) -> None:
        async def main(start: int) -> int:
            return sum([await double.remote(i) for i in range(start, start + 50)])

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            sums = list(threads.map(lambda start: asyncio.run(main(start)), range(0, 200, 50)))
        assert sum(sums) == sum(2 * i for i in range(200))

    def test_await_in_a_task(self) -> None:
        @ray.remote
        def outer() -> int:
            async def main() -> int:
                return sum(await asyncio.gather(*(double.remote(i) for i in range(10))))

            return asyncio.run(main())

        assert ray.get(outer.remote()) == 90

    def test_get_goes_on_beside_futures(self, tmp_path: Path) -> None:
        future = hold.remote(str(tmp_path / "go")).future()
        assert ray.get([double.remote(i) for i in range(1000)])[-1] == 1998
        (tmp_path / "go").touch()
        assert future.result(timeout=30) == "released"

    def test_who_waits_for_a_future_learns_that_it_was_cancelled(self, tmp_path: Path) -> None:
        future = hold.remote(str(tmp_path / "go")).future()
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(future.result, 60)
            wait_until(waiting.running, "it waits", 60)
            assert future.cancel() and future.cancelled()
            with pytest.raises(concurrent.futures.CancelledError):
                waiting.result(60)
        (tmp_path / "go").touch()

    def test_a_future_that_is_late_is_a_timeout_and_can_be_asked_again(
        self, tmp_path: Path
    ) -> None:
        future = hold.remote(str(tmp_path / "go")).future()
        for seconds in (0, 0.01, 0.2):
            with pytest.raises(concurrent.futures.TimeoutError):
                future.result(seconds)
        (tmp_path / "go").touch()
        assert future.result(60) == "released"

    def test_a_loop_without_readers_awaits_too(self) -> None:
        class Loop(asyncio.SelectorEventLoop):
            def add_reader(self, *_: Any) -> None:
                raise NotImplementedError

        async def main() -> list[int]:
            return await asyncio.gather(*(double.remote(i) for i in range(100)))

        loop = Loop()
        try:
            assert loop.run_until_complete(main()) == [2 * i for i in range(100)]
        finally:
            loop.close()

    def test_awaiting_is_right_in_debug_mode_and_leaves_no_descriptor(self) -> None:
        async def main() -> int:
            return sum(await asyncio.gather(*(double.remote(i) for i in range(50))))

        assert asyncio.run(main(), debug=True) == 2450
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            asyncio.run(main())
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before


async def _result(ref: Any) -> Any:
    return await ref


def test_shutdown_settles_what_is_pending(no_session: None, tmp_path: Path) -> None:
    ray.init(num_cpus=1)
    future = hold.remote(str(tmp_path / "never")).future()
    ray.shutdown()
    assert isinstance(future.exception(timeout=30), ray.exceptions.RayError)
    ray.init(num_cpus=1)
    assert double.remote(5).future().result(timeout=30) == 10
    ray.shutdown()


def test_results_of_an_executor_outlive_the_session(no_session: None) -> None:
    ray.init(num_cpus=1)
    with ray.Executor() as executor:
        futures = [executor.submit(abs, -number) for number in range(20)]
        died = executor.submit(int, "no number")
    ray.shutdown()
    assert [future.result(30) for future in futures] == list(range(20))
    assert isinstance(died.exception(30), ValueError)
