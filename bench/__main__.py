"""make bench, or: python -m bench [--quick] [--only NAME]... [--json FILE] [--list]"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import beside_ray, cases, record, table, ways_in
from bench.runner import SubjectFailed, ray_is_there
from bench.settings import QUICK, Settings
from bench.subjects.floor import build

ROOT = Path(__file__).resolve().parents[1]
ROW_NAMES = cases.ROW_NAMES + ways_in.ROW_NAMES + beside_ray.ROW_NAMES


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Mobula here.")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="see that everything can be measured; figures are rough",
    )
    parser.add_argument(
        "--only", action="append", choices=ROW_NAMES, metavar="NAME", help="see --list"
    )
    parser.add_argument(
        "--without-ray", action="store_true", help="leave the real Ray out, also where it is"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "latest.json")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    return parser.parse_args()


def describe(machine: dict[str, Any]) -> str:
    load = ", ".join(f"{average:.2f}" for average in machine["load_average"])
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, "
        f"Python {machine['python']}, Mobula {machine['mobula']} {machine['commit']}\n"
        f"load average at the start: {load}; memory available: {machine['memory_available']}"
    )


def main() -> int:
    options = arguments()
    if options.list:
        print("\n".join(ROW_NAMES))
        return 0
    settings = QUICK if options.quick else Settings()
    with_ray = ray_is_there() and not options.without_ray
    wanted = set(options.only or ROW_NAMES)
    build()
    machine = record.machine()
    print(describe(machine), flush=True)
    results: list[cases.Result] = []
    ways: list[ways_in.Result] = []
    beside: list[beside_ray.Result] = []
    raw: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for case in (*cases.CASES, *ways_in.CASES, *beside_ray.CASES):
        if wanted.isdisjoint(row.name for row in case.rows):
            continue
        print(f"  {case.subject} ...", file=sys.stderr, flush=True)
        try:
            if isinstance(case, cases.Case):
                rows, details = cases.measure(case, settings)
                results += [result for result in rows if result.row.name in wanted]
            elif isinstance(case, ways_in.Case):
                some, details = ways_in.measure(case, settings, with_ray)
                ways += [result for result in some if result.row.name in wanted]
            else:
                more, details = beside_ray.measure(case, settings, with_ray)
                beside += [result for result in more if result.row.name in wanted]
        except SubjectFailed as error:
            failed[case.subject] = str(error)
            continue
        raw[case.subject] = {**details, "settings": asdict(details["settings"])}
    rows_json = [record.row_record(result, settings) for result in results]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(
        json.dumps(
            {
                "machine": machine,
                "quick": settings.quick,
                "rows": rows_json,
                "ways_in": [record.row_record_of_way_in(one) for one in ways],
                "beside_ray": [record.row_record_beside_ray(one, settings) for one in beside],
                "failed": failed,
                "raw": raw,
            },
            indent=1,
        )
        + "\n"
    )
    if results:
        print(f"\n{table.render(results, settings)}\n\n{table.LEGEND}")
    if ways:
        print(f"\n{table.render_ways_in(ways)}\n\n{table.LEGEND_WAYS_IN}")
    if beside:
        print(f"\n{table.render_beside_ray(beside, settings)}\n")
        there = table.LEGEND_BESIDE_RAY.format(**asdict(settings))
        print(there if with_ray else table.WITHOUT_RAY)
    if settings.quick:
        print("This was a quick run: its figures say only that everything can be measured.")
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}")
    print(f"everything that was measured: {options.json}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
