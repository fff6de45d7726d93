"""tools/random_runs.py uses fresh seeds, stops on time, and says how to replay a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import random_runs
from random_runs import Suite


def writing_seeds(path: Path, *, fail_from: int = 2**63) -> Suite:
    """A suite that notes its seed in `path` and fails in its run number `fail_from`."""
    code = (
        "import os, pathlib, sys\n"
        f"path = pathlib.Path({str(path)!r})\n"
        "seeds = path.read_text().split() if path.exists() else []\n"
        "seeds.append(os.environ['MOBULA_SEED'])\n"
        "path.write_text(' '.join(seeds))\n"
        f"sys.exit(len(seeds) >= {fail_from})\n"
    )
    return Suite("noting", [sys.executable, "-c", code])


def test_every_run_has_another_seed(tmp_path: Path) -> None:
    noted = tmp_path / "seeds"
    runs = random_runs.run_for([writing_seeds(noted)], seconds=0.5, hang_seconds=60)
    seeds = noted.read_text().split()
    assert len(seeds) == runs >= 1
    assert len(set(seeds)) == runs


def test_every_suite_runs_even_without_time(tmp_path: Path) -> None:
    suites = [writing_seeds(tmp_path / "one"), writing_seeds(tmp_path / "two")]
    assert random_runs.run_for(suites, seconds=0, hang_seconds=60) == 2
    assert (tmp_path / "one").exists()
    assert (tmp_path / "two").exists()


def test_a_failure_ends_the_runs_and_says_how_to_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = tmp_path / "seeds"
    with pytest.raises(SystemExit):
        random_runs.run_for([writing_seeds(noted, fail_from=3)], seconds=600, hang_seconds=60)
    seeds = noted.read_text().split()
    assert len(seeds) == 3
    assert f"replay with  MOBULA_SEED={seeds[-1]} " in capsys.readouterr().out


def test_a_hanging_run_is_a_failure() -> None:
    forever = Suite("forever", [sys.executable, "-c", "import threading; threading.Event().wait()"])
    assert not random_runs.run_once(forever, 1, seconds=0.5)


def test_output_that_is_not_utf8_is_shown_and_does_not_end_the_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; sys.stdout.buffer.write(b'name \\xc3'); sys.exit(1)"
    assert not random_runs.run_once(Suite("odd", [sys.executable, "-c", code]), 1, seconds=60)
    assert "name \\xc3" in capsys.readouterr().out


def test_listed_tests_are_counted() -> None:
    assert random_runs.listed_tests("Running main()\nRing.\n  random_pushes\n  random_pops\n") == 2
    assert random_runs.listed_tests("Running main()\n") == 0


def test_no_random_tests_is_not_a_pass(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    folders = ["--build", str(tmp_path), "--tests", str(tmp_path / "tests")]
    assert random_runs.main([*folders, "--seconds", "0"]) == 1
