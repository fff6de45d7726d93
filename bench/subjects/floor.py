"""The floor: what tasks, arrays and starts cost at least on this machine, with nothing kept in books.

For tasks, two Python processes over a ring (floor.cc). For CPU-bound work, plain processes that each
do their share in a loop. For a start, an interpreter and one fork of it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import mmap
import multiprocessing
import os
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import processes
from bench.settings import Settings
from bench.subjects import Subject, disk, per_second, run_program, work

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "bench" / "floor.cc"


def build() -> Path:
    """Compiles floor.cc into build/bench, unless that is done."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    library = ROOT / "build" / "bench" / f"floor{suffix}"
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        library.parent.mkdir(parents=True, exist_ok=True)
        partial = library.with_suffix(f".{os.getpid()}")
        include = sysconfig.get_path("include")
        flags = ["-std=c++20", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{include}"]
        subprocess.run(["g++", *flags, str(SOURCE), "-o", str(partial)], check=True)
        partial.rename(library)
    return library


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("floor", build())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.attach(mmap.mmap(-1, module.MEMORY_BYTES))
    return module


@contextlib.contextmanager
def worker(floor: ModuleType, function: Callable[..., Any]) -> Iterator[None]:
    """A forked process that serves `function` while the block runs."""
    pid = os.fork()
    if pid == 0:
        try:
            floor.serve(function)
        except BaseException:
            os._exit(1)
        os._exit(0)
    try:
        yield
    finally:
        floor.stop()
        _, status = os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"the worker of the floor ended with status {status}")


def rates_with_worker(
    floor: ModuleType,
    function: Callable[..., Any],
    batch: Callable[[], object],
    size: int,
    settings: Settings,
) -> Iterator[dict[str, Any]]:
    """As `rates`, with a fresh worker for each measurement: it spins, and must not do so meanwhile."""
    yield {}
    while True:
        with worker(floor, function):
            per_second(batch, size, settings.block_s / 4)  # Warm-up.
            value = per_second(batch, size, settings.block_s)
        yield {"value": value}


def nop() -> None:
    pass


def echo(value: int) -> int:
    return value


def tasks(settings: Settings) -> Iterator[dict[str, Any]]:
    floor = load()

    def batch() -> None:
        sent = [floor.submit() for _ in range(1000)]
        floor.collect(len(sent))

    yield from rates_with_worker(floor, nop, batch, 1000, settings)


def tasks_with_argument(settings: Settings) -> Iterator[dict[str, Any]]:
    floor = load()

    def batch() -> None:
        sent = [floor.submit(i) for i in range(1000)]
        floor.collect(len(sent))

    yield from rates_with_worker(floor, echo, batch, 1000, settings)


def tasks_one_by_one(settings: Settings) -> Iterator[dict[str, Any]]:
    floor = load()

    def batch() -> None:
        for _ in range(100):
            floor.submit()
            floor.collect(1)

    yield from rates_with_worker(floor, nop, batch, 100, settings)


START = """
import json, os, time
start = time.perf_counter()
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, b"0")
    os._exit(0)
os.read(reader, 1)
print(json.dumps({"value": time.perf_counter() - start}))
"""


def start(settings: Settings) -> Iterator[dict[str, Any]]:
    """The whole of a program that forks once and gets one byte back."""
    yield {}
    while True:
        yield {"value": run_program(START)["whole_program_s"]}


def work_when_told(told: Connection, steps: int) -> None:
    os.setsid()  # As workers do. On a busy machine each session gets the same share of the CPUs.
    while count := told.recv():
        for _ in range(count):
            work(steps)
        told.send(None)


def cpu_bound(settings: Settings) -> Iterator[dict[str, Any]]:
    share = settings.cpu_tasks // settings.workers
    ends, everyone = [], []
    for _ in range(settings.workers):
        here, there = multiprocessing.Pipe()
        process = multiprocessing.Process(
            target=work_when_told, args=(there, settings.cpu_task_steps), daemon=True
        )
        process.start()
        ends.append(here)
        everyone.append(process)

    def run() -> float:
        start = time.perf_counter()
        for end in ends:
            end.send(share)
        for end in ends:
            end.recv()
        return time.perf_counter() - start

    try:
        run()
        yield {}
        while True:
            before = processes.cpu_seconds_of_tree(os.getpid())
            seconds = run()
            cpu_s = processes.cpu_seconds_of_tree(os.getpid()) - before
            done = share * settings.workers
            yield {
                "value": seconds * settings.cpu_tasks / done,
                "cpu_ms_per_task": 1e3 * cpu_s / done,
            }
    finally:
        for end in ends:
            end.send(0)
        for process in everyone:
            process.join()


SUBJECTS: dict[str, Subject] = {
    "tasks": tasks,
    "tasks-arg": tasks_with_argument,
    "get-loop": tasks_one_by_one,
    "start": start,
    "cpu-bound": cpu_bound,
    **disk.FLOOR,
}
