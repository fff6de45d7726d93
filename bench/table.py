"""The table as text."""

from __future__ import annotations

from dataclasses import asdict

from bench import beside_ray, ways_in
from bench.cases import OTHERS_CORES_MAX, Result
from bench.settings import Settings

HEADINGS = (
    *("case", "measured", "min - max", "target", "met"),
    *("floor", "x floor", "Pool", "x Pool", "others"),
)
HEADINGS_BESIDE_RAY = (
    *("beside Ray", "Mobula", "min - max", "Ray", "min - max", "x Ray", "target", "met", "others"),
)
HEADINGS_WAYS_IN = (
    *("ways in", "measured", "min - max", "target", "met", "floor", "x floor"),
    *("best of the others", "x others", "others"),
)
LEFT_ALIGNED = 1


def number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def cells(result: Result, settings: Settings) -> tuple[str, ...]:
    row = result.row
    bound = ">=" if row.more_is_better else "<="
    return (
        row.title.format(**asdict(settings)),
        f"{number(result.measured)} {row.unit}",
        f"{number(min(result.ours))} - {number(max(result.ours))}",
        f"{bound} {number(row.target)}",
        "yes" if result.met else "MISSED",
        number(result.floor),
        times(result.times_as_good_as(result.floor)),
        number(result.pool),
        times(result.times_as_good_as(result.pool)),
        f"{result.others_cores:.2f}{' ~' if result.noisy else ''}",
    )


def render(results: list[Result], settings: Settings) -> str:
    return aligned([HEADINGS, *(cells(result, settings) for result in results)])


def render_beside_ray(results: list[beside_ray.Result], settings: Settings) -> str:
    rows = (cells_beside_ray(result, settings) for result in results)
    return aligned([HEADINGS_BESIDE_RAY, *rows])


def cells_beside_ray(result: beside_ray.Result, settings: Settings) -> tuple[str, ...]:
    row = result.row
    targets = [] if row.times_ray is None else [f"{number(row.times_ray)} x Ray"]
    if row.bound is not None:
        targets.append(f"{'>=' if row.more_is_better else '<='} {number(row.bound)}")
    return (
        row.title.format(**asdict(settings)),
        f"{number(result.measured)} {row.unit}",
        f"{number(min(result.ours))} - {number(max(result.ours))}",
        number(result.of_ray),
        f"{number(min(result.ray))} - {number(max(result.ray))}" if result.ray else "-",
        times(result.times),
        ", ".join(targets),
        {True: "yes", False: "MISSED", None: "?"}[result.met],
        f"{result.others_cores:.2f}{' ~' if result.noisy else ''}",
    )


def render_ways_in(results: list[ways_in.Result]) -> str:
    return aligned([HEADINGS_WAYS_IN, *map(cells_of_way_in, results)])


def cells_of_way_in(result: ways_in.Result) -> tuple[str, ...]:
    row = result.row
    targets = [] if row.target is None else [f">= {number(row.target)}"]
    if row.times_others is not None:
        targets.append(f"{number(row.times_others)} x others")
    best = result.best
    return (
        row.title,
        f"{number(result.measured)} /s",
        f"{number(min(result.ours))} - {number(max(result.ours))}",
        ", ".join(targets),
        {True: "yes", False: "MISSED", None: "?"}[result.met],
        number(result.floor),
        times(result.times_floor),
        "-" if best is None else f"{number(result.others[best])} {best}",
        times(result.times_others),
        f"{result.others_cores:.2f}{' ~' if result.noisy else ''}",
    )


def aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        padded = [
            cell.ljust(width) if i < LEFT_ALIGNED else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


LEGEND = f"""\
measured: the median of all repeats. floor: two Python processes over a ring, without any bookkeeping;
for put, memcpy; for a start, an interpreter that forks once; for CPU-bound tasks, plain processes.
x floor, x Pool: how many times as good as those. others: cores that other programs used meanwhile;
rows with ~ had more than {OTHERS_CORES_MAX:.2f} and are not to be trusted."""

LEGEND_BESIDE_RAY = """\
x Ray: how many times as good. Ray had {queued_in_ray:,} queued tasks, since a million would take it
minutes; rates and bytes are per task."""
LEGEND_WAYS_IN = """\
floor: the interface with nothing behind it. others: ProcessPoolExecutor, multiprocessing.Pool and a
manager's queue ("processes"), loky, dask.distributed and Ray, as far as they have such a thing and are
installed."""
WITHOUT_RAY = """\
The real Ray was not measured (it lives in .venv-ray): the rows beside it have Mobula's figures only.
`make bench` installs it."""
