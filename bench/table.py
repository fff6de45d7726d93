"""The table as text."""

from __future__ import annotations

from dataclasses import asdict

from bench.cases import OTHERS_CORES_MAX, Result
from bench.settings import Settings

HEADINGS = (
    *("case", "measured", "min - max", "target", "met"),
    *("floor", "x floor", "Pool", "x Pool", "others"),
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
    rows = [HEADINGS, *(cells(result, settings) for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
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
