"""Is a function, sent once, what it would be if it were sent again with each call?

Executors and pools take a function anew with each call, as those of the standard library do, and a
function of a script travels by value, with the globals that it names. One that is *steady* can be sent
once: nothing that travels with it can change without being noticed here.
"""

from __future__ import annotations

import sys
import types
from typing import Any

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))
_MISSING = object()
# Functions that a function calls and that travel with it, to this depth.
_DEPTH_MAX = 5

# Names that travel with a function, and what they stood for: (namespace, name, value).
Snapshot = tuple[tuple[dict[str, Any], str, Any], ...]


def snapshot(function: Any) -> Snapshot | None:
    """What has to stay as it is for `function` to be steady. None: it is not."""
    parts: list[tuple[dict[str, Any], str, Any]] = []
    return tuple(parts) if _collect(function, parts, set(), 0) else None


def holds(parts: Snapshot) -> bool:
    """Does everything stand as it did?"""
    for namespace, name, value in parts:  # noqa: SIM110  # all() takes twice as long.
        if namespace.get(name, _MISSING) is not value:
            return False
    return True


def _collect(
    value: Any, parts: list[tuple[dict[str, Any], str, Any]], seen: set[int], depth: int
) -> bool:
    kind = type(value)
    if kind in _CONSTANTS or kind is types.ModuleType:
        return True
    if kind in (tuple, frozenset):
        return all(_collect(item, parts, seen, depth) for item in value)
    if kind is types.BuiltinFunctionType:
        owner = value.__self__
        return owner is None or isinstance(owner, types.ModuleType)
    if (isinstance(value, type) or kind is types.FunctionType) and _is_found_by_name(value):
        return True
    if kind is not types.FunctionType:
        return False
    if id(value) in seen:
        return True
    seen.add(id(value))
    if value.__closure__ or value.__dict__ or value.__kwdefaults__ or depth == _DEPTH_MAX:
        return False
    if not _collect(value.__defaults__, parts, seen, depth):
        return False
    for name in _names(value.__code__):
        found = value.__globals__.get(name, _MISSING)
        # A name that stands for nothing yet may do so later.
        parts.append((value.__globals__, name, found))
        if found is not _MISSING and not _collect(found, parts, seen, depth + 1):
            return False
    return True


def _is_found_by_name(value: Any) -> bool:
    """It travels as the name of its module and its own, unless that is the script."""
    module = getattr(value, "__module__", None)
    if not isinstance(module, str) or module == "__main__":
        return False
    found: Any = sys.modules.get(module)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value and not _travels_by_value(module)


def _travels_by_value(module: str) -> bool:
    import cloudpickle  # type: ignore[import-untyped]

    registered = cloudpickle.list_registry_pickle_by_value()
    return any(module == one or module.startswith(f"{one}.") for one in registered)


def _names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names
