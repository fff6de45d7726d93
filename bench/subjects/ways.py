"""The ways in besides `remote` and `get`: executors, pools, `await`, joblib, queues and threads.

The same loops for all that offer them. A function of this module takes what is measured and returns
its loops by the name of their figure; `steps` makes a subject of them.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from bench.subjects import QUIET, Subject, per_second

if TYPE_CHECKING:
    from bench.settings import Settings

Loop = Callable[[], object]
# By the name of the figure: a loop and how many operations it does.
Loops = dict[str, tuple[Loop, int]]

CALLS = 1000
ONE_BY_ONE = 100
ITEMS_OF_MAP = 10_000  # With chunks of the pool's own choice.
THREADS = 4
TASKS_OF_1_MS = 400


def nop() -> None:
    pass


def echo(value: int) -> int:
    return value


def work_for_1_ms(value: int) -> int:
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass
    return value


class Echo:
    def echo(self, value: int) -> int:
        return value


def steps(loops: Loops, settings: Settings) -> Iterator[dict[str, Any]]:
    for loop, _ in loops.values():  # Warm-up.
        loop()
    yield {}
    while True:
        yield {
            name: per_second(loop, size, settings.block_s) for name, (loop, size) in loops.items()
        }


def executor(submit: Callable[..., Any], map_of: Callable[..., Any]) -> Loops:
    """submit: as that of executors. map_of: of a function and values; the results."""

    def one_by_one() -> None:
        for _ in range(ONE_BY_ONE):
            submit(nop).result()

    return {
        "executor_submit": (
            lambda: [future.result() for future in [submit(nop) for _ in range(CALLS)]],
            CALLS,
        ),
        "executor_map": (lambda: list(map_of(echo, range(CALLS))), CALLS),
        "executor_one": (one_by_one, ONE_BY_ONE),
    }


def pool(pool: Any) -> Loops:
    """Of a `multiprocessing.Pool`, or what looks like one."""

    def one_by_one() -> None:
        for _ in range(ONE_BY_ONE):
            pool.apply(nop)

    return {
        "pool_async": (
            lambda: [result.get() for result in [pool.apply_async(nop) for _ in range(CALLS)]],
            CALLS,
        ),
        "pool_map_of_one": (lambda: pool.map(echo, range(CALLS), chunksize=1), CALLS),
        "pool_map": (lambda: pool.map(echo, range(ITEMS_OF_MAP)), ITEMS_OF_MAP),
        "pool_imap": (lambda: list(pool.imap(echo, range(CALLS))), CALLS),
        "pool_imap_unordered": (lambda: list(pool.imap_unordered(echo, range(CALLS))), CALLS),
        "pool_apply": (one_by_one, ONE_BY_ONE),
    }


def awaiting(call: Callable[[asyncio.AbstractEventLoop], Any]) -> Loops:
    """call: makes something to await."""
    loop = asyncio.new_event_loop()

    async def one_by_one() -> None:
        for _ in range(ONE_BY_ONE):
            await call(loop)

    async def gathered() -> None:
        await asyncio.gather(*[call(loop) for _ in range(CALLS)])

    return {
        "await_one": (lambda: loop.run_until_complete(one_by_one()), ONE_BY_ONE),
        "await_gather": (lambda: loop.run_until_complete(gathered()), CALLS),
    }


def joblib_backend(name: str, settings: Settings) -> Loops:
    import joblib

    calls = [joblib.delayed(echo)(number) for number in range(CALLS)]
    long_calls = [joblib.delayed(work_for_1_ms)(number) for number in range(TASKS_OF_1_MS)]

    def run(batch_size: Any, what: Any) -> Loop:
        def loop() -> None:
            with joblib.parallel_config(backend=name, n_jobs=settings.workers):
                joblib.Parallel(batch_size=batch_size)(what)

        return loop

    return {
        "joblib_one": (run(1, calls), CALLS),
        "joblib_auto": (run("auto", long_calls), TASKS_OF_1_MS),
    }


def queue(queue: Any) -> Loops:
    def put_and_get() -> None:
        for number in range(ONE_BY_ONE):
            queue.put(number)
            queue.get()

    return {"queue": (put_and_get, ONE_BY_ONE)}


def threads(call: Callable[[], object]) -> Loops:
    """Threads that each wait for one call after the other."""
    executor = ThreadPoolExecutor(THREADS)
    each = CALLS // THREADS

    def calls() -> None:
        for _ in range(each):
            call()

    def loop() -> None:
        for future in [executor.submit(calls) for _ in range(THREADS)]:
            future.result()

    return {"threads": (loop, CALLS)}


def subjects(ray: Any) -> dict[str, Subject]:
    """Those that Mobula and Ray both have."""

    def part(name: str) -> Any:
        return importlib.import_module(f"{ray.__name__}.{name}")

    def in_session(make: Callable[[Settings], Loops]) -> Subject:
        def subject(settings: Settings) -> Iterator[dict[str, Any]]:
            ray.init(num_cpus=settings.workers, **QUIET)
            try:
                yield from steps(make(settings), settings)
            finally:
                ray.shutdown()

        return subject

    def of_pool(settings: Settings) -> Loops:
        return pool(part("util.multiprocessing").Pool(settings.workers))

    def of_await(settings: Settings) -> Loops:
        remote = ray.remote(nop).remote
        return awaiting(lambda _: remote())

    def of_threads(settings: Settings) -> Loops:
        remote, get = ray.remote(nop).remote, ray.get
        return threads(lambda: get(remote()))

    def of_queue(settings: Settings) -> Loops:
        actor = ray.remote(Echo)
        actors = part("util").ActorPool([actor.remote() for _ in range(settings.workers)])
        loop = lambda: list(  # noqa: E731
            actors.map(lambda actor, value: actor.echo.remote(value), range(CALLS))
        )
        return {**queue(part("util.queue").Queue()), "actor_pool": (loop, CALLS)}

    return {
        "ways-pool": in_session(of_pool),
        "ways-await": in_session(of_await),
        "ways-threads": in_session(of_threads),
        "ways-queue": in_session(of_queue),
    }
