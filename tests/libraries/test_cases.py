"""The files of libraries: each case can be read, and has what it names. And what cannot be read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from libraries import environments  # noqa: E402
from libraries.__main__ import check_version, choose  # noqa: E402
from libraries.case_files import PROGRAMS, CaseError, read_case, read_cases  # noqa: E402

GOOD = """
library = "thing"
version = "1.2"
kind = "test"
environment = "small"
what = "does things"
[[runs]]
program = "thing.py"
[[runs]]
tests = "package"
pytest = ["--pyargs", "thing.tests"]
[not_ours]
"a check" = "fails under Ray too"
"tests/test_a.py" = "needs a GPU"
"tests/test_b.py::test_c" = "needs Ray Data"
"""


def read(tmp_path: Path, text: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "thing.toml"
    path.write_text(text)
    return read_case(path)


def test_every_case_has_its_environment_and_its_program() -> None:
    cases = read_cases()
    for case in cases:
        check_version(case)
        for run in case.runs:
            assert not run.program or (PROGRAMS / run.program).is_file()
    assert len({case.library for case in cases}) == len(cases)


def test_every_environment_belongs_to_a_case() -> None:
    used = {case.environment for case in read_cases()}
    assert {path.stem for path in environments.PINS.glob("*.txt")} == used


def test_a_case_says_what_runs(tmp_path: Path) -> None:
    case = read(tmp_path, GOOD)
    assert [run.source for run in case.runs] == ["program", "package"]
    assert case.described_runs() == "written anew, own tests"
    assert (case.seconds_max, case.quick) == (120.0, False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("thing.py::a check", "fails under Ray too"),
        ("thing.py::another check", None),
        ("tests/test_a.py::test_x[1]", "needs a GPU"),
        ("tests/test_a.py::TestX::test_y", "needs a GPU"),
        ("tests/test_ab.py::test_x", None),
        ("tests/test_b.py::test_c", "needs Ray Data"),
        ("tests/test_b.py::test_c[1-2]", "needs Ray Data"),
        ("tests/test_b.py::test_cd", None),
        ("tests/x.py::a check", None),
    ],
)
def test_not_ours_names_tests_checks_and_files(
    tmp_path: Path, name: str, reason: str | None
) -> None:
    assert read(tmp_path, GOOD).reason_not_ours(name) == reason


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "test"', "", "`kind` is missing"),
        ('kind = "test"', 'kind = "test"\nkinds = 1', "knows no kinds"),
        ('program = "thing.py"', 'programs = "thing.py"', "knows no programs"),
        ('program = "thing.py"', "", "one of `pytest`, `example` and `program`"),
        ('tests = "package"', "", "has no `tests`"),
        ('tests = "package"', 'tests = "sdist"', "an sdist needs"),
        ('tests = "package"', 'tests = "wheel"', "not 'wheel'"),
        ('"needs a GPU"', '""', "needs a text"),
        ("[[runs]]", "[[runs]", "thing.toml"),
    ],
)
def test_what_is_wrong_in_a_case_is_told(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(CaseError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert says in str(caught.value)


def test_a_name_chooses_a_library_and_a_word_all_that_have_it(tmp_path: Path) -> None:
    names = ["ray-map", "ray", "xray-map", "other"]
    cases = [read(tmp_path, GOOD.replace('"thing"', f'"{name}"')) for name in names]
    assert [case.library for case in choose(cases, ["ray"], False)] == ["ray"]
    assert [case.library for case in choose(cases, ["map"], False)] == ["ray-map", "xray-map"]
    assert choose(cases, [], False) == cases
    assert choose(cases, [], True) == []


def test_an_unfinished_case_has_to_be_named(tmp_path: Path) -> None:
    whole = read(tmp_path, GOOD)
    begun = read(
        tmp_path, 'unfinished = "no tests yet"\n' + GOOD.replace('"thing"', '"thing-begun"')
    )
    assert choose([whole, begun], [], False) == [whole]
    assert choose([whole, begun], ["begun"], False) == []
    assert choose([whole, begun], ["thing-begun"], False) == [begun]


def test_pins_are_full_and_leave_ray_and_mobula_out() -> None:
    assert environments.read_pins("# one\nSome_thing==1.0\nother==2.0  # why\n\n") == {
        "some-thing": "1.0",
        "other": "2.0",
    }
    for line in ("thing>=1", "thing", "ray==2.60.0", "mobula-as-ray==1", "Mobula==1", "a==1\nA==2"):
        with pytest.raises(environments.EnvironmentFailed):
            environments.read_pins(line)
