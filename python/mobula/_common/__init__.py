"""What libraries and their tests share in Ray."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Its modules, which Ray has imported with the package."""
    if name in ("constants", "network_utils", "test_utils", "utils"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
