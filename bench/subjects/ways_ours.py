"""Mobula's ways in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mobula

from bench.settings import Settings
from bench.subjects import Subject, ways


def of_executor(settings: Settings) -> Iterator[dict[str, Any]]:
    with mobula.init(num_cpus=settings.workers), mobula.Executor() as executor:
        yield from ways.steps(ways.executor(executor.submit, executor.map), settings)


def of_joblib(settings: Settings) -> Iterator[dict[str, Any]]:
    from mobula.util.joblib import register_ray

    register_ray()
    with mobula.init(num_cpus=settings.workers):
        yield from ways.steps(ways.joblib_backend("mobula", settings), settings)


SUBJECTS: dict[str, Subject] = {
    "ways-executor": of_executor,
    "ways-joblib": of_joblib,
    **ways.subjects(mobula),
}
