"""What libraries and their tests share in Ray."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Its module, which Ray has imported with the package."""
    if name == "test_utils":
        return importlib.import_module(f"{__name__}.test_utils")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
