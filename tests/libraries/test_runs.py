"""Runs of cases in a venv without packages, with programs that need no Ray."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from libraries import runs, table  # noqa: E402
from libraries.case_files import Case, Run  # noqa: E402
from libraries.runs import FAILED, PASSED, SKIPPED, Result  # noqa: E402
from libraries.ways import WAYS  # noqa: E402

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_one" file="tests/test_a.py" line="1"/>
<testcase classname="tests.test_a.TestB" name="test_two[x]" file="tests/test_a.py">
  <failure message="assert 1 == 2&#10;more">..</failure></testcase>
<testcase classname="x.site-packages.p.tests.test_c" name="test_d"
  file="../base/lib/python3.11/site-packages/p/tests/test_c.py"><skipped message="no"/></testcase>
<testcase classname="TestD" name="test_d" file="../../base/lib/python3.11/site-packages/p/test_d.py"/>
<testcase classname="tests.test_a" name="test_e" file="tests/test_a.py"><error message="E"/></testcase>
<testcase classname="" name="tests.test_broken"><error message="collection failure"/></testcase>
</testsuite></testsuites>"""


def case_of(*some: Run, seconds_max: float = 150.0, **more: object) -> Case:
    said = {"not_ours": {}, "variables": {}, "quick": False, **more}
    words = {"library": "thing", "version": "1", "kind": "test", "environment": "e", "what": "w"}
    return Case(**words, runs=some, seconds_max=seconds_max, **said)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs the text of a program as the program of a case."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "_checks.py").write_text((ROOT / "libraries/programs/_checks.py").read_text())
    monkeypatch.setattr(runs, "PROGRAMS", programs)
    monkeypatch.setattr(runs, "ENDING_SECONDS_MAX", 0.3)

    def run_it(text: str, seconds_max: float = 150.0) -> Result:
        (programs / "thing.py").write_text(text)
        case = case_of(Run("program", program="thing.py"), seconds_max=seconds_max)
        return runs.run_case(case, WAYS["ray"], Path(sys.executable), tmp_path)

    return run_it


def test_checks_are_counted_one_by_one(run) -> None:  # type: ignore[no-untyped-def]
    result = run(
        "from _checks import check, done, raises\n"
        "import os, sys\n"
        "check('a', True)\n"
        "print('a bar without an end', end='')\n"
        "check('b', lambda: 1 / 0)\n"
        "check('c', lambda: raises(ZeroDivisionError, lambda: 1 / 0))\n"
        "check('d', 0)\n"
        "check('two processors at most', len(os.sched_getaffinity(0)) <= 2)\n"
        "check('alone', sorted(os.listdir('.')) == ['_checks.py', 'example_of_thing.py'])\n"
        "check('at home', os.environ['HOME'].startswith(os.environ['TMPDIR']))\n"
        "done()\n"
    )
    passed = {f"thing.py::{name}": (PASSED, "") for name in ("a", "c")}
    assert result.troubles == []
    assert {name: result.outcomes.pop(name) for name in passed} == passed
    assert result.outcomes.pop("thing.py::b") == (FAILED, "ZeroDivisionError: division by zero")
    assert result.outcomes.pop("thing.py::d") == (FAILED, "it is not so")
    assert {status for status, _ in result.outcomes.values()} == {PASSED}
    assert len(result.outcomes) == 3


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("raise ValueError('no')", "ended with status 1: ValueError: no"),
        ("import os; os._exit(0)", "ended with status 0"),
        ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
        ("check('b', False); import os; os._exit(1)", "ended with status 1"),
    ],
)
def test_a_program_that_does_not_come_to_its_end_is_a_trouble(run, end: str, says: str) -> None:  # type: ignore[no-untyped-def]
    result = run(f"from _checks import check, done\ncheck('a', True)\n{end}\ndone()\n")
    assert result.outcomes["thing.py::a"] == (PASSED, "")
    (trouble,) = result.troubles
    assert says in trouble


def test_a_program_that_hangs_is_ended(run) -> None:  # type: ignore[no-untyped-def]
    begun = time.monotonic()
    result = run("import time\ntime.sleep(1000)\n", seconds_max=1.0)
    assert result.troubles == ["thing.py was ended after 1 s"]
    assert time.monotonic() - begun < 100


def test_what_a_program_leaves_behind_is_told_and_ended(run) -> None:  # type: ignore[no-untyped-def]
    result = run(
        "from _checks import check, done\n"
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "check(f'process {child.pid}', True)\ndone()\n"
    )
    assert result.troubles == ["thing.py left behind: process sleep 1000"]
    (name,) = result.outcomes
    words = Path("/proc", name.rpartition(" ")[2], "cmdline")
    assert not words.exists() or words.read_bytes() == b""  # Dead, and not yet waited for.


def test_a_runner_that_is_ended_ends_what_it_runs(tmp_path: Path) -> None:
    (tmp_path / "_checks.py").touch()
    program = tmp_path / "thing.py"
    program.write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'new')!r}).write_text(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pid')!r})\n"
        "time.sleep(1000)\n"
    )
    code = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests/libraries")!r}]
from libraries import __main__, runs
from libraries.ways import WAYS
from test_runs import Run, case_of
__main__.heed_termination()
here = Path({str(tmp_path)!r})
runs.PROGRAMS = here
case = case_of(Run("program", program="thing.py"), seconds_max=1000.0)
runs.run_case(case, WAYS["ray"], Path(sys.executable), here)
"""
    runner = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    deadline = time.monotonic() + 60
    while runner.poll() is None and time.monotonic() < deadline:
        runner.terminate()  # More than once: it is not to be kept from what it has to do.
        time.sleep(0.005)
    assert runner.returncode == 143
    words = Path("/proc", (tmp_path / "pid").read_text(), "cmdline")
    assert not words.exists() or words.read_bytes() == b""  # Dead, and not yet waited for.


def test_outcomes_have_the_ids_that_pytest_prints() -> None:
    assert runs.read_junit(JUNIT) == {
        "tests/test_a.py::test_one": (PASSED, ""),
        "tests/test_a.py::TestB::test_two[x]": (FAILED, "assert 1 == 2"),
        "p/tests/test_c.py::test_d": (SKIPPED, "no"),
        "p/test_d.py::TestD::test_d": (PASSED, ""),
        "tests/test_a.py::test_e": (FAILED, "E"),
        "tests.test_broken": (FAILED, "collection failure"),
    }


def test_tests_of_an_archive_do_not_find_the_package_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "base/lib/python3.11/site-packages"
    about = site / "thing-1.dist-info"
    about.mkdir(parents=True)
    (about / "RECORD").write_text(
        "thing/__init__.py,,\nthing-1.dist-info/METADATA,,\nsingle.py,,\n"
    )
    assert runs.top_level(site, "Thing") == ["thing"]
    top = tmp_path / "thing-1"
    for folder in ("thing", "tests"):
        (top / folder).mkdir(parents=True)
    (top / "thing/__init__.py").write_text("raise ImportError('the one beside')")
    (top / "setup.cfg").write_text("[tool:pytest]\naddopts = --no-such-option\n")
    (top / "tests/test_thing.py").write_text(
        "import pytest\n"
        "def test_it_is_not_here():\n"
        "    with pytest.raises(ModuleNotFoundError):\n"
        "        import thing\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_numbers(number):\n"
        "    assert number == 1\n"
    )
    (top / "example.py").write_text("import sys\nassert sys.argv[1:] == ['x']\n")
    archive = tmp_path / "thing-1.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(top, "thing-1")
    monkeypatch.setattr(runs.environments, "sdist", lambda *_: archive)
    monkeypatch.setattr(runs.environments, "base_of", lambda _: tmp_path / "base")
    tests = Run("sdist", sdist="a", sha256="b", pytest=("tests",))
    example = Run("sdist", sdist="a", sha256="b", example="example.py", arguments=("x",))
    case = case_of(tests, example)
    result = runs.run_case(case, WAYS["ray"], Path(sys.executable), tmp_path)
    assert result.troubles == []
    assert {name: status for name, (status, _) in result.outcomes.items()} == {
        "tests/test_thing.py::test_it_is_not_here": PASSED,
        "tests/test_thing.py::test_numbers[1]": PASSED,
        "tests/test_thing.py::test_numbers[2]": FAILED,
        "example.py": PASSED,
    }
    assert table.counted(case, {"ray": result}) == list(result.outcomes)
