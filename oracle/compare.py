"""Verdicts about the cases of one program, and how they are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SAME = "same"
INTENDED = "intended"
DIFFERENT = "different"
NOT_DIFFERENT = "declared as different, but the same"
MESSAGE_LINES_SHOWN = 6


@dataclass(frozen=True)
class Verdict:
    """What came of one case. `outcomes` has an entry per engine; None where it never got there."""

    program: str
    case: str
    kind: str
    reason: str  # Why it is meant to differ; "" if it is not.
    outcomes: dict[str, dict[str, Any] | None]

    @property
    def is_unexpected(self) -> bool:
        return self.kind in (DIFFERENT, NOT_DIFFERENT)

    def as_json(self) -> dict[str, Any]:
        return {**self.__dict__}


def compare(
    program: str, cases: Iterable[str], outcomes: dict[str, dict[str, dict[str, Any]]]
) -> list[Verdict]:
    """One verdict per case of `cases`. `outcomes` is: engine to case to outcome."""
    return [
        _verdict(program, case, {engine: found.get(case) for engine, found in outcomes.items()})
        for case in cases
    ]


def _verdict(program: str, case: str, outcomes: dict[str, dict[str, Any] | None]) -> Verdict:
    known = [outcome for outcome in outcomes.values() if outcome is not None]
    compared = [outcome["compared"] for outcome in known]
    reason = known[0]["differs"] if known else ""
    equal = len(known) == len(outcomes) and all(one == compared[0] for one in compared)
    if equal:
        kind = NOT_DIFFERENT if reason else SAME
    else:
        kind = INTENDED if reason and len(known) == len(outcomes) else DIFFERENT
    return Verdict(program, case, kind, reason, outcomes)


def print_table(verdicts: list[Verdict]) -> None:
    """One row per program, and the sum."""
    print(f"{'program':<16}{'cases':>7}{'same':>7}{'intended':>10}{'different':>11}")
    programs = list(dict.fromkeys(verdict.program for verdict in verdicts))
    for program in [*programs, "all"]:
        its = [verdict for verdict in verdicts if program in (verdict.program, "all")]
        same = sum(verdict.kind == SAME for verdict in its)
        intended = sum(verdict.kind == INTENDED for verdict in its)
        different = sum(verdict.is_unexpected for verdict in its)
        print(f"{program:<16}{len(its):>7}{same:>7}{intended:>10}{different:>11}")


def print_differences(verdicts: list[Verdict]) -> None:
    """The intended differences with their reasons in one line, the others in full."""
    intended = [verdict for verdict in verdicts if verdict.kind == INTENDED]
    if intended:
        print("\nIntended differences:")
    for verdict in intended:
        print(f"  {verdict.program}: {verdict.case}: {verdict.reason}")
    unexpected = [verdict for verdict in verdicts if verdict.is_unexpected]
    if unexpected:
        print("\nUnexpected:")
    for verdict in unexpected:
        print(f"  {verdict.program}: {verdict.case}: {verdict.kind}")
        if verdict.kind == NOT_DIFFERENT:
            print(f"    remove differs={verdict.reason!r}")
            continue
        for engine, outcome in verdict.outcomes.items():
            if outcome is None:
                print(f"    {engine:<7} never got there")
                continue
            print(f"    {engine:<7} {json.dumps(outcome['compared'])}")
            for line in outcome["message"].splitlines()[:MESSAGE_LINES_SHOWN]:
                print(f"            | {line}")
