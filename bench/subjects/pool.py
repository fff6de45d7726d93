"""multiprocessing.Pool, doing the same."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench import processes
from bench.settings import Settings
from bench.subjects import Subject, rates, run_program, work
from bench.subjects.resources import cpu_percent, memory_below_this_process


def nop() -> None:
    pass


def echo(value: int) -> int:
    return value


def tasks(settings: Settings) -> Iterator[dict[str, Any]]:
    with multiprocessing.Pool(settings.workers) as pool:

        def batch() -> None:
            for result in [pool.apply_async(nop) for _ in range(1000)]:
                result.get()

        yield from rates(batch, 1000, settings)


def tasks_with_argument(settings: Settings) -> Iterator[dict[str, Any]]:
    with multiprocessing.Pool(settings.workers) as pool:

        def batch() -> None:
            for result in [pool.apply_async(echo, (i,)) for i in range(1000)]:
                result.get()

        yield from rates(batch, 1000, settings)


def tasks_one_by_one(settings: Settings) -> Iterator[dict[str, Any]]:
    with multiprocessing.Pool(settings.workers) as pool:

        def batch() -> None:
            for _ in range(100):
                pool.apply(nop)

        yield from rates(batch, 100, settings)


def last_item(array: np.ndarray[Any, Any]) -> int:
    return int(array[-1])


def array(settings: Settings) -> Iterator[dict[str, Any]]:
    """Sends the array to a worker: the nearest thing to putting it where workers can read it."""
    size = settings.array_mib << 20
    data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    with multiprocessing.Pool(settings.workers) as pool:
        pool.apply(last_item, (data,))
        yield {}
        while True:
            start = time.perf_counter()
            pool.apply(last_item, (data,))
            yield {"value": size / (time.perf_counter() - start) / 1e9}


START = """
import json, time
begun = time.perf_counter()
import multiprocessing

def nop():
    pass

imported = time.perf_counter()
with multiprocessing.Pool(%d) as pool:
    pool.apply(nop)
    result = time.perf_counter()
ended = time.perf_counter()
times = {"value": result - imported, "import_s": imported - begun, "shutdown_s": ended - result}
print(json.dumps(times))
"""


def start(settings: Settings) -> Iterator[dict[str, Any]]:
    yield {"first": run_program(START % settings.workers)}
    while True:
        yield run_program(START % settings.workers)


def memory(settings: Settings) -> Iterator[dict[str, Any]]:
    with multiprocessing.Pool(settings.workers) as pool:
        pool.map(time.sleep, [0.1] * settings.workers, chunksize=1)
        yield {}
        while True:
            yield memory_below_this_process()


def idle(settings: Settings) -> Iterator[dict[str, Any]]:
    with multiprocessing.Pool(settings.workers) as pool:
        pool.map(time.sleep, [0.1] * settings.workers, chunksize=1)
        yield {}
        while True:
            yield cpu_percent(lambda: time.sleep(settings.wait_s))


def waiting(settings: Settings) -> Iterator[dict[str, Any]]:
    with multiprocessing.Pool(settings.workers) as pool:
        pool.map(time.sleep, [0.1] * settings.workers, chunksize=1)
        yield {}
        while True:
            yield cpu_percent(lambda: pool.apply(time.sleep, (settings.wait_s,)))


def cpu_bound(settings: Settings) -> Iterator[dict[str, Any]]:
    with multiprocessing.Pool(settings.workers) as pool:
        steps = [settings.cpu_task_steps] * settings.cpu_tasks
        pool.map(work, steps, chunksize=1)
        yield {}
        while True:
            before = processes.cpu_seconds_of_tree(os.getpid())
            start = time.perf_counter()
            pool.map(work, steps, chunksize=1)
            seconds = time.perf_counter() - start
            cpu_s = processes.cpu_seconds_of_tree(os.getpid()) - before
            yield {"value": seconds, "cpu_ms_per_task": 1e3 * cpu_s / settings.cpu_tasks}


SUBJECTS: dict[str, Subject] = {
    "tasks": tasks,
    "tasks-arg": tasks_with_argument,
    "get-loop": tasks_one_by_one,
    "array": array,
    "start": start,
    "memory": memory,
    "idle": idle,
    "waiting": waiting,
    "cpu-bound": cpu_bound,
}
