"""Mistakes that are planted to see that tests find them can still be planted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

TOOL = Path(__file__).resolve().parents[2] / "tools" / "planted_bugs.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted_bugs", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted_bugs"] = module
    spec.loader.exec_module(module)
    return module


def test_each_mistake_is_a_change_of_one_place_in_the_sources() -> None:
    tool = load()
    for mistake in tool.MISTAKES:
        source = (tool.FOLDER / mistake.file).read_text()
        assert source.count(mistake.right) == 1, mistake.what
        assert mistake.wrong != mistake.right
