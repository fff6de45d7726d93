"""Functions and classes that travel by value, and what decorators of the standard library make of them.

cloudpickle does most of it. Here is what it does not know: caches, dispatchers, weak collections, and
classes whose bases or metaclasses want to be told more than a name when a class is made.
"""

from __future__ import annotations

import abc
import functools
import types
import typing
import weakref
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]
from mobula import _pydantic_v1

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_cloudpickle: Any = cloudpickle.cloudpickle
_make_class_plainly: Any = _cloudpickle._make_skeleton_class
_make_enum_plainly: Any = _cloudpickle._make_skeleton_enum
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
    if not isinstance(reduced, tuple):
        return reduced
    make, arguments, *state = reduced
    if "__fields__" in vars(value):
        _pydantic_v1.add_reducer(REDUCERS)
    if make is _make_class_plainly:
        metaclass, name, bases, members, *tracking = arguments
        # Without them a value could not come back from there. Named tuples know by themselves.
        if "__slots__" in vars(value) and not issubclass(value, tuple):
            members["__slots__"] = vars(value)["__slots__"]
        return _make_class, (metaclass, name, bases, members, *tracking), *state
    if make is _make_enum_plainly:
        return _reduced_enum(value, arguments, state[0])
    return reduced


# ---- classes -------------------------------------------------------------------------------------


class _Shield:
    """The first base of a class while it is made: those behind it are not told of it."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        pass


class _ShieldWithDict:
    """The same where instances have a `__dict__`."""

    def __init_subclass__(cls) -> None:
        pass


def _make_class(
    metaclass: Any, name: str, bases: tuple[Any, ...], members: dict[str, Any], *tracking: Any
) -> Any:
    known = _cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracking[0])
    if known is not None:  # Nobody is told of it again.
        return known
    try:
        return _make_class_plainly(metaclass, name, bases, members, *tracking)
    except TypeError as error:
        made = _made_in_silence(metaclass, name, types.resolve_bases(bases), members)
        if made is None:
            raise error
        return _cloudpickle._lookup_class_or_track(tracking[0], made)


def _made_in_silence(
    metaclass: Any, name: str, bases: tuple[type, ...], members: dict[str, Any]
) -> Any:
    """A class that was made with keywords, for its metaclass or __init_subclass__. What these made of
    them is part of its state; they are not called again."""
    make: Any = abc.ABCMeta if issubclass(metaclass, abc.ABCMeta) else type
    if not any("__init_subclass__" in vars(one) for base in bases for one in base.__mro__[:-1]):
        return make.__new__(metaclass, name, bases, {**members})
    for shield in (_Shield, _ShieldWithDict):
        try:
            made = make.__new__(metaclass, name, (shield, *bases), {**members})
            made.__bases__ = bases
        except TypeError:  # The layouts differ.
            continue
        return made
    return None


def _reduced_enum(kind: Any, arguments: tuple[Any, ...], state: Any) -> Any:
    """With aliases, and with what __init__ and __new__ have given to the members."""
    bases, name, qualname, _, *tracking = arguments
    members = {name: member.value for name, member in kind.__members__.items()}
    attributes, slots = state
    attributes = {name: value for name, value in attributes.items() if name not in members}
    of_members = {
        name: {k: v for k, v in vars(member).items() if not (k[:1] == k[-1:] == "_")}
        for name, member in kind.__members__.items()
    }
    given = {name: values for name, values in of_members.items() if values}
    made = bases, name, qualname, members, *tracking
    return _make_enum, made, ((attributes, slots), given), None, None, _set_enum


def _make_enum(*arguments: Any) -> Any:
    known = _cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(arguments[-2])
    return known if known is not None else _make_enum_plainly(*arguments)


def _set_enum(kind: Any, state: tuple[Any, dict[str, Any]]) -> None:
    of_class, given = state
    _cloudpickle._class_setstate(kind, of_class)
    for name, values in given.items():
        vars(kind.__members__[name]).update(values)


def _reduce_new_type(made: Any) -> Any:
    if _is_importable(made):
        return made.__qualname__
    state = {"__module__": made.__module__, "__qualname__": made.__qualname__}
    return typing.NewType, (made.__name__, made.__supertype__), state


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
        raise TypeError("a weak reference with a callback cannot be pickled")
    return _make_weak_ref, (weak(),)


def _make_weak_ref(target: Any) -> Any:
    return weakref.ref(_Gone() if target is None else target)


class _Gone:
    """What a weak reference was to."""


def _reduce_weak_method(weak: Any) -> Any:
    method = weak()
    return (weakref.WeakMethod, (method,)) if method is not None else (_make_weak_ref, (None,))


# By exact type; of libraries when they are needed. The extension and picklers look here.
REDUCERS: dict[type, Callable[[Any], Any]] = {
    **_cloudpickle.Pickler._dispatch_table,
    type(functools.lru_cache(lambda: None)): _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    typing.NewType: _reduce_new_type,  # type: ignore[dict-item, unused-ignore]
    weakref.WeakKeyDictionary: _reduce_weak_dict,
    weakref.WeakValueDictionary: _reduce_weak_dict,
    weakref.ref: _reduce_weak_ref,
    weakref.WeakMethod: _reduce_weak_method,
}
