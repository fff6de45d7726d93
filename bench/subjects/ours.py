"""Mobula."""

from __future__ import annotations

import ctypes
import mmap
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

import mobula as ray
import numpy as np

from bench import processes
from bench.settings import Settings
from bench.subjects import Subject, beside, disk, per_second, rates, run_program, work
from bench.subjects.observer import Observer
from bench.subjects.resources import cpu_percent, memory_below_this_process

os.environ["BENCH_PACKAGE"] = "mobula"


@ray.remote
def nop() -> None:
    pass


@ray.remote
def echo(value: int) -> int:
    return value


def tasks(settings: Settings) -> Iterator[dict[str, Any]]:
    with ray.init(num_cpus=settings.workers):
        yield from rates(lambda: ray.get([nop.remote() for _ in range(1000)]), 1000, settings)


def tasks_observed(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rate while another process asks for tasks, their summary and the metrics every 100 ms,
    against the rate before and after."""
    with ray.init(num_cpus=settings.workers) as context, Observer(context) as observer:

        def rate() -> float:
            return per_second(
                lambda: ray.get([nop.remote() for _ in range(1000)]), 1000, settings.block_s
            )

        rate()
        observer.ask(True)
        rate()
        observer.ask(False)
        yield {}
        while True:
            before = rate()
            observer.ask(True)
            observed = rate()
            rounds = observer.ask(False)
            after = rate()
            plain = (before + after) / 2
            yield {"value": 100 * observed / plain, "per_second": plain, "rounds": rounds}


def tasks_with_argument(settings: Settings) -> Iterator[dict[str, Any]]:
    with ray.init(num_cpus=settings.workers):
        yield from rates(lambda: ray.get([echo.remote(i) for i in range(1000)]), 1000, settings)


def tasks_one_by_one(settings: Settings) -> Iterator[dict[str, Any]]:
    def batch() -> None:
        for _ in range(100):
            ray.get(nop.remote())

    with ray.init(num_cpus=settings.workers):
        yield from rates(batch, 100, settings)


def put_small(settings: Settings) -> Iterator[dict[str, Any]]:
    def batch() -> None:
        for _ in range(1000):
            ray.put(0)

    with ray.init(num_cpus=settings.workers):
        yield from rates(batch, 1000, settings)


def get_small(settings: Settings) -> Iterator[dict[str, Any]]:
    def batch() -> None:
        for _ in range(1000):
            ray.get(ref)

    with ray.init(num_cpus=settings.workers):
        ref = ray.put(0)
        yield from rates(batch, 1000, settings)


def place_of(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Where the data lie. No copy was made if that is a shared mapping of a store segment."""
    address = array.__array_interface__["data"][0]
    permissions, name = processes.mapping_of(address)
    shared = permissions.endswith("s") and "memfd:" in name
    return {"address": address, "no_copy": shared and not array.flags.writeable}


@ray.remote
def look(refs: list[ray.ObjectRef[Any]]) -> list[dict[str, Any]]:
    """Gets the array again and again, and says for each time how long it took and where it lies."""
    looks = []
    for _ in range(20):
        start = time.perf_counter()
        array = ray.get(refs[0])
        looks.append({"us": (time.perf_counter() - start) * 1e6, **place_of(array)})
    return looks


def array(settings: Settings) -> Iterator[dict[str, Any]]:
    """put and get of one array, and memcpy between memory that is warm and shared as the store's."""
    size = settings.array_mib << 20
    data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    copy = np.frombuffer(mmap.mmap(-1, size), np.uint8)  # Shared memory; cold as yet.

    def timed_memcpy() -> float:
        start = time.perf_counter()
        ctypes.memmove(copy.ctypes.data, data.ctypes.data, size)
        return time.perf_counter() - start

    def timed_put() -> float:
        start = time.perf_counter()
        ref = ray.put(data)
        seconds = time.perf_counter() - start
        del ref
        return seconds

    with ray.init(num_cpus=settings.workers):
        cold_put = timed_put()
        cold_memcpy = timed_memcpy()
        warming = [timed_put() for _ in range(5)]
        for _ in range(3):
            timed_memcpy()
        ref = ray.put(data)
        first = ray.get(ref)
        assert np.array_equal(first, data)
        looks = ray.get(look.remote([ref]))
        del ref, first
        yield {
            "cold_put_gb_per_s": size / cold_put / 1e9,
            "cold_put_percent_of_warm_memcpy": 100 * timed_memcpy() / cold_put,
            "cold_memcpy_gb_per_s": size / cold_memcpy / 1e9,
            "puts_after_it_ms": [seconds * 1e3 for seconds in warming],
            "get_in_a_worker_first_us": looks[0]["us"],
            "get_in_a_worker_us": statistics.median(one["us"] for one in looks[1:]),
            "get_in_a_worker_no_copy": all(one["no_copy"] for one in looks),
        }
        while True:
            pairs = [(timed_memcpy(), timed_put()) for _ in range(5)]
            memcpy = statistics.median(pair[0] for pair in pairs)
            put = statistics.median(pair[1] for pair in pairs)
            yield {
                "value": 100 * memcpy / put,
                "put_gb_per_s": size / put / 1e9,
                "memcpy_gb_per_s": size / memcpy / 1e9,
                **timed_gets(ray.put(data)),
            }


def timed_gets(ref: ray.ObjectRef[Any]) -> dict[str, Any]:
    microseconds, places = [], []
    for _ in range(100):
        start = time.perf_counter()
        value = ray.get(ref)
        microseconds.append((time.perf_counter() - start) * 1e6)
        places.append(place_of(value))
    same = len({place["address"] for place in places}) == 1
    return {
        "get_us": statistics.median(microseconds),
        "get_first_us": microseconds[0],
        "get_no_copy": same and all(place["no_copy"] for place in places),
    }


START = """
import json, time
begun = time.perf_counter()
import mobula as ray

@ray.remote
def nop():
    pass

imported = time.perf_counter()
ray.init(num_cpus=%d)
ray.get(nop.remote())
result = time.perf_counter()
ray.shutdown()
ended = time.perf_counter()
times = {"value": result - imported, "import_s": imported - begun, "shutdown_s": ended - result}
print(json.dumps(times))
"""


def start(settings: Settings) -> Iterator[dict[str, Any]]:
    yield {"first": run_program(START % settings.workers)}
    while True:
        yield run_program(START % settings.workers)


@ray.remote
def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def start_all_workers(settings: Settings) -> None:
    """Returns when as many workers exist as the settings say, idle again."""
    for _ in range(20):
        if len(set(ray.get([pid_after.remote(0.1) for _ in range(settings.workers)]))) == (
            settings.workers
        ):
            return
    raise RuntimeError(f"never saw {settings.workers} workers at a time")


def memory(settings: Settings) -> Iterator[dict[str, Any]]:
    with ray.init(num_cpus=settings.workers):
        start_all_workers(settings)
        yield {}
        while True:
            time.sleep(settings.block_s)
            yield memory_below_this_process()


def idle(settings: Settings) -> Iterator[dict[str, Any]]:
    with ray.init(num_cpus=settings.workers):
        start_all_workers(settings)
        yield {}
        while True:
            yield cpu_percent(lambda: time.sleep(settings.wait_s))


def waiting(settings: Settings) -> Iterator[dict[str, Any]]:
    with ray.init(num_cpus=settings.workers):
        start_all_workers(settings)
        yield {}
        while True:
            yield cpu_percent(lambda: ray.get(pid_after.remote(settings.wait_s)))


def cpu_bound(settings: Settings) -> Iterator[dict[str, Any]]:
    task = ray.remote(work)

    def run() -> float:
        start = time.perf_counter()
        ray.get([task.remote(settings.cpu_task_steps) for _ in range(settings.cpu_tasks)])
        return time.perf_counter() - start

    with ray.init(num_cpus=settings.workers):
        start_all_workers(settings)
        run()
        yield {}
        while True:
            before = processes.cpu_seconds_of_tree(os.getpid())
            seconds = run()
            cpu_s = processes.cpu_seconds_of_tree(os.getpid()) - before
            yield {"value": seconds, "cpu_ms_per_task": 1e3 * cpu_s / settings.cpu_tasks}


SUBJECTS: dict[str, Subject] = {
    "tasks": tasks,
    "observed": tasks_observed,
    "tasks-arg": tasks_with_argument,
    "get-loop": tasks_one_by_one,
    "put-small": put_small,
    "get-small": get_small,
    "array": array,
    "start": start,
    "memory": memory,
    "idle": idle,
    "waiting": waiting,
    "cpu-bound": cpu_bound,
    **disk.OURS,
    **beside.subjects(ray, lambda settings: settings.queued),
}
