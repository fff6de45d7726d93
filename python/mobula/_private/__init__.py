"""Private names of Ray that programs use all the same."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = ("internal_api", "state", "test_utils", "worker")


def __getattr__(name: str) -> Any:
    """Its modules, which Ray has imported with the package."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
