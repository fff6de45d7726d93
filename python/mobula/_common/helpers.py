"""Small things, under the names by which libraries look them up in Ray."""

from __future__ import annotations

import asyncio
import importlib
import os
from typing import Any


def get_system_memory(*files: Any) -> int:
    """Bytes of memory that this machine has, or the cgroup of this process allows."""
    from mobula import _machine

    return _machine.memory_limit_bytes()


def binary_to_hex(identifier: bytes) -> str:
    """The bytes as hexadecimal digits."""
    return identifier.hex()


def hex_to_binary(hex_identifier: str) -> bytes:
    """What the digits stand for."""
    return bytes.fromhex(hex_identifier)


def load_class(path: str) -> Any:
    """What "module.Name" names. ValueError: there is no dot."""
    module, dot, name = path.rpartition(".")
    if not dot:
        raise ValueError(f"A module and a name are needed, not {path!r}")
    return getattr(importlib.import_module(module), name)


def import_attr(full_path: str, *, reload_module: bool = False) -> Any:
    """What "module.name" or "module:name" names."""
    module, _, name = full_path.rpartition(":" if ":" in full_path else ".")
    found = importlib.import_module(module)
    return getattr(importlib.reload(found) if reload_module else found, name)


def get_or_create_event_loop() -> asyncio.AbstractEventLoop:
    """The loop that runs in this thread, or the thread's, or a new one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    try:
        return asyncio.get_event_loop_policy().get_event_loop()
    except RuntimeError:
        made = asyncio.new_event_loop()
        asyncio.set_event_loop(made)
        return made


def env_bool(key: str, default: bool) -> bool:
    """Is the variable "1" or "true"? `default`: it is not set."""
    value = os.environ.get(key)
    return default if value is None else value.lower() in ("1", "true")


def env_integer(key: str, default: int) -> int:
    """The number in the variable. `default`: there is none."""
    try:
        return int(os.environ.get(key, ""))
    except ValueError:
        return default


def env_float(key: str, default: float) -> float:
    """The number in the variable. `default`: there is none."""
    try:
        return float(os.environ.get(key, ""))
    except ValueError:
        return default
