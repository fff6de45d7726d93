"""The ways in of the standard library: `ProcessPoolExecutor`, `multiprocessing.Pool` and a manager's
queue."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench.settings import Settings
from bench.subjects import Subject, ways


def of_executor(settings: Settings) -> Iterator[dict[str, Any]]:
    with ProcessPoolExecutor(settings.workers) as executor:
        yield from ways.steps(ways.executor(executor.submit, executor.map), settings)


def of_pool(settings: Settings) -> Iterator[dict[str, Any]]:
    with multiprocessing.Pool(settings.workers) as pool:
        yield from ways.steps(ways.pool(pool), settings)


def of_await(settings: Settings) -> Iterator[dict[str, Any]]:
    with ProcessPoolExecutor(settings.workers) as executor:
        loops = ways.awaiting(lambda loop: loop.run_in_executor(executor, ways.nop))
        yield from ways.steps(loops, settings)


def of_joblib(settings: Settings) -> Iterator[dict[str, Any]]:
    yield from ways.steps(ways.joblib_backend("multiprocessing", settings), settings)


def of_queue(settings: Settings) -> Iterator[dict[str, Any]]:
    with multiprocessing.Manager() as manager:
        yield from ways.steps(ways.queue(manager.Queue()), settings)


def of_threads(settings: Settings) -> Iterator[dict[str, Any]]:
    with ProcessPoolExecutor(settings.workers) as executor:
        yield from ways.steps(ways.threads(lambda: executor.submit(ways.nop).result()), settings)


SUBJECTS: dict[str, Subject] = {
    "ways-executor": of_executor,
    "ways-pool": of_pool,
    "ways-await": of_await,
    "ways-joblib": of_joblib,
    "ways-queue": of_queue,
    "ways-threads": of_threads,
}
