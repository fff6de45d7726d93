"""Runs libraries that say `import ray`, by their own tests and by examples, under Ray and under Mobula.

python -m libraries                       everything, and the table of docs/libraries.md
python -m libraries --only stumpy         one library, or those with the word in their names
python -m libraries --only stumpy --way mobula --way shim
python -m libraries --quick               some small ones on Mobula, in less than two minutes
python -m libraries --table               makes the table anew from what is kept in build/libraries
python -m libraries --list                the libraries

Exit status 1: a test or check that counts did not pass, or something was left behind.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from libraries import environments, table
from libraries.case_files import Case, CaseError, read_cases
from libraries.runs import Result, run_case
from libraries.ways import WAYS, Way, network_prefix

WAYS_QUICK = ("mobula", "shim")


def choose(cases: Sequence[Case], only: Sequence[str], quick: bool) -> list[Case]:
    """A name that is a library's chooses that one; other words choose what has them in its name. One
    that is not finished has to be named."""
    chosen = [
        case
        for case in cases
        if (case.quick or not quick) and (not case.unfinished or case.library in only)
    ]
    if not only:
        return chosen
    names = {case.library for case in cases}
    return [
        case
        for case in chosen
        if any(
            word == case.library or (word not in names and word in case.library) for word in only
        )
    ]


def run_one(case: Case, way: Way, times: int) -> Result:
    """The quickest of `times` runs, or the first one that is not all right."""
    python = environments.prepare(case.environment, way)
    outputs = table.RESULTS / "output"
    outputs.mkdir(parents=True, exist_ok=True)
    best: Result | None = None
    for _ in range(times):
        result = run_case(case, way, python, outputs)
        if table.complaints(case, {way.name: result}):
            return result
        if best is None or result.seconds < best.seconds:
            best = result
    assert best is not None
    return best


def check_version(case: Case) -> None:
    pinned = environments.pins_of(case.environment).get(environments.normal(case.library))
    if pinned != case.version:
        raise CaseError(f"{case.environment}.txt has {case.library} {pinned}, not {case.version}")


def run(cases: Sequence[Case], ways: Sequence[str], times: int) -> bool:
    """Whether all that counts passed."""
    all_well = True
    begun = time.monotonic()
    for number, case in enumerate(cases, 1):
        results: dict[str, Result] = {}
        try:
            check_version(case)
            for way in ways:
                print(f"[{number}/{len(cases)}] {case.library}, {way}: ", end="", flush=True)
                results[way] = run_one(case, WAYS[way], times)
                table.keep(case, way, results[way])
                names = table.counted(case, results)
                passed = len(table.passed(names, results[way]))
                print(f"{passed} of {len(names)} passed, {results[way].seconds:.1f} s", flush=True)
        except (CaseError, environments.EnvironmentFailed) as error:
            print(f"\n    {error}", flush=True)
            all_well = False
            continue
        wrong = table.complaints(case, results)
        all_well = all_well and not wrong
        for line in (*wrong, *table.remarks(case, results)):
            print(f"    {line}", flush=True)
    print(f"{len(cases)} libraries in {time.monotonic() - begun:.0f} s")
    return all_well


def heed_termination() -> None:
    """What runs is ended with the runner. A second signal does not keep it from that: `timeout` passes
    on the one that its process group has been sent already."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m libraries",
        description=(__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", default=[], metavar="WORD")
    parser.add_argument("--way", action="append", default=[], choices=list(WAYS))
    parser.add_argument("--times", type=int, default=1, metavar="N", help="the quickest of N runs")
    parser.add_argument("--patience", type=float, default=1.0, help="what to multiply limits by")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args(arguments)
    heed_termination()
    try:
        cases = [
            replace(case, seconds_max=case.seconds_max * options.patience) for case in read_cases()
        ]
        if options.table:
            table.PAGE.write_text(table.render(cases, table.PAGE.read_text()))
            return 0
        chosen = choose(cases, options.only, options.quick)
        if not chosen:
            print("no such library", file=sys.stderr)
            return 2
        if options.list:
            for case in cases:
                unfinished = f" [unfinished: {case.unfinished}]" if case.unfinished else ""
                print(
                    f"{case.library} {case.version} ({case.environment}): {case.what}{unfinished}"
                )
            return 0
        ways = options.way or (WAYS_QUICK if options.quick else tuple(WAYS))
        if "ray" in ways and not network_prefix():
            print("Ray needs a network namespace, which this kernel refuses", file=sys.stderr)
            return 2
        all_well = run(chosen, ways, max(1, options.times))
        if chosen == choose(cases, [], False) and set(ways) == set(WAYS):
            table.PAGE.write_text(table.render(cases, table.PAGE.read_text()))
    except (CaseError, environments.EnvironmentFailed) as error:
        print(f"libraries: {error}", file=sys.stderr)
        return 2
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
