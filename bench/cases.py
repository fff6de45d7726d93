"""The rows of the table: what each compares, and the least (or most) that Mobula has to reach."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench.runner import Measurement, Taken, take
from bench.settings import Settings
from bench.subjects import seconds_of_work

OURS, POOL, FLOOR = "ours", "pool", "floor"

# With more of a core than this used by others, a row is marked as noisy.
OTHERS_CORES_MAX = 0.10

Figures = Callable[[Taken], list[float]]
STEPS_FIRST_TRY = 10_000


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    unit: str
    target: float
    ours: Figures
    more_is_better: bool = False
    floor: Figures | None = None
    pool: Figures | None = None
    # What must hold besides, e.g. that nothing was copied.
    holds: Callable[[Taken], bool] = lambda taken: True


@dataclass(frozen=True)
class Case:
    """One subject, measured for one row or several."""

    subject: str
    modules: tuple[str, ...]
    rows: tuple[Row, ...]
    at_once: bool = False
    only_waits: bool = False


@dataclass(frozen=True)
class Result:
    row: Row
    ours: list[float]
    floor: float | None
    pool: float | None
    met: bool
    others_cores: float

    @property
    def measured(self) -> float:
        return statistics.median(self.ours)

    @property
    def noisy(self) -> bool:
        return self.others_cores > OTHERS_CORES_MAX

    def times_as_good_as(self, other: float | None) -> float | None:
        """2.0: twice the rate, or half the cost."""
        if other is None:
            return None
        better, worse = (
            (self.measured, other) if self.row.more_is_better else (other, self.measured)
        )
        return better / worse if worse else None


def value_of(module: str, key: str = "value") -> Figures:
    return lambda taken: [one[key] for one in taken.measurements[module]]


def rate(name: str, title: str, target: float, modules: tuple[str, ...]) -> Case:
    row = Row(
        name=name,
        title=title,
        unit="/s",
        target=target,
        more_is_better=True,
        ours=value_of(OURS),
        floor=value_of(FLOOR) if FLOOR in modules else None,
        pool=value_of(POOL) if POOL in modules else None,
    )
    return Case(name, modules, (row,))


def cost(name: str, title: str, unit: str, target: float, *, at_once: bool = False) -> Case:
    row = Row(name, title, unit, target, ours=value_of(OURS), pool=value_of(POOL))
    return Case(name, (OURS, POOL), (row,), at_once=at_once, only_waits=at_once)


def pool_percent_of_memcpy(taken: Taken) -> list[float]:
    memcpy = statistics.median(value_of(OURS, "memcpy_gb_per_s")(taken))
    return [100 * sent / memcpy for sent in value_of(POOL)(taken)]


def over_plain_processes(module: str) -> Figures:
    """Against the plain processes that ran just before or after it."""
    return lambda taken: [
        one["value"] / plain["value"]
        for one, plain in zip(taken.measurements[module], taken.measurements[FLOOR], strict=True)
    ]


ARRAY = Case(
    "array",
    (OURS, POOL),
    (
        Row(
            name="put-array",
            title="put of a {array_mib} MiB array, warm",
            unit="% of memcpy",
            target=70,
            more_is_better=True,
            ours=value_of(OURS),
            floor=lambda taken: [100.0],
            pool=pool_percent_of_memcpy,
        ),
        Row(
            name="get-array",
            title="get of it, without a copy",
            unit="us",
            target=20,
            ours=value_of(OURS, "get_us"),
            holds=lambda taken: (
                all(one["get_no_copy"] for one in taken.measurements[OURS])
                and taken.facts[OURS]["get_in_a_worker_no_copy"]
            ),
        ),
    ),
)

START = Case(
    "start",
    (OURS, FLOOR, POOL),
    (
        Row(
            name="start",
            title="init() to first result",
            unit="s",
            target=0.5,
            ours=value_of(OURS),
            floor=value_of(FLOOR),
            pool=value_of(POOL),
        ),
    ),
)

CPU_BOUND = Case(
    "cpu-bound",
    (OURS, FLOOR, POOL),
    (
        Row(
            name="cpu-bound",
            title="tasks of {cpu_task_ms:g} ms on {workers} cores",
            unit="x plain",
            target=1.03,
            ours=over_plain_processes(OURS),
            floor=over_plain_processes(FLOOR),
            pool=over_plain_processes(POOL),
        ),
    ),
)


def percent_of_the_floor(key: str) -> Figures:
    return lambda taken: [
        100 * ours[key] / plain[key]
        for ours, plain in zip(taken.measurements[OURS], taken.measurements[FLOOR], strict=True)
    ]


SPILL = Case(
    "spill",
    (OURS, FLOOR),
    (
        Row(
            name="spill",
            title="{spilled_mib} MiB put through a store of {spill_store_mib} MiB",
            unit="% of the disk",
            target=70,
            more_is_better=True,
            ours=percent_of_the_floor("value"),
            floor=lambda taken: [100.0],
        ),
        Row(
            name="restore",
            title="get of all that, one by one",
            unit="% of the disk",
            target=70,
            more_is_better=True,
            ours=percent_of_the_floor("read"),
            floor=lambda taken: [100.0],
        ),
    ),
)

ALL_THREE = (OURS, FLOOR, POOL)
CASES = (
    rate("tasks", "get([nop.remote() for _ in range(1000)])", 100_000, ALL_THREE),
    Case(
        "observed",
        (OURS,),
        (
            Row(
                name="observed",
                title="that rate, asked for state and metrics every 100 ms",
                unit="% of it",
                target=90,
                more_is_better=True,
                ours=value_of(OURS),
            ),
        ),
    ),
    rate("tasks-arg", "the same with one small int", 80_000, ALL_THREE),
    rate("get-loop", "get(nop.remote()) in a loop", 30_000, ALL_THREE),
    rate("put-small", "put(0)", 300_000, (OURS,)),
    rate("get-small", "get(ref) of a small local object", 300_000, (OURS,)),
    ARRAY,
    SPILL,
    START,
    cost("memory", "memory: daemon, zygote, {workers} idle workers", "MiB", 60),
    cost("idle", "idle node", "% of a core", 1, at_once=True),
    cost("waiting", "a get that waits {wait_s:g} s", "% of a core", 1, at_once=True),
    CPU_BOUND,
)
ROW_NAMES = tuple(row.name for case in CASES for row in case.rows)


def with_steps_of_work(settings: Settings) -> Settings:
    """Finds how much work takes cpu_task_ms on a core of this machine when nothing disturbs it."""
    fastest = min(seconds_of_work(STEPS_FIRST_TRY) for _ in range(200))
    steps = round(STEPS_FIRST_TRY * settings.cpu_task_ms / 1e3 / fastest)
    return replace(settings, cpu_task_steps=steps)


def measure(case: Case, settings: Settings) -> tuple[list[Result], dict[str, Any]]:
    """The rows of the case, and everything that was measured for them."""
    if case.subject == CPU_BOUND.subject:
        settings = with_steps_of_work(settings)
    repeats = settings.wait_repeats if case.only_waits else settings.repeats
    taken = take(case.modules, case.subject, repeats, settings, at_once=case.at_once)
    raw: dict[str, Measurement | list[Measurement]] = {
        module: [taken.facts[module], *taken.measurements[module]] for module in case.modules
    }
    results = [result_of(row, taken) for row in case.rows]
    return results, {"settings": settings, "facts_then_measurements": raw}


def result_of(row: Row, taken: Taken) -> Result:
    ours = row.ours(taken)
    measured = statistics.median(ours)
    enough = measured >= row.target if row.more_is_better else measured <= row.target
    return Result(
        row=row,
        ours=ours,
        floor=statistics.median(row.floor(taken)) if row.floor else None,
        pool=statistics.median(row.pool(taken)) if row.pool else None,
        met=enough and row.holds(taken),
        others_cores=taken.load.others_cores,
    )
