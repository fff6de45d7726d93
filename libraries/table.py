"""Kept results, and the table of docs/libraries.md that is made from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libraries.case_files import Case
from libraries.runs import FAILED, PASSED, SKIPPED, Result
from libraries.ways import WAYS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "libraries"
PAGE = ROOT / "docs" / "libraries.md"
BEGIN, END = (f"<!-- {word} of what `make libraries` writes -->" for word in ("begin", "end"))
HEAD = (
    "| library | kind | what runs | Ray | mobula.ray | as-ray | s, Ray | s, mobula.ray | s, as-ray |",
    "| --- | --- | --- | --: | --: | --: | --: | --: | --: |",
)
NOT_OURS = "What of these does not count, and why:"
UNFINISHED = "Not finished, run with `--only` and the name alone:"
# What a start and a look at the clock may differ by.
SLOWER_RATIO = 1.1
SLOWER_SECONDS = 0.5


@dataclass
class Kept:
    """The results of one library in the ways in which it was run."""

    version: str
    ways: dict[str, Result]


def path_of(library: str, folder: Path = RESULTS) -> Path:
    return folder / f"{library}.json"


def load(case: Case, folder: Path = RESULTS) -> Kept:
    """What is kept of the case; of another version nothing is."""
    path = path_of(case.library, folder)
    if path.exists():
        said: dict[str, Any] = json.loads(path.read_text())
        if said["version"] == case.version:
            ways = {name: Result.from_json(way) for name, way in said["ways"].items()}
            return Kept(case.version, ways)
    return Kept(case.version, {})


def keep(case: Case, way: str, result: Result, folder: Path = RESULTS) -> Kept:
    kept = load(case, folder)
    kept.ways[way] = result
    ways = {name: one.as_json() for name, one in kept.ways.items()}
    text = json.dumps({"library": case.library, "version": case.version, "ways": ways}, indent=1)
    path_of(case.library, folder).write_text(f"{text}\n")
    return kept


def counted(case: Case, ways: Mapping[str, Result]) -> list[str]:
    """The tests and checks that count: those that ran in some way and are Mobula's affair. One that is
    missing in a way has not passed there."""
    names: dict[str, None] = {}
    for result in ways.values():
        for name, (status, _) in result.outcomes.items():
            if status != SKIPPED and case.reason_not_ours(name) is None:
                names[name] = None
    return list(names)


def passed(names: Iterable[str], result: Result) -> list[str]:
    return [name for name in names if result.outcomes.get(name, ("", ""))[0] == PASSED]


def complaints(case: Case, ways: Mapping[str, Result]) -> list[str]:
    """What is wrong with the results; empty if all is well."""
    said = []
    names = counted(case, ways)
    if not names:
        said.append("nothing was counted")
    for way, result in ways.items():
        said += [f"{way}: {trouble}" for trouble in result.troubles]
        for name in sorted(set(names) - set(passed(names, result))):
            why = result.outcomes.get(name, (FAILED, "it did not run"))[1]
            said.append(f"{way}: {name}: {why}")
    return said


def remarks(case: Case, ways: Mapping[str, Result]) -> list[str]:
    """What should be looked at: slower than under Ray, or `not_ours` without need."""
    said = []
    if "ray" in ways:
        limit = ways["ray"].seconds * SLOWER_RATIO + SLOWER_SECONDS
        for way, result in ways.items():
            if result.seconds > limit:
                said.append(
                    f"{way}: slower than under Ray: {result.seconds:.1f} s, {ways['ray'].seconds:.1f} s"
                )
    outcomes = [item for result in ways.values() for item in result.outcomes.items()]
    for entry in case.not_ours:
        only = {entry: case.not_ours[entry]}
        hit = [status for name, (status, _) in outcomes if _names(case, only, name)]
        if not hit:
            said.append(f"not_ours: {entry} did not run")
        elif set(hit) == {PASSED}:
            said.append(f"not_ours: {entry} passes everywhere")
    return said


def _names(case: Case, entries: Mapping[str, str], name: str) -> bool:
    return Case(**{**vars(case), "not_ours": entries}).reason_not_ours(name) is not None


def row(case: Case, ways: Mapping[str, Result]) -> str:
    names = counted(case, ways)
    counts, seconds = [], []
    for way in WAYS:
        result = ways.get(way)
        if result is None:
            counts.append("")
            seconds.append("")
            continue
        mark = " (!)" if result.troubles else ""
        counts.append(f"{len(passed(names, result))}/{len(names)}{mark}")
        seconds.append(f"{result.seconds:.1f}")
    what = f"{case.what} ({case.described_runs()})"
    cells = [f"{case.library} {case.version}", case.kind, what, *counts, *seconds]
    return f"| {' | '.join(cells)} |"


def render(cases: Iterable[Case], page: str, folder: Path = RESULTS) -> str:
    """The page with the table made anew. A library without kept results keeps the row that it has."""
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    rows_there = {
        line.split("|")[1].strip(): line for line in old.splitlines() if line.startswith("| ")
    }
    rows, reasons, unfinished = [], [], []
    for case in cases:
        if case.unfinished:
            unfinished.append(f"- {case.library} {case.version}: {case.unfinished}")
            continue
        ways = load(case, folder).ways
        there = rows_there.get(f"{case.library} {case.version}")
        if len(ways) == len(WAYS) or (ways and there is None):
            rows.append(row(case, ways))
        elif there is not None:
            rows.append(there)
        else:
            continue
        reasons += [f"- {case.library}: `{name}`: {why}" for name, why in case.not_ours.items()]
    parts = [BEGIN, "", *HEAD, *rows, ""]
    if reasons:
        parts += [NOT_OURS, "", *reasons, ""]
    if unfinished:
        parts += [UNFINISHED, "", *unfinished, ""]
    return before + "\n".join([*parts, END]) + after
