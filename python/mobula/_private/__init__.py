"""Private names of Ray that programs use all the same."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = (
    "auto_init_hook",
    "client_mode_hook",
    "internal_api",
    "ray_constants",
    "services",
    "state",
    "test_utils",
    "utils",
    "worker",
)


def __getattr__(name: str) -> Any:
    """Its modules, which Ray has imported with the package."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
