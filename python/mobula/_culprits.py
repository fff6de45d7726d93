"""Where inside of a value, function or class the object is that cannot be pickled, for people."""

from __future__ import annotations

import functools
import pickle
import types
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]
from mobula import _core
from mobula._exceptions_pickled import short

if TYPE_CHECKING:
    from collections.abc import Iterator

_cloudpickle: Any = cloudpickle.cloudpickle
# How many objects are looked at.
_SEARCH_MAX = 1000
_PLACE = "<value>"
_CACHED = type(functools.lru_cache(lambda: None))


def why_not(value: Any) -> Exception | None:
    """Why `value` cannot be serialized; None: it can."""
    try:
        _core._encode_for_test(value)
    except Exception as error:
        return error
    return None


def pickles(value: Any) -> bool:
    return why_not(value) is None


# ---- what a value is made of ---------------------------------------------------------------------


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What `value` is made of, each with how to get there."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{short(key)}]", item
            yield f" (a key: {short(key)})", key
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield f" (an element: {short(item)})", item
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, type):
        yield from _of_class(value)
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
        yield "", value.__func__
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield from ((f".args[{i}]", item) for i, item in enumerate(value.args))
        yield from ((f".keywords[{name!r}]", item) for name, item in value.keywords.items())
    elif inside := _wrapped(value):
        for item in inside:
            yield "", item
    else:
        yield from _of_instance(value)


def _wrapped(value: Any) -> list[Any]:
    """What decorators of the standard library hold; [] if it is none of them."""
    kind = type(value)
    if kind in (staticmethod, classmethod):
        return [value.__func__]
    if kind is property:
        return [value.fget, value.fset, value.fdel]
    if kind is functools.partialmethod:
        return [value.func, *value.args, *value.keywords.values()]
    if kind is functools.cached_property:
        return [value.func]
    if kind is functools.singledispatchmethod:
        return [value.dispatcher]
    if kind is _CACHED:
        return [value.__wrapped__]
    return []


def _of_function(function: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(function, "registry") and hasattr(function, "dispatch"):  # By singledispatch.
        for kind, registered in function.registry.items():
            yield f" (for {kind.__qualname__})", registered
        return
    for name in _cloudpickle._extract_code_globals(function.__code__):
        if name in function.__globals__:
            yield f" -> {name}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f" -> {name}", cell.cell_contents
        except ValueError:  # Nothing was assigned yet.
            continue
    for item in function.__defaults__ or ():
        yield " (a default)", item
    for name, item in (function.__kwdefaults__ or {}).items():
        yield f" (the default of {name})", item
    for name, item in vars(function).items():
        yield f".{name}", item


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    try:
        members = _cloudpickle._dynamic_class_reduce(cls)[2][0]
    except Exception:  # A class with a will of its own.
        members = dict(vars(cls))
    for name, item in members.items():
        for inner in _wrapped(item) or [item]:
            yield f".{name}", inner
    for base in cls.__bases__:
        yield f" (a base: {base.__qualname__})", base
    yield " (its metaclass)", type(cls)


def _of_instance(value: Any) -> Iterator[tuple[str, Any]]:
    """As pickle sees it: what its class leaves out of the state is not part of it."""
    try:
        made = value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        arguments, state = made[1], made[2] if len(made) > 2 else None
    except Exception:
        arguments, state = (), getattr(value, "__dict__", None)
    states = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    for attributes in states:
        if isinstance(attributes, dict):
            for name, item in attributes.items():
                yield f".{name}", item
        elif attributes is not None:
            yield " (its state)", attributes
    for item in arguments:
        if item is type(value):
            yield f" (its class {item.__qualname__})", item
        else:
            yield f" (made with {short(item)})", item


# ---- the search ----------------------------------------------------------------------------------


class _Search:
    def __init__(self, value: Any) -> None:
        # By id; kept, so that no id comes twice.
        self._seen = {id(value): value}
        self._looked_at = 0

    def innermost(self, value: Any, path: str) -> tuple[str, Any] | None:
        """The first thing inside `value` that cannot be pickled although all its parts can. None: what
        fails in it was looked at before, on another way."""
        is_innermost = True
        for step, part in parts(value):
            if id(part) in self._seen:
                is_innermost = is_innermost and pickles(part)
                continue
            self._looked_at += 1
            if self._looked_at > _SEARCH_MAX:
                break
            if pickles(part):
                continue
            is_innermost = False
            self._seen[id(part)] = part
            found = self.innermost(part, path + step)
            if found is not None:
                return found
        return (path, value) if is_innermost else None


def find_unserializable(value: Any) -> str:
    """Where inside `value` the object is that cannot be pickled, for people; "" if it is `value`
    itself or cannot be told."""
    path, culprit = _Search(value).innermost(value, "") or ("", None)
    return f"{short(culprit)} at {_PLACE}{path}" if path else ""
