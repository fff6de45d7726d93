"""The name of an actor class inside of its own methods.

`@remote` binds the name of a class to an `ActorClass`. The methods of the class mean the class itself
by that name: `super(A, self)`, `type(self) is A`, `A(5)`. So in the process of an actor its class, and
each class that it derives from, is bound to its own name again wherever its functions look: in their
globals, in their closures, in the class around it. `A.remote` and `A.options` go on to work there, as
attributes that the class has and its instances do not.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEPT = ("remote", "options", "bind", "_remote", "__ray_metadata__", "__ray_actor_class__")
# How many functions of a class are looked at.
_FUNCTIONS_MAX = 10_000


class OfActorClass:
    """An attribute of a plain class that is one of its ActorClass."""

    def __init__(self, actor_class: Any, name: str) -> None:
        self._actor_class = actor_class
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None and owner is self._actor_class._class:
            return getattr(self._actor_class, self._name)
        raise AttributeError(f"'{owner.__name__}' object has no attribute '{self._name}'")


def bind(cls: type, kind: type) -> None:
    """Binds `cls` to its name in its functions, instead of an instance of `kind` (ActorClass)."""
    classes = {base.__name__: base for base in reversed(cls.__mro__) if base is not object}
    seen: set[int] = set()
    for function in functions_of(cls):
        if id(function.__globals__) not in seen:
            seen.add(id(function.__globals__))
            for name, base in classes.items():
                _bind_global(function.__globals__, name, base, kind)
        closure = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        for name, cell in closure:
            if name in classes and _is_of(_contents(cell), classes[name], kind):
                _keep_attributes(cell.cell_contents)
                cell.cell_contents = classes[name]


def _plain(value: Any, kind: type) -> Any:
    """The class behind an ActorClass; anything else as it is."""
    return value._class if isinstance(value, kind) else value  # type: ignore[attr-defined]


def _is_of(value: Any, cls: type, kind: type) -> bool:
    return isinstance(value, kind) and _plain(value, kind) is cls


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # It is empty.
        return None


def _bind_global(names: dict[str, Any], name: str, cls: type, kind: type) -> None:
    value = names.get(name)
    if _is_of(value, cls, kind):
        module = sys.modules.get(names.get("__name__", ""))
        if module is not None and module.__dict__ is names and not _show(module, name, value):
            return
        _keep_attributes(value)
        names[name] = cls
    else:
        _bind_nested(names, cls, kind)


def _bind_nested(names: dict[str, Any], cls: type, kind: type) -> None:
    first, *others = _path(cls)
    if not others:
        return
    around = names.get(first)
    for part in others[:-1]:
        around = getattr(around, part, None)
    around = _plain(around, kind)
    if not isinstance(around, type):
        return
    value = vars(around).get(others[-1])
    if _is_of(value, cls, kind):
        _keep_attributes(value)
        type.__setattr__(around, others[-1], cls)


def _path(cls: type) -> list[str]:
    """The parts of its full name. A class that came by value has lost that; its functions have not."""
    for value in vars(cls).values():
        if isinstance(value, types.FunctionType):
            path = value.__qualname__.split(".")[:-1]
            if path and path[-1] == cls.__name__:
                return path
    return cls.__qualname__.split(".")


class _Showing(types.ModuleType):
    """A module of which some attributes are something else than the globals of its functions."""

    __slots__ = ()


def _show(module: types.ModuleType, name: str, value: Any) -> bool:
    """Lets `module.name` be `value` for all but the module's own functions: other modules and
    pickles find there what they find in other processes, until it is set. False: this is no plain
    module."""
    if type(module) is types.ModuleType:
        module.__class__ = type("_Module", (_Showing,), {"__slots__": ()})
    elif not isinstance(module, _Showing):
        return False
    kind = type(module)

    def write(_: Any, new: Any) -> None:
        delattr(kind, name)
        module.__dict__[name] = new

    def delete(_: Any) -> None:
        delattr(kind, name)
        del module.__dict__[name]

    setattr(kind, name, property(lambda _: value, write, delete))
    return True


def _keep_attributes(actor_class: Any) -> None:
    cls = actor_class._class
    for name in _KEPT:
        if not hasattr(cls, name):
            type.__setattr__(cls, name, OfActorClass(actor_class, name))


def functions_of(cls: type) -> Iterator[types.FunctionType]:
    """The functions that are in a class and those that it derives from, decorated ones as well."""
    seen: set[int] = set()
    stack: list[Any] = [value for base in cls.__mro__ for value in vars(base).values()]
    while stack and len(seen) < _FUNCTIONS_MAX:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, types.FunctionType):
            yield value
            stack.extend(_contents(cell) for cell in value.__closure__ or ())
            stack.append(getattr(value, "__wrapped__", None))
        elif isinstance(value, (staticmethod, classmethod)):
            stack.append(value.__func__)
        elif isinstance(value, property):
            stack += [value.fget, value.fset, value.fdel]
        elif isinstance(
            value, (functools.partial, functools.partialmethod, functools.cached_property)
        ):
            stack.append(value.func)
        elif isinstance(value, type) and value.__qualname__.startswith(cls.__qualname__ + "."):
            stack.extend(vars(value).values())


def is_own_code(cls: type, code: types.CodeType) -> bool:
    """Is it the code of a function of `cls`, or inside of one?"""
    stack = [function.__code__ for function in functions_of(cls)]
    while stack:
        one = stack.pop()
        if one is code:
            return True
        stack.extend(inner for inner in one.co_consts if isinstance(inner, types.CodeType))
    return False


def find(module_name: str, qualname: str, kind: type) -> type | None:
    """The class of that name in a module that is loaded, also behind an ActorClass."""
    found: Any = sys.modules.get(module_name)
    for part in qualname.split("."):
        found = _plain(found, kind)
        found = getattr(found, part, None)
    found = _plain(found, kind)
    return found if isinstance(found, type) else None


def load(module_name: str, qualname: str) -> type:
    """The class of that name in a module, which is imported."""
    from mobula import actor

    importlib.import_module(module_name)
    cls = find(module_name, qualname, actor.ActorClass)
    if cls is None:
        raise AttributeError(f"There is no class {qualname} in the module {module_name}")
    return cls


def is_found_by_name(cls: type, kind: type) -> bool:
    """Will another process that imports its module find this class?"""
    from mobula import _serialization

    module = cls.__module__
    by_value = _serialization.BY_VALUE_MODULES
    if module == "__main__" or any(
        module == name or module.startswith(name + ".") for name in by_value
    ):
        return False
    return find(module, cls.__qualname__, kind) is cls
