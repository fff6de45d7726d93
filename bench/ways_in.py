"""The rows of the ways in: executors, pools, `await`, joblib, queues, threads. Each stands beside what
others make of the same loop, and beside its floor, where nothing is behind the interface.

Others are optional. What is not installed is not measured, and what a row says of the others then is
of those that are there.
"""

from __future__ import annotations

import importlib.util
import statistics
from dataclasses import dataclass
from typing import Any

from bench.cases import OTHERS_CORES_MAX
from bench.runner import RAY_ITSELF, Taken, take
from bench.settings import Settings

OURS, FLOOR = "ways_ours", "ways_floor"
PROCESSES, LOKY, DASK = "ways_processes", "ways_loky", "ways_dask"
# What people call them, and the package without which they cannot be measured.
OTHERS = {
    PROCESSES: ("processes", None),
    LOKY: ("loky", "loky"),
    DASK: ("dask", "distributed"),
    RAY_ITSELF: ("Ray", None),
}


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    key: str  # Of the measurement.
    target: float | None = None  # At least, a second.
    times_others: float | None = None  # And so many times the best of the others.


@dataclass(frozen=True)
class Case:
    subject: str
    others: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Result:
    row: Row
    ours: list[float]
    floor: float | None
    others: dict[str, float]  # By what people call them.
    others_cores: float

    @property
    def measured(self) -> float:
        return statistics.median(self.ours)

    @property
    def best(self) -> str | None:
        """Of the others."""
        return max(self.others, key=lambda name: self.others[name], default=None)

    @property
    def times_others(self) -> float | None:
        return self.measured / self.others[self.best] if self.best is not None else None

    @property
    def times_floor(self) -> float | None:
        return self.measured / self.floor if self.floor is not None else None

    @property
    def met(self) -> bool | None:
        """None: it depends on others that are not there."""
        row = self.row
        if row.target is not None and self.measured < row.target:
            return False
        if row.times_others is None:
            return True
        times = self.times_others
        return None if times is None else times >= row.times_others

    @property
    def noisy(self) -> bool:
        return self.others_cores > OTHERS_CORES_MAX


CASES = (
    Case(
        "ways-executor",
        (PROCESSES, LOKY, DASK),
        (
            Row(
                "executor-submit",
                "Executor: submit of 1000, then result",
                "executor_submit",
                150_000,
                4,
            ),
            Row("executor-map", "Executor.map of 1000", "executor_map", 150_000, 4),
            Row("executor-one", "submit(...).result() in a loop", "executor_one", 40_000),
        ),
    ),
    Case(
        "ways-pool",
        (PROCESSES, RAY_ITSELF),
        (
            Row("pool-async", "Pool: apply_async of 1000, then get", "pool_async", 150_000, 4),
            Row("pool-map-1", "Pool.map(chunksize=1) of 1000", "pool_map_of_one", 150_000, 4),
            Row("pool-map", "Pool.map of 10,000", "pool_map", None, 1),
            Row("pool-imap", "Pool.imap of 1000", "pool_imap", 150_000, 4),
            Row(
                "pool-unordered",
                "Pool.imap_unordered of 1000",
                "pool_imap_unordered",
                150_000,
                4,
            ),
            Row("pool-apply", "Pool.apply in a loop", "pool_apply", 40_000),
        ),
    ),
    Case(
        "ways-await",
        (PROCESSES, RAY_ITSELF),
        (
            Row("await-one", "await nop.remote() in a loop", "await_one", 40_000),
            Row("await-gather", "gather of 1000", "await_gather", 150_000),
        ),
    ),
    Case(
        "ways-joblib",
        (PROCESSES, LOKY),
        (
            Row("joblib-1", "joblib, batches of one", "joblib_one", 35_000),
            Row("joblib-auto", "joblib, calls of 1 ms", "joblib_auto", None, 1),
        ),
    ),
    Case(
        "ways-queue",
        (PROCESSES, RAY_ITSELF),
        (
            Row("queue", "Queue: put and get in a loop", "queue", 60_000),
            Row("actor-pool", "ActorPool.map of 1000", "actor_pool", 250_000),
        ),
    ),
    Case(
        "ways-threads",
        (PROCESSES, RAY_ITSELF),
        (Row("threads", "4 threads, get(nop.remote()) each", "threads", 100_000),),
    ),
)
ROW_NAMES = tuple(row.name for case in CASES for row in case.rows)


def is_there(module: str, with_ray: bool) -> bool:
    package = OTHERS[module][1]
    if module == RAY_ITSELF:
        return with_ray
    return package is None or importlib.util.find_spec(package) is not None


def measure(case: Case, settings: Settings, with_ray: bool) -> tuple[list[Result], dict[str, Any]]:
    """The rows of the case, and everything that was measured for them."""
    others = tuple(module for module in case.others if is_there(module, with_ray))
    modules = (OURS, FLOOR, *others)
    taken = take(modules, case.subject, settings.beside_repeats, settings)
    return [result_of(row, taken) for row in case.rows], taken.raw(settings)


def result_of(row: Row, taken: Taken) -> Result:
    figures = {
        module: [one[row.key] for one in measurements]
        for module, measurements in taken.measurements.items()
        if all(row.key in one for one in measurements)
    }
    others = {
        OTHERS[module][0]: statistics.median(values)
        for module, values in figures.items()
        if module in OTHERS
    }
    floor = statistics.median(figures[FLOOR]) if FLOOR in figures else None
    return Result(row, figures[OURS], floor, others, taken.load.others_cores)
