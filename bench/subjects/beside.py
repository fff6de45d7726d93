"""What is measured beside the real Ray: the same loops for both packages.

A session has a few of them, and one step measures each of its figures once: Ray takes seconds to start.
`subjects(ray)` makes the subjects for the package that it is given.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench import processes
from bench.settings import Settings
from bench.subjects import QUIET, Subject, actors, per_second

STORE_BYTES = 1 << 30
NESTED_PARENTS = 2
CHAIN_LENGTH = 100
REFS_WAITED_FOR = 1000
REFS_IN_ONE_TASK = 10_000
RETURNS_OF_ONE_TASK = 3_000
OBJECTS_OF_ONE_GET = 10_000
REFS_IN_ONE_OBJECT = 10_000
LIVE_REFS = 100_000
ARRAY_BYTES = 100 << 20
ARGUMENT_BYTES = 1 << 20
LONGER_ARGUMENT_BYTES = 4 << 20
PLACES = 4  # Of arguments in the store at a time, about.


def seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Session:
    """One session of `ray` with the remote functions of the loops, and the loops."""

    def __init__(self, ray: Any, settings: Settings) -> None:
        self.ray = ray
        self.settings = settings
        self.context = ray.init(
            num_cpus=settings.workers,
            object_store_memory=STORE_BYTES,
            **QUIET,
        )
        self.nop = ray.remote(nop)
        self.echo = ray.remote(echo)
        self.add_one = ray.remote(add_one)
        self.count_arguments = ray.remote(count_arguments)
        self.many_returns = ray.remote(num_returns=RETURNS_OF_ONE_TASK)(many_returns)
        self.waits_for_file = ray.remote(waits_for_file)
        self.touches = ray.remote(touches)
        # A parent takes no CPU, so that two of them leave both to their children.
        self.parent = ray.remote(num_cpus=0)(parent)

    def rate(self, batch: Callable[[], object], size: int) -> float:
        return per_second(batch, size, self.settings.block_s)

    def tasks(self) -> float:
        ray, nop = self.ray, self.nop
        return self.rate(lambda: ray.get([nop.remote() for _ in range(1000)]), 1000)

    def tasks_with_argument(self) -> float:
        ray, echo = self.ray, self.echo
        return self.rate(lambda: ray.get([echo.remote(i) for i in range(1000)]), 1000)

    def one_by_one(self) -> float:
        ray, nop = self.ray, self.nop

        def batch() -> None:
            for _ in range(100):
                ray.get(nop.remote())

        return self.rate(batch, 100)

    def nested(self) -> float:
        """Tasks a second that two parents run between them."""
        count = self.settings.nested_tasks
        parents = [self.parent.remote(self.nop, count) for _ in range(NESTED_PARENTS)]
        return NESTED_PARENTS * count / seconds_of(lambda: self.ray.get(parents))

    def chain(self) -> float:
        def batch() -> None:
            ref = self.add_one.remote(0)
            for _ in range(CHAIN_LENGTH - 1):
                ref = self.add_one.remote(ref)
            if self.ray.get(ref) != CHAIN_LENGTH:
                raise RuntimeError("a chain of tasks lost count")

        return self.rate(batch, CHAIN_LENGTH)

    def wait(self) -> float:
        def batch() -> None:
            waiting = [self.nop.remote() for _ in range(REFS_WAITED_FOR)]
            while waiting:
                _, waiting = self.ray.wait(waiting)

        return self.rate(batch, REFS_WAITED_FOR)

    def put_small(self) -> float:
        def batch() -> None:
            for _ in range(1000):
                self.ray.put(0)

        return self.rate(batch, 1000)

    def get_small(self) -> float:
        ref = self.ray.put(0)

        def batch() -> None:
            for _ in range(1000):
                self.ray.get(ref)

        return self.rate(batch, 1000)

    def refs_in_one_task(self) -> float:
        refs = [self.ray.put(i) for i in range(REFS_IN_ONE_TASK)]
        return seconds_of(lambda: self.ray.get(self.count_arguments.remote(*refs)))

    def returns_of_one_task(self) -> float:
        return seconds_of(lambda: self.ray.get(self.many_returns.remote()))

    def objects_of_one_get(self) -> float:
        refs = [self.ray.put(i) for i in range(OBJECTS_OF_ONE_GET)]
        return seconds_of(lambda: self.ray.get(refs))

    def refs_in_one_object(self) -> float:
        """Put, and got by a task that gets what the refs lead to."""
        refs = [self.ray.put(i) for i in range(REFS_IN_ONE_OBJECT)]

        def there_and_back() -> None:
            whole = self.ray.put(refs)
            self.ray.get(self.touches.remote(whole))

        return seconds_of(there_and_back)

    def live_refs(self) -> float:
        """Made by tasks, all alive at once, then dropped."""

        def make_and_drop() -> None:
            refs = [self.nop.remote() for _ in range(LIVE_REFS)]
            self.ray.wait(refs, num_returns=len(refs))
            del refs

        return seconds_of(make_and_drop)


def nop() -> None:
    pass


def echo(value: int) -> int:
    return value


def add_one(value: int) -> int:
    return value + 1


def count_arguments(*arguments: int) -> int:
    return len(arguments)


def many_returns() -> list[int]:
    return list(range(RETURNS_OF_ONE_TASK))


def waits_for_file(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


def package() -> Any:
    """The package whose worker this is. A name in the environment: functions travel without it."""
    import importlib

    return importlib.import_module(os.environ["BENCH_PACKAGE"])


def parent(nop: Any, count: int) -> None:
    package().get([nop.remote() for _ in range(count)])


def touches(refs: list[Any]) -> int:
    return sum(package().get(refs))


TASKS = ("tasks", "tasks_with_argument", "one_by_one", "nested", "chain", "wait")
OBJECTS = (
    *("put_small", "get_small", "refs_in_one_task", "returns_of_one_task"),
    *("objects_of_one_get", "refs_in_one_object", "live_refs"),
)


def figures(ray: Any, names: tuple[str, ...]) -> Subject:
    def subject(settings: Settings) -> Iterator[dict[str, Any]]:
        session = Session(ray, settings)
        try:
            for name in names:  # Warm-up.
                getattr(session, name)()
            yield {}
            while True:
                yield {name: getattr(session, name)() for name in names}
        finally:
            ray.shutdown()

    return subject


def arrays(ray: Any) -> Subject:
    """put of a large array, an array as an argument, and memcpy into memory that is as warm.

    How often an argument is copied is how much longer a larger one takes, against how much longer
    memcpy takes: so the cost of a call, which is the same for both, is no part of it. Like the store,
    memcpy has several places for an array, one after the other: what a task was just given is free
    only after its result has been told to everybody."""

    def subject(settings: Settings) -> Iterator[dict[str, Any]]:
        Session(ray, settings)
        large = np.random.default_rng(0).integers(0, 256, ARRAY_BYTES, dtype=np.uint8)
        small, longer = (large[:n].copy() for n in (ARGUMENT_BYTES, LONGER_ARGUMENT_BYTES))
        warm = np.frombuffer(mmap.mmap(-1, ARRAY_BYTES), np.uint8)
        last = ray.remote(last_item)
        place = ray.remote(place_of_data)

        def memcpy(array: Any, start: int = 0) -> float:
            copy = lambda: ctypes.memmove(  # noqa: E731
                warm.ctypes.data + start, array.ctypes.data, array.nbytes
            )
            return seconds_of(copy)

        def memcpy_in_turn(array: Any) -> float:
            starts = itertools.cycle(range(0, PLACES * array.nbytes, array.nbytes))
            return median(lambda: memcpy(array, next(starts)), times=20)

        def put() -> float:
            refs = []
            seconds = seconds_of(lambda: refs.append(ray.put(large)))
            refs.clear()
            return seconds

        def submit(array: Any) -> float:
            refs = []
            seconds = seconds_of(lambda: refs.append(last.remote(array)))
            ray.get(refs)
            return seconds

        try:
            for _ in range(5):
                memcpy(large), put(), submit(small), submit(longer)
            yield {"argument_lies_in_shared_memory": ray.get(place.remote(small))}
            while True:
                large_copy, puts = median(memcpy, large), median(put)
                call, longer_call = (median(submit, each, times=20) for each in (small, longer))
                more = memcpy_in_turn(longer) - memcpy_in_turn(small)
                yield {
                    "put_gb_per_s": ARRAY_BYTES / puts / 1e9,
                    "put_percent_of_memcpy": 100 * large_copy / puts,
                    "argument_us": call * 1e6,
                    "argument_copies": (longer_call - call) / more,
                }
        finally:
            ray.shutdown()

    return subject


def median(measure: Callable[..., float], *arguments: Any, times: int = 5) -> float:
    values = sorted(measure(*arguments) for _ in range(times))
    return values[len(values) // 2]


def last_item(array: Any) -> int:
    return int(array[-1])


def place_of_data(array: Any) -> bool:
    """Do the data lie in memory that other processes map too?"""
    permissions, _ = processes.mapping_of(array.__array_interface__["data"][0])
    return permissions.endswith("s")


def queued(ray: Any, count_of: Callable[[Settings], int]) -> Subject:
    """Tasks that wait behind two that block: how fast they come, what they cost, how fast they go."""

    def subject(settings: Settings) -> Iterator[dict[str, Any]]:
        session = Session(ray, settings)
        nop = session.nop
        count = count_of(settings)
        tenth = count // 10
        refs: list[Any] = []
        try:
            session.tasks()
            before = memory()  # Only once: memory that is free again is not given back at once.
            yield {"queued": count}
            while True:
                with tempfile.TemporaryDirectory() as folder:
                    gate = Path(folder, "open")
                    blocking = [
                        session.waits_for_file.remote(str(gate)) for _ in range(settings.workers)
                    ]
                    tenths: list[float] = []
                    for _ in range(10):
                        tenths.append(
                            seconds_of(lambda: refs.extend(nop.remote() for _ in range(tenth)))
                        )
                    after = memory()
                    gate.touch()
                    seconds = seconds_of(lambda: ray.get(refs))
                    ray.get(blocking)
                    yield {
                        "submit_per_s": count / sum(tenths),
                        "last_over_first": tenths[0] / tenths[-1],
                        "finish_per_s": count / seconds,
                        "bytes_per_task": (after - before) / count,
                    }
                    refs.clear()
        finally:
            ray.shutdown()

    return subject


def memory() -> float:
    """PSS of this process and all below it, in bytes."""
    total = 0.0
    for stat in processes.tree(os.getpid()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It has ended.
            total += processes.memory_of(stat).pss_mib
    return total * (1 << 20)


def subjects(ray: Any, count_of: Callable[[Settings], int]) -> dict[str, Subject]:
    return {
        "beside-tasks": figures(ray, TASKS),
        "beside-objects": figures(ray, OBJECTS),
        "beside-arrays": arrays(ray),
        "beside-actors": actors.actors(ray),
        "beside-queued": queued(ray, count_of),
    }
