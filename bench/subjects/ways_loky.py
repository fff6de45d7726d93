"""The ways in of loky, by itself and in joblib."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.settings import Settings
from bench.subjects import Subject, ways


def of_executor(settings: Settings) -> Iterator[dict[str, Any]]:
    import loky

    executor = loky.get_reusable_executor(settings.workers, timeout=None)
    try:
        yield from ways.steps(ways.executor(executor.submit, executor.map), settings)
    finally:
        executor.shutdown(kill_workers=True)


def of_joblib(settings: Settings) -> Iterator[dict[str, Any]]:
    yield from ways.steps(ways.joblib_backend("loky", settings), settings)


SUBJECTS: dict[str, Subject] = {"ways-executor": of_executor, "ways-joblib": of_joblib}
