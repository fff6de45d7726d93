"""Reads libraries/cases: what is run of one library, where, and what of it is not Mobula's affair."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases"
PROGRAMS = HERE / "programs"
SECONDS_DEFAULT = 120.0

WORDS = ("library", "version", "kind", "environment", "what")
TABLES = ("runs", "limits", "not_ours", "variables", "quick", "unfinished")
WORDS_OF_RUNS = ("tests", "sdist", "sha256", "pytest", "without", "example", "arguments", "program")


class CaseError(Exception):
    """A file of libraries/cases does not say what it has to."""


@dataclass(frozen=True)
class Run:
    """One command. A program of ours, tests (`pytest`) or an example of the library's own."""

    source: str  # "sdist", "package" or "program"
    sdist: str = ""
    sha256: str = ""
    pytest: tuple[str, ...] = ()
    without: tuple[str, ...] = ()  # What of the sdist must not be there.
    example: str = ""
    arguments: tuple[str, ...] = ()
    program: str = ""

    def describe(self) -> str:
        if self.program:
            return "written anew"
        return "own examples" if self.example else "own tests"


@dataclass(frozen=True)
class Case:
    library: str
    version: str
    kind: str
    environment: str
    what: str
    runs: tuple[Run, ...]
    seconds_max: float
    not_ours: Mapping[str, str]
    variables: Mapping[str, str]
    quick: bool
    unfinished: str = ""  # Why it is run by its name alone; empty for one that has run in all ways.

    def reason_not_ours(self, name: str) -> str | None:
        """Why an outcome does not count. An entry names a test or check, a test with all of its
        parameters, or all tests of a file or class."""
        program, _, check = name.partition("::")
        names = [name, check] if program in [run.program for run in self.runs] else [name]
        for entry, reason in self.not_ours.items():
            if any(one == entry or one.startswith((f"{entry}[", f"{entry}::")) for one in names):
                return reason
        return None

    def described_runs(self) -> str:
        return ", ".join(dict.fromkeys(run.describe() for run in self.runs))


def read_case(path: Path) -> Case:
    try:
        return _case(tomllib.loads(path.read_text()))
    except (CaseError, tomllib.TOMLDecodeError) as error:
        raise CaseError(f"{path.name}: {error}") from error


def read_cases(folder: Path = CASES) -> list[Case]:
    """All of them, sorted by library."""
    cases = [read_case(path) for path in folder.glob("*.toml")]
    return sorted(cases, key=lambda case: case.library.lower())


def _case(said: dict[str, Any]) -> Case:
    for word in WORDS:
        if not isinstance(said.get(word), str) or not said[word]:
            raise CaseError(f"`{word}` is missing")
    _refuse_unknown(said, (*WORDS, *TABLES), "the case")
    limits = said.get("limits", {})
    _refuse_unknown(limits, ("seconds",), "[limits]")
    runs = tuple(_run(table) for table in said.get("runs", []))
    if not runs:
        raise CaseError("there is no [[runs]]")
    return Case(
        **{word: said[word] for word in WORDS},
        runs=runs,
        seconds_max=float(limits.get("seconds", SECONDS_DEFAULT)),
        not_ours=_texts(said.get("not_ours", {}), "[not_ours]"),
        variables=_texts(said.get("variables", {}), "[variables]"),
        quick=said.get("quick") is True,
        unfinished=str(said.get("unfinished", "")),
    )


def _run(table: dict[str, Any]) -> Run:
    _refuse_unknown(table, WORDS_OF_RUNS, "[[runs]]")
    source = table.get("tests", "program")
    values = {key: value for key, value in table.items() if key != "tests"}
    for key in ("pytest", "without", "arguments"):
        values[key] = tuple(values.get(key, ()))
    run = Run(source=source, **values)
    whats = [bool(run.pytest), bool(run.example), bool(run.program)]
    if whats.count(True) != 1:
        raise CaseError("a run has one of `pytest`, `example` and `program`")
    if source not in ("sdist", "package", "program"):
        raise CaseError(f'`tests` is "sdist" or "package", not {source!r}')
    if (source == "program") != bool(run.program):
        raise CaseError("a `program` has no `tests`, and anything else has")
    if source == "sdist" and not (run.sdist and re.fullmatch("[0-9a-f]{64}", run.sha256)):
        raise CaseError("an sdist needs `sdist`, its file name, and `sha256`")
    if run.example and source != "sdist":
        raise CaseError("an `example` comes from an sdist")
    return run


def _texts(table: dict[str, Any], where: str) -> dict[str, str]:
    for key, value in table.items():
        if not isinstance(value, str) or not value:
            raise CaseError(f"{where}: {key!r} needs a text")
    return dict(table)


def _refuse_unknown(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise CaseError(f"{where} knows no {', '.join(unknown)}")
