"""The programs of examples/actors, run as a user runs them. Each checks its own results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "actors"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py"))


def test_the_readme_lists_every_program() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")] == [
        f"{name}.py" for name in sorted(PROGRAMS, key=lambda name: text.index(f"`{name}.py` |"))
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_runs_and_finds_what_it_expects(program: str, tmp_path: Path) -> None:
    if program == "train_models":
        pytest.importorskip("sklearn")
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{program}.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert not done.stderr.strip()
