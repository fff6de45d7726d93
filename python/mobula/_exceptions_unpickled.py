"""Exceptions made again from what `_exceptions_pickled` has taken apart."""

from __future__ import annotations

import pickle
import types
from typing import Any

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
# Classes may have ideas of their own of these names.
ARGS: Any = vars(BaseException)["args"]
DICT: Any = vars(BaseException)["__dict__"]
CAUSE: Any = vars(BaseException)["__cause__"]
CONTEXT: Any = vars(BaseException)["__context__"]
SUPPRESS: Any = vars(BaseException)["__suppress_context__"]


def overrides(kind: type, name: str) -> bool:
    by = next((base for base in kind.__mro__ if name in vars(base)), object)
    return by.__module__ != "builtins"


def blank(kind: type[BaseException], *tries: tuple[Any, ...]) -> Any:
    """A new instance, without calling what the class does to make one, from the first of `tries` that
    its built-in base takes. TypeError: impossible."""
    for base in kind.__mro__:
        if base.__flags__ & HEAP_TYPE:
            continue  # A class of Python code.
        for given in tries:
            try:
                return base.__new__(kind, *given)
            except TypeError:
                continue  # Python lets only one of the built-in bases do it.
    raise TypeError(f"no {kind!r} can be made")


def blank_of(kind: Any, given: tuple[Any, ...]) -> BaseException:
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        return _without_class(kind)
    return blank(kind, given)  # type: ignore[no-any-return]


def called(kind: Any, arguments: tuple[Any, ...]) -> BaseException:
    try:
        return kind(*arguments)  # type: ignore[no-any-return]
    except Exception:
        return blank_of(kind, ())


def _without_class(kind: Any) -> BaseException:
    """For what a missing module, or a class that is no exception here, should have made."""
    from mobula import exceptions

    name = getattr(kind, "__qualname__", str(kind))
    error = exceptions.UnserializableException.__new__(exceptions.UnserializableException)
    error._original_stack_trace = f"{name}, whose class is not here"
    return error


def fill(error: Any, state: tuple[Any, ...]) -> None:
    arguments, attributes, fields, links, notes = state
    ARGS.__set__(error, arguments)
    for name, value in fields.items():
        _set_field(error, name, value)
    _set_attributes(error, attributes)
    _finish(error, links, notes)


def _finish(error: BaseException, links: tuple[Any, ...] | None, notes: Any) -> None:
    if notes is not None:
        DICT.__get__(error).setdefault("__notes__", notes)
    if links is not None:
        cause, context, suppress = links
        CONTEXT.__set__(error, context)
        CAUSE.__set__(error, cause)
        SUPPRESS.__set__(error, suppress)


def _set_field(error: BaseException, name: str, value: Any) -> None:
    # Past the class's own __setattr__.
    for base in type(error).__mro__:
        field = vars(base).get(name)
        if isinstance(field, (types.MemberDescriptorType, types.GetSetDescriptorType)):
            try:
                field.__set__(error, value)
            except (AttributeError, TypeError):
                continue  # Its constructor alone can set it.
            return
    DICT.__get__(error).setdefault(name, value)  # A class that travels by value has no slots.


def _set_attributes(error: Any, attributes: Any) -> None:
    if attributes is None:
        return
    if overrides(type(error), "__setstate__"):
        try:
            error.__setstate__(attributes)
        except Exception:  # The plain way is left.
            pass
        else:
            return
    if isinstance(attributes, tuple) and len(attributes) == 2:  # As object.__getstate__ has it.
        attributes, slots = attributes
        for name, value in (slots or {}).items():
            _set_field(error, name, value)
    if isinstance(attributes, dict):
        DICT.__get__(error).update(attributes)


def by_itself(make: Any, arguments: tuple[Any, ...], spare: bytes) -> Any:
    try:
        made = make(*arguments)
    except Exception:
        if not spare:
            raise
    else:
        if isinstance(made, BaseException) or not spare:
            return made
    return pickle.loads(spare)


def fill_by_itself(error: Any, rest: tuple[Any, ...]) -> None:
    state, setter, links, notes = rest
    if setter is not None:
        setter(error, state)
    elif state is not None:
        try:
            error.__setstate__(state)
        except Exception:  # Python's own sets attributes, which a frozen class refuses.
            _set_attributes(error, state)
    if isinstance(error, BaseException):
        _finish(error, links, notes)


def itself(value: Any) -> Any:
    return value
