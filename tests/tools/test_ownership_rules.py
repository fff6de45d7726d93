"""Each rule of ownership names its tests, and they exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ownership.md").read_text()


def names_of_tests() -> set[str]:
    names: set[str] = set()
    for path in (ROOT / "src").rglob("*_test.cc"):
        names.update(re.findall(r"^TEST(?:_F)?\(\w+,\s*(\w+)\)", path.read_text(), re.MULTILINE))
    for path in (ROOT / "tests" / "python").glob("test_*.py"):
        names.update(re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE))
    return names


def test_the_tests_that_the_page_names_exist() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 40
    assert named - names_of_tests() == set()


def test_every_rule_is_on_the_page() -> None:
    found = set()
    for first, last in re.findall(r"\bR(\d+)(?: to R(\d+))?", PAGE):
        found.update(range(int(first), int(last or first) + 1))
    assert found == set(range(1, 25))
