"""What the interfaces themselves cost, with nothing behind them: bare futures, asyncio over awaitables
that are ready, joblib over a backend that does nothing, plain loops."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from bench.settings import Settings
from bench.subjects import Subject, ways


def call(function: Callable[..., Any], *args: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(function(*args))
    return future


def of_executor(settings: Settings) -> Iterator[dict[str, Any]]:
    def map_of(function: Callable[..., Any], values: Any) -> Iterator[Any]:
        return (future.result() for future in [call(function, value) for value in values])

    yield from ways.steps(ways.executor(call, map_of), settings)


class BarePool:
    """Futures as results, and plain loops."""

    def apply(self, function: Callable[..., Any]) -> Any:
        return call(function).result()

    def apply_async(self, function: Callable[..., Any]) -> Any:
        future = call(function)
        future.get = future.result  # type: ignore[attr-defined]
        return future

    def map(self, function: Callable[..., Any], values: Any, chunksize: int = 0) -> list[Any]:
        return list(map(function, values))

    imap = imap_unordered = map


def of_pool(settings: Settings) -> Iterator[dict[str, Any]]:
    yield from ways.steps(ways.pool(BarePool()), settings)


def of_await(settings: Settings) -> Iterator[dict[str, Any]]:
    yield from ways.steps(ways.awaiting(lambda loop: asyncio.sleep(0)), settings)


def of_joblib(settings: Settings) -> Iterator[dict[str, Any]]:
    import joblib
    from joblib._parallel_backends import ParallelBackendBase

    class Empty(ParallelBackendBase):  # type: ignore[misc]
        supports_retrieve_callback = True

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._done: deque[tuple[Any, Any]] = deque()

        def effective_n_jobs(self, n_jobs: int) -> int:
            return settings.workers

        def submit(self, func: Any, callback: Any = None) -> Any:
            self._done.append((callback, itertools.repeat(None, len(func.items))))

        @contextlib.contextmanager
        def retrieval_context(self) -> Iterator[None]:
            while self._done:
                callback, results = self._done.popleft()
                callback(results)
            yield

        def retrieve_result_callback(self, out: Any) -> Any:
            return list(out)

    joblib.register_parallel_backend("empty", Empty)
    loops = ways.joblib_backend("empty", settings)
    yield from ways.steps({"joblib_one": loops["joblib_one"]}, settings)


def of_queue(settings: Settings) -> Iterator[dict[str, Any]]:
    loops = ways.queue(queue.Queue())
    echo = ways.Echo().echo
    loops["actor_pool"] = (lambda: list(map(echo, range(ways.CALLS))), ways.CALLS)
    yield from ways.steps(loops, settings)


def of_threads(settings: Settings) -> Iterator[dict[str, Any]]:
    yield from ways.steps(ways.threads(lambda: call(ways.nop).result()), settings)


SUBJECTS: dict[str, Subject] = {
    "ways-executor": of_executor,
    "ways-pool": of_pool,
    "ways-await": of_await,
    "ways-joblib": of_joblib,
    "ways-queue": of_queue,
    "ways-threads": of_threads,
}
