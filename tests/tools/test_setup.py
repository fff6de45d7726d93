"""tools/setup, on a checkout that has been set up already: these tests run in its .venv."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def setup(*groups: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "tools/setup", *groups], capture_output=True, text=True, timeout=60
    )


def test_a_second_call_has_nothing_to_do_and_says_nothing() -> None:
    done = setup("build", "test")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_unknown_group_is_refused() -> None:
    done = setup("nonsense")
    assert done.returncode != 0
    assert "unknown group 'nonsense'" in done.stderr


def test_the_command_of_the_checkout_is_in_its_venv() -> None:
    script = (ROOT / ".venv/bin/mobula").read_text()
    assert script.startswith(f"#!{ROOT}/.venv/bin/python\n")


def test_a_linked_venv_is_refused_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    (checkout / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools/setup", checkout / "tools/setup")
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (checkout / ".venv").symlink_to(elsewhere)
    done = subprocess.run(
        [checkout / "tools/setup", "demo"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert ".venv is a link" in done.stderr
    assert (elsewhere / "precious").exists()
