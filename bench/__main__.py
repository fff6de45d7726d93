"""make bench, or: python -m bench [--quick] [--only NAME]... [--json FILE] [--list]"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import cases, record, table
from bench.runner import SubjectFailed
from bench.settings import QUICK, Settings
from bench.subjects.floor import build

ROOT = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Mobula here.")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="see that everything can be measured; figures are rough",
    )
    parser.add_argument(
        "--only", action="append", choices=cases.ROW_NAMES, metavar="NAME", help="see --list"
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
        print("\n".join(cases.ROW_NAMES))
        return 0
    settings = QUICK if options.quick else Settings()
    wanted = set(options.only or cases.ROW_NAMES)
    build()
    machine = record.machine()
    print(describe(machine), flush=True)
    results: list[cases.Result] = []
    raw: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for case in cases.CASES:
        if wanted.isdisjoint(row.name for row in case.rows):
            continue
        print(f"  {case.subject} ...", file=sys.stderr, flush=True)
        try:
            rows, details = cases.measure(case, settings)
        except SubjectFailed as error:
            failed[case.subject] = str(error)
            continue
        raw[case.subject] = {**details, "settings": asdict(details["settings"])}
        results += [result for result in rows if result.row.name in wanted]
    rows_json = [record.row_record(result, settings) for result in results]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(
        json.dumps(
            {
                "machine": machine,
                "quick": settings.quick,
                "rows": rows_json,
                "failed": failed,
                "raw": raw,
            },
            indent=1,
        )
        + "\n"
    )
    if results:
        print(f"\n{table.render(results, settings)}\n\n{table.LEGEND}")
    if settings.quick:
        print("This was a quick run: its figures say only that everything can be measured.")
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}")
    print(f"everything that was measured: {options.json}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
