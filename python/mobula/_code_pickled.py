"""Functions and classes that travel by value, and what decorators of the standard library make of them.

cloudpickle does most of it. Here is what it does not know: caches, dispatchers, weak collections, and
classes whose bases or metaclasses want to be told more than a name when a class is made.
"""

from __future__ import annotations

import abc
import functools
import types
import weakref
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_cloudpickle: Any = cloudpickle.cloudpickle
_make_class_plainly: Any = _cloudpickle._make_skeleton_class
# Of the function that singledispatch returns: always the same, with different closures.
_a_dispatcher: Any = functools.singledispatch(lambda value: value)
_DISPATCHER = _a_dispatcher.__code__
_NAMES = ("__module__", "__name__", "__qualname__", "__doc__")


def reduce_code(plainly: Callable[[Any], Any], value: Any) -> Any:
    """Reduces a function or class that cannot be imported by its name where it goes; `plainly` is how
    cloudpickle does it."""
    if type(value) is types.FunctionType:
        if value.__code__ is _DISPATCHER and not _cloudpickle._should_pickle_by_reference(value):
            return _reduce_dispatcher(value)
        return plainly(value)
    reduced = plainly(value)
    if isinstance(reduced, tuple) and reduced[0] is _make_class_plainly:
        metaclass, name, bases, members, *tracking = reduced[1]
        if "__slots__" in vars(value):  # Else a value could not come back from there.
            members["__slots__"] = vars(value)["__slots__"]
        return _make_class, (metaclass, name, bases, members, *tracking), *reduced[2:]
    return reduced


# ---- classes -------------------------------------------------------------------------------------


class _Shield:
    """The first base of a class while it is made: those behind it are not told of it."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        pass


def _make_class(
    metaclass: Any, name: str, bases: tuple[type, ...], members: dict[str, Any], *tracking: Any
) -> Any:
    try:
        return _make_class_plainly(metaclass, name, bases, members, *tracking)
    except TypeError:
        # The class was made with keywords, for its metaclass or __init_subclass__. What these made of
        # them is part of the class's state.
        make: Any = abc.ABCMeta if issubclass(metaclass, abc.ABCMeta) else type
        shielded = any(_is_told(base) for base in bases)
        made = make.__new__(metaclass, name, (_Shield, *bases) if shielded else bases, {**members})
        if shielded:
            made.__bases__ = bases
        return _cloudpickle._lookup_class_or_track(tracking[0], made)


def _is_told(base: type) -> bool:
    return any("__init_subclass__" in vars(one) for one in base.__mro__[:-1])


# ---- functools -----------------------------------------------------------------------------------


def _is_importable(value: Any) -> bool:
    """Is it found by its name where it goes?"""
    found = _cloudpickle._lookup_module_and_qualname(value)
    return found is not None and not _cloudpickle._is_registered_pickle_by_value(found[0])


def _reduce_cached(cached: Any) -> Any:
    """Of `cache` and `lru_cache`. What it remembers stays behind."""
    if _is_importable(cached):
        return cached.__qualname__
    of_cache = cached.cache_parameters()
    arguments = cached.__wrapped__, of_cache["maxsize"], of_cache["typed"]
    # By now the function may not have its own name yet, if it refers to the cache.
    attributes = {
        name: value
        for name, value in vars(cached).items()
        if name not in ("__wrapped__", "cache_parameters")
    }
    return _make_cached, arguments, attributes, None, None, _set_attributes


def _make_cached(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _set_attributes(made: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        setattr(made, name, value)


def _reduce_cached_property(made: Any) -> Any:
    attributes = {k: v for k, v in vars(made).items() if k not in ("func", "lock")}
    return functools.cached_property, (made.func,), attributes


def _reduce_dispatcher(dispatcher: Any) -> Any:
    attributes = {name: getattr(dispatcher, name) for name in _NAMES}
    for name, value in vars(dispatcher).items():
        if name not in ("register", "dispatch", "registry", "_clear_cache", "__wrapped__"):
            attributes[name] = value
    state = tuple(dispatcher.registry.items()), attributes
    return functools.singledispatch, (dispatcher.__wrapped__,), state, None, None, _set_dispatcher


def _set_dispatcher(dispatcher: Any, state: tuple[Any, dict[str, Any]]) -> None:
    registered, attributes = state
    for kind, function in registered:
        dispatcher.register(kind, function)
    _set_attributes(dispatcher, attributes)


# ---- weak references -----------------------------------------------------------------------------


def _reduce_weak_dict(weak: Any) -> Any:
    def items() -> Iterator[tuple[Any, Any]]:
        yield from list(weak.items())

    return type(weak), (), None, None, items()


def _reduce_weak_ref(weak: Any) -> Any:
    """It keeps nothing alive where it goes either."""
    if weak.__callback__ is not None:
        return NotImplemented
    return _make_weak_ref, (weak(),)


def _make_weak_ref(target: Any) -> Any:
    return weakref.ref(_Gone() if target is None else target)


class _Gone:
    """What a weak reference was to."""


def _reduce_weak_method(weak: Any) -> Any:
    method = weak()
    return (weakref.WeakMethod, (method,)) if method is not None else (_make_weak_ref, (None,))


REDUCERS: dict[type, Callable[[Any], Any]] = {
    type(functools.lru_cache(lambda: None)): _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    weakref.WeakKeyDictionary: _reduce_weak_dict,
    weakref.WeakValueDictionary: _reduce_weak_dict,
    weakref.ref: _reduce_weak_ref,
    weakref.WeakMethod: _reduce_weak_method,
}
