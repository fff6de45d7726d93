"""The runner of the oracle, with programs that need no Ray."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from oracle import engines  # noqa: E402
from oracle.__main__ import cases_of, main, select  # noqa: E402
from oracle.compare import DIFFERENT, INTENDED, NOT_DIFFERENT, SAME, compare  # noqa: E402

PROGRAM = """
import os, subprocess
from oracle.cases import Gate, attempt, case, ray, run_without_session

@case
def a_value():
    return {"list": (1, 2), "set": {2, 1}, "type": int, "error": ValueError("no")}

@case(says=["BROKEN", "absent"])
def an_error():
    raise ValueError("broken")

@case(seconds_max=0.05)
def a_hang():
    Gate().wait()

@case(differs="because")
def a_crash():
    subprocess.Popen(["sleep", "1000"])
    os._exit(3)

@case
def what_comes_after_a_crash():
    return attempt(int, "x")

run_without_session()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def outcome(value: Any, differs: str = "") -> dict[str, Any]:
    return {"compared": {"value": value}, "message": "", "differs": differs, "seconds": 0.0}


def test_verdicts() -> None:
    ray = {"a": outcome(1), "b": outcome(1, "why"), "c": outcome(1), "d": outcome(1, "why")}
    mobula = {"a": outcome(1), "b": outcome(2, "why"), "c": outcome(2), "d": outcome(1, "why")}
    verdicts = compare("program", "abcd", {"ray": ray, "mobula": mobula})
    assert [one.kind for one in verdicts] == [SAME, INTENDED, DIFFERENT, NOT_DIFFERENT]
    assert [one.is_unexpected for one in verdicts] == [False, False, True, True]


def test_a_case_that_was_not_reached_is_a_difference_even_where_one_is_meant() -> None:
    verdicts = compare("program", ["a"], {"ray": {"a": outcome(1, "why")}, "mobula": {}})
    assert [one.kind for one in verdicts] == [DIFFERENT]
    assert verdicts[0].outcomes["mobula"] is None


def test_outcomes_of_a_program(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks: list[str] = []
    end_marked = engines.end_marked
    monkeypatch.setattr(engines, "end_marked", lambda mark: (marks.append(mark), end_marked(mark)))
    found = engines.run_program(program, "mobula", "", 60, [])
    assert list(found) == cases_of(program)
    compared = {name: one["compared"] for name, one in found.items()}
    assert compared["a_value"]["value"] == {
        "list": [1, 2],
        "set": [1, 2],
        "type": "int",
        "error": "raised ValueError < Exception < BaseException",
    }
    assert compared["an_error"] == {
        "raised": ["ValueError", "Exception", "BaseException"],
        "says": {"BROKEN": True, "absent": False},
    }
    assert compared["a_hang"] == "took too long"
    assert compared["a_crash"] == "the driver ended with status 3"
    assert found["a_crash"]["differs"] == "because"
    assert (
        compared["what_comes_after_a_crash"]["value"]
        == "raised ValueError < Exception < BaseException"
    )
    assert len(marks) == 2  # Started again after the crash.
    assert [engines.marked(mark) for mark in marks] == [[], []]


def test_a_program_that_runs_out_of_time_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("0.05", "1000"))
    remarks: list[str] = []
    found = engines.run_program(program, "mobula", "a_hang", 5, remarks)
    assert "the driver hung in a_hang" in remarks[0]
    assert {name: one["compared"] for name, one in found.items()} == {"a_hang": "the driver hung"}


FRAIL = """
import os
from pathlib import Path
from oracle.cases import case, run_without_session

@case
def fails_the_first_time():
    mark = Path(MARK)
    if not mark.exists():
        mark.touch()
        os._exit(7)
    return 1

@case
def another():
    return 2

run_without_session()
"""


def test_a_case_that_brings_ray_down_has_a_second_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program.py"
    program.write_text(FRAIL.replace("MARK", repr(str(tmp_path / "mark"))))
    # Ray's part is played by this interpreter, and by Mobula.
    monkeypatch.setattr(engines, "interpreter", lambda engine: Path(sys.executable))
    monkeypatch.setattr(engines, "_prefix", lambda engine: [])
    environment = engines._environment("mobula", "mark", tmp_path)
    monkeypatch.setattr(
        engines, "_environment", lambda engine, mark, folder: environment | {"ORACLE_RUN": mark}
    )
    remarks: list[str] = []
    found = engines.run_program(program, "ray", "", 60, remarks)
    assert {name: one["compared"] for name, one in found.items()} == {
        "fails_the_first_time": {"value": 1},
        "another": {"value": 2},
    }
    assert remarks == [
        "program under ray: the driver ended with status 7 in fails_the_first_time (try 1)"
    ]


def test_only_chooses_programs_and_cases() -> None:
    assert ("unordered", "") in [(path.stem, part) for path, part in select("unordered")]
    chosen = {path.stem: part for path, part in select("get_of_one_ref_twice")}
    assert chosen == {"objects": "get_of_one_ref_twice"}


def test_list_needs_no_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "get_of_one_ref_twice"]) == 0
    assert capsys.readouterr().out == "objects\n  get_of_one_ref_twice\n"


def test_nothing_chosen_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such case"]) == 2
    assert "no such case" in capsys.readouterr().err


def test_every_name_of_a_case_is_there_once() -> None:
    for program in engines.PROGRAMS.glob("*.py"):
        names = cases_of(program)
        assert len(set(names)) == len(names), program
        assert names, program
