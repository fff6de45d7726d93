"""The rows that are measured beside the real Ray: how many times as good Mobula has to be.

Ray is optional. Without `.venv-ray` the rows have Mobula's figures only, and what they say of Ray is
left open.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from bench.cases import OTHERS_CORES_MAX, OURS
from bench.runner import RAY_ITSELF, Taken, take
from bench.settings import Settings


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    unit: str
    key: str  # Of the measurement.
    times_ray: float | None = None  # As good as Ray at least so many times.
    bound: float | None = None  # And by itself: at least, or at most, this.
    more_is_better: bool = True


@dataclass(frozen=True)
class Case:
    subject: str
    rows: tuple[Row, ...]
    repeats: str = "beside_repeats"


@dataclass(frozen=True)
class Result:
    row: Row
    ours: list[float]
    ray: list[float]  # Empty: there is no Ray here.
    others_cores: float

    @property
    def measured(self) -> float:
        return statistics.median(self.ours)

    @property
    def of_ray(self) -> float | None:
        return statistics.median(self.ray) if self.ray else None

    @property
    def times(self) -> float | None:
        if self.of_ray is None:
            return None
        better, worse = (
            (self.measured, self.of_ray)
            if self.row.more_is_better
            else (self.of_ray, self.measured)
        )
        return better / worse if worse else None

    @property
    def met(self) -> bool | None:
        """None: it depends on a Ray that is not there."""
        row = self.row
        if row.bound is not None:
            enough = (
                self.measured >= row.bound if row.more_is_better else self.measured <= row.bound
            )
            if not enough:
                return False
        if row.times_ray is None:
            return True
        return None if self.times is None else self.times >= row.times_ray

    @property
    def noisy(self) -> bool:
        return self.others_cores > OTHERS_CORES_MAX


def rate(name: str, title: str, key: str, times_ray: float = 15) -> Row:
    return Row(name, title, "/s", key, times_ray)


def seconds(name: str, title: str, key: str, times_ray: float = 1) -> Row:
    return Row(name, title, "s", key, times_ray, more_is_better=False)


CASES = (
    Case(
        "beside-tasks",
        (
            rate("ray-tasks", "1000 tasks, then get", "tasks"),
            rate("ray-tasks-arg", "the same with one small int", "tasks_with_argument"),
            rate("ray-get-loop", "get(nop.remote()) in a loop", "one_by_one"),
            Row("ray-nested", "nested, from two workers", "/s", "nested", 15, 150_000),
            rate("ray-chain", "chain of 100", "chain"),
            rate("ray-wait", "wait on 1000 refs, one by one", "wait"),
        ),
    ),
    Case(
        "beside-queued",
        (
            rate("queued-submit", "{queued:,} tasks queued", "submit_per_s"),
            rate("queued-finish", "and finished", "finish_per_s"),
            Row(
                "queued-memory",
                "memory of a queued task",
                "bytes",
                "bytes_per_task",
                1,
                600,
                more_is_better=False,
            ),
            Row(
                "queued-end",
                "last tenth, as fast as the first",
                "times",
                "last_over_first",
                bound=0.8,
            ),
        ),
        repeats="queued_repeats",
    ),
    Case(
        "beside-objects",
        (
            rate("ray-put-small", "put(0)", "put_small", 20),
            rate("ray-get-small", "get(ref) of a small object", "get_small", 20),
            seconds("refs-in-one-task", "10,000 refs as arguments", "refs_in_one_task"),
            seconds("returns-of-one-task", "3,000 returns of one task", "returns_of_one_task"),
            seconds("objects-of-one-get", "get of 10,000 objects", "objects_of_one_get"),
            seconds("refs-in-one-object", "object of 10,000 refs, got twice", "refs_in_one_object"),
            seconds("live-refs", "100,000 live refs of tasks", "live_refs"),
        ),
    ),
    Case(
        "beside-arrays",
        (
            Row("ray-put-array", "put of 100 MiB, warm", "GB/s", "put_gb_per_s", 1.5),
            Row("put-percent", "the same", "% of memcpy", "put_percent_of_memcpy", bound=80),
            Row(
                "argument",
                "1 MiB array as an argument",
                "us",
                "argument_us",
                1,
                more_is_better=False,
            ),
            Row(
                "argument-copies",
                "copies of each byte of one",
                "x memcpy",
                "argument_copies",
                bound=1.5,
                more_is_better=False,
            ),
        ),
    ),
    Case(
        "beside-actors",
        (
            Row("calls", "1000 calls of an actor, then get", "/s", "pipelined", 15, 1_800_000),
            Row("calls-loop", "get(actor.nop.remote()) in a loop", "/s", "one_by_one", 15, 450_000),
            Row("calls-asyncio", "1000 calls of an asyncio actor", "/s", "asyncio", 15, 200_000),
            Row("calls-2x2", "two callers, an actor each", "/s", "two_callers", 15, 100_000),
            Row(
                "actors-at-once",
                "100 actors made and answering",
                "s",
                "at_once_s",
                1,
                0.2,
                more_is_better=False,
            ),
            Row(
                "calls-argument",
                "call with a 1 MiB array",
                "us",
                "argument_us",
                1,
                more_is_better=False,
            ),
        ),
    ),
)
ROW_NAMES = tuple(row.name for case in CASES for row in case.rows)


def measure(case: Case, settings: Settings, with_ray: bool) -> tuple[list[Result], dict[str, Any]]:
    """The rows of the case, and everything that was measured for them."""
    modules = (OURS, RAY_ITSELF) if with_ray else (OURS,)
    taken = take(modules, case.subject, getattr(settings, case.repeats), settings)
    return [result_of(row, taken) for row in case.rows], taken.raw(settings)


def result_of(row: Row, taken: Taken) -> Result:
    return Result(
        row=row,
        ours=[one[row.key] for one in taken.measurements[OURS]],
        ray=[one[row.key] for one in taken.measurements.get(RAY_ITSELF, [])],
        others_cores=taken.load.others_cores,
    )
