"""Each public name of Ray Core is there, or docs/compatibility.md says why it is not."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.mobula_only

NAMES = Path(__file__).with_name("names_of_ray.txt")  # oracle/names_of_ray.py wrote it.
DOCUMENT = Path(__file__).resolve().parents[2] / "docs/compatibility.md"
HEADING = "## Names that are not there"


def names_of_ray() -> Iterator[tuple[str, list[str]]]:
    """Modules without the first "ray", and their names."""
    for line in NAMES.read_text().splitlines():
        if not line.startswith("#"):
            module, _, names = line.partition(":")
            yield module.removeprefix("ray").removeprefix("."), names.split()


def excused() -> set[str]:
    """What stands in the table of the document: modules, for all that is in them, and names."""
    _, _, rest = DOCUMENT.read_text().partition(HEADING)
    section, _, _ = rest.partition("\n## ")
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert all(len(row) == 2 and len(row[1].rstrip("| ")) > 10 for row in rows), (
        "a row has no reason"
    )
    return {name for row in rows for name in re.findall("`([^`]+)`", row[0])}


def is_excused(name: str, listed: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in listed for end in range(1, len(parts) + 1))


def missing() -> list[str]:
    found = []
    for module, names in names_of_ray():
        try:
            ours = importlib.import_module(f"mobula.{module}" if module else "mobula")
        except ModuleNotFoundError:
            found.append(module)
            continue
        prefix = f"{module}." if module else ""
        found += [prefix + name for name in names if not hasattr(ours, name)]
    return found


def test_each_name_of_ray_is_there_or_excused() -> None:
    listed = excused()
    assert [name for name in missing() if not is_excused(name, listed)] == []


def test_nothing_is_excused_that_is_there() -> None:
    absent = missing()
    for name in excused():
        assert any(one == name or one.startswith(name + ".") for one in absent), name


def test_the_list_is_of_the_ray_that_we_are_compatible_with() -> None:
    from mobula._version import RAY_VERSION

    assert f"Ray {RAY_VERSION};" in NAMES.read_text().splitlines()[0]
    assert len(list(names_of_ray())) > 100


def test_libraries_learn_that_nobody_traces() -> None:
    tracing = importlib.import_module("mobula.util.tracing.tracing_helper")
    assert (tracing._global_is_tracing_enabled, tracing._is_tracing_enabled()) == (False, False)
