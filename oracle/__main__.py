"""Runs the programs of the oracle under Ray and under Mobula and compares what came out.

python -m oracle                      everything; exit status 1 if there is an unexpected difference
python -m oracle --only cancel        programs, or cases, whose name has "cancel" in it
python -m oracle --list               the programs and their cases
python -m oracle --engine mobula      run one engine only and print its outcomes
python -m oracle --json FILE          write every outcome and verdict to FILE as well
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oracle.compare import Verdict, compare, print_differences, print_table
from oracle.engines import ENGINES, PROGRAMS, interpreter, run_program


def cases_of(program: Path) -> list[str]:
    """The names of the cases in a program, without running it."""
    tree = ast.parse(program.read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for mark in node.decorator_list:
                name = mark.func if isinstance(mark, ast.Call) else mark
                if isinstance(name, ast.Name) and name.id == "case":
                    found.append(node.name)
    return found


def select(only: str) -> list[tuple[Path, str]]:
    """(program, what the names of its cases must contain) of what `only` chooses; "" chooses all."""
    chosen = []
    for program in sorted(PROGRAMS.glob("*.py")):
        if only in program.stem:
            chosen.append((program, ""))
        elif any(only in name for name in cases_of(program)):
            chosen.append((program, only))
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m oracle", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--only", default="", metavar="WORD", help="part of a program's or case's name"
    )
    parser.add_argument("--list", action="store_true", help="print programs and cases")
    parser.add_argument("--engine", choices=ENGINES, help="run this engine only, compare nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes to FILE")
    parser.add_argument("--seconds", type=float, default=300.0, help="limit per program and engine")
    options = parser.parse_args(arguments)

    chosen = select(options.only)
    if not chosen:
        print(f"no program and no case has {options.only!r} in its name", file=sys.stderr)
        return 2
    if options.list:
        for program, part in chosen:
            print(program.stem)
            print("".join(f"  {name}\n" for name in cases_of(program) if part in name), end="")
        return 0
    engines = [options.engine] if options.engine else list(ENGINES)
    for engine in engines:
        if not interpreter(engine).exists():
            print(f"{interpreter(engine)} is not there: run `make oracle`", file=sys.stderr)
            return 2

    records: list[dict[str, Any]] = []
    remarks: list[str] = []
    verdicts: list[Verdict] = []
    for program, part in chosen:
        outcomes = {}
        for engine in engines:
            print(f"{program.stem} under {engine} ...", file=sys.stderr, flush=True)
            outcomes[engine] = run_program(program, engine, part, options.seconds, remarks)
        records.append({"program": program.stem, "outcomes": outcomes})
        if len(engines) == 1:
            print_outcomes(program.stem, outcomes[engines[0]])
        else:
            expected = [name for name in cases_of(program) if part in name]
            verdicts += compare(program.stem, expected, outcomes)
    if options.json:
        lines = [verdict.as_json() for verdict in verdicts]
        options.json.write_text(
            json.dumps({"programs": records, "verdicts": lines, "remarks": remarks}, indent=1)
            + "\n"
        )
    if remarks:
        print("Engines that died or hung:", *remarks, sep="\n  ", end="\n\n")
    if len(engines) == 1:
        return 0
    print_table(verdicts)
    print_differences(verdicts)
    return 1 if any(verdict.is_unexpected for verdict in verdicts) else 0


def print_outcomes(program: str, outcomes: dict[str, dict[str, Any]]) -> None:
    """What one engine did, one paragraph per case."""
    print(f"== {program}")
    for name, outcome in outcomes.items():
        print(f"{name} ({outcome['seconds']} s)\n    {json.dumps(outcome['compared'])}")
        for line in outcome["message"].splitlines():
            print(f"    | {line}")


if __name__ == "__main__":
    sys.exit(main())
