"""Actors, beside the real Ray: the same loops for both packages."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.subjects import QUIET, Subject, per_second

if TYPE_CHECKING:
    from bench.settings import Settings

ACTORS_AT_ONCE = 100
CALLS_OF_A_CALLER = 2_000
ARGUMENT_BYTES = 1 << 20


class Plain:
    def nop(self) -> None:
        pass

    def last_item(self, array: Any) -> int:
        return int(array[-1])


class Loop:
    async def nop(self) -> None:
        pass


class Caller:
    """Calls an actor from a process of its own."""

    def __init__(self, package: str, actor: Any) -> None:
        self.ray = importlib.import_module(package)
        self.actor = actor

    def call(self, count: int) -> None:
        self.ray.get([self.actor.nop.remote() for _ in range(count)])


def actors(ray: Any) -> Subject:
    def subject(settings: Settings) -> Iterator[dict[str, Any]]:
        import numpy as np  # Not in the actors, which import this module.

        ray.init(num_cpus=settings.workers, **QUIET)
        plain, loop = ray.remote(Plain), ray.remote(Loop)
        actor, waits = plain.remote(), loop.remote()
        caller = ray.remote(Caller)
        callers = [caller.remote(ray.__name__, plain.remote()) for _ in range(2)]
        ray.get([actor.nop.remote(), waits.nop.remote()])
        ray.get([one.call.remote(1) for one in callers])

        def pipelined(handle: Any) -> float:
            return per_second(
                lambda: ray.get([handle.nop.remote() for _ in range(1000)]), 1000, settings.block_s
            )

        def one_by_one() -> float:
            def batch() -> None:
                for _ in range(100):
                    ray.get(actor.nop.remote())

            return per_second(batch, 100, settings.block_s)

        def two_callers() -> float:
            return per_second(
                lambda: ray.get([one.call.remote(CALLS_OF_A_CALLER) for one in callers]),
                2 * CALLS_OF_A_CALLER,
                settings.block_s,
            )

        def at_once() -> float:
            begun = time.perf_counter()
            made = [plain.remote() for _ in range(ACTORS_AT_ONCE)]
            ray.get([one.nop.remote() for one in made])
            return time.perf_counter() - begun

        array = np.ones(ARGUMENT_BYTES, np.uint8)
        ray.get(actor.last_item.remote(array))

        def argument_us() -> float:
            begun = time.perf_counter()
            for _ in range(100):
                ray.get(actor.last_item.remote(array))
            return (time.perf_counter() - begun) / 100 * 1e6

        try:
            yield {}
            while True:
                yield {
                    "pipelined": pipelined(actor),
                    "one_by_one": one_by_one(),
                    "asyncio": pipelined(waits),
                    "two_callers": two_callers(),
                    "at_once_s": at_once(),
                    "argument_us": argument_us(),
                }
        finally:
            ray.shutdown()

    return subject
