"""Exceptions on their way to another process.

pickle makes an exception again by calling its class with `args`. That is seldom what `__init__` takes,
and it forgets causes, contexts, slots and what built-in classes keep for themselves. Here an exception
is made blank, without any code of its class, and then filled with what it had. The extension's pickler
asks `reduce_exception` for every exception that it meets, at any depth.
"""

from __future__ import annotations

import base64
import builtins
import copyreg
import io
import pickle
import threading
import types
from collections import ChainMap
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle  # type: ignore[import-untyped]
from mobula import _code_pickled, _core, _exceptions_salvaged
from mobula._exceptions_unpickled import (
    ARGS,
    CAUSE,
    CONTEXT,
    DICT,
    HEAP_TYPE,
    SUPPRESS,
    blank_of,
    by_itself,
    called,
    fill,
    fill_by_itself,
    itself,
    overrides,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUPS: Any = getattr(builtins, "BaseExceptionGroup", ())  # New in Python 3.11.
_PLAIN = (str, int, float, bytes, bool, type(None))
# An exception with more causes and contexts behind it goes without them.
_LINKED_MAX = 64
_KINDS_MAX = 1000
# Each pending call of an actor that could not be made has its own copy. Bytes.
_IN_LETTERS_MAX = 16 << 10
_REPR_MAX = 200


class _Thread(threading.local):
    """How exceptions are pickled on this thread."""

    dropped: dict[str, None] | None = None
    """None: what cannot be pickled is an error. Else it is left out, and told here."""
    verdicts: dict[int, tuple[Any, Exception | None]] | None = None
    """By id: (the value, why it cannot be pickled), while answers are looked for."""


_thread = _Thread()


# ---- what there is to know of a class ------------------------------------------------------------


class _Kind:
    """How exceptions of one class are taken apart."""

    __slots__ = (
        "fields",
        "has_getstate",
        "is_builtin",
        "is_group",
        "is_made_by_c",
        "is_ours",
        "reduces_itself",
    )

    def __init__(self, kind: type[BaseException]) -> None:
        self.is_ours = kind.__module__ == "mobula.exceptions"
        self.reduces_itself = overrides(kind, "__reduce__") or overrides(kind, "__reduce_ex__")
        self.has_getstate = overrides(kind, "__getstate__")
        self.is_builtin = not kind.__flags__ & HEAP_TYPE and kind.__module__ == "builtins"
        self.is_group = issubclass(kind, _GROUPS)
        # What is kept out of sight only the constructor can bring back.
        self.is_made_by_c = any(map(_is_made_by_c, kind.__mro__))
        self.fields = tuple(_fields(kind, self.has_getstate))


def _is_made_by_c(base: type) -> bool:
    if base.__module__ == "builtins":
        return False
    new, init = vars(base).get("__new__"), vars(base).get("__init__")
    return isinstance(new, types.BuiltinFunctionType) or isinstance(
        init, types.WrapperDescriptorType
    )


def _fields(kind: type, without_slots: bool) -> Iterator[tuple[str, Any]]:
    """Where instances keep what is not in their `__dict__`: slots, and members of built-in classes."""
    seen = {"exceptions", "message"} if issubclass(kind, _GROUPS) else set()
    for base in kind.__mro__:
        if base in (BaseException, object) or (without_slots and "__slots__" in vars(base)):
            continue
        for name, value in vars(base).items():
            is_field = isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))
            if is_field and name not in seen and not (name[:2] == name[-2:] == "__"):
                seen.add(name)
                yield name, value


_kinds: dict[type, _Kind] = {}


def _kind_of(kind: type[BaseException]) -> _Kind:
    found = _kinds.get(kind)
    if found is None:
        # Classes of `__main__` arrive anew with every message, so the table must not grow for ever.
        if len(_kinds) >= _KINDS_MAX:
            _kinds.clear()
        found = _kinds[kind] = _Kind(kind)
    return found


# ---- taking apart --------------------------------------------------------------------------------


def reduce_exception(error: BaseException) -> Any:
    """What a pickler's `reducer_override` returns for an exception."""
    kind = _kind_of(type(error))
    if _has_own_reducer(type(error)) or (kind.is_ours and kind.reduces_itself):
        return NotImplemented
    if kind.reduces_itself:
        try:
            return _reduced_by_itself(error)
        except Exception:  # Its own way fails. It has not said that nothing else would do.
            pass
    return _reduced(error, kind, _links(error))


def _has_own_reducer(kind: type[BaseException]) -> bool:
    """In copyreg. One that stands there for all exceptions knows nothing of this one: tblib, which
    comes with dask.distributed, adds such a one."""
    reducer = copyreg.dispatch_table.get(kind)
    return reducer is not None and reducer is not copyreg.dispatch_table.get(BaseException)


def _reduced(error: BaseException, kind: _Kind, links: tuple[Any, ...] | None) -> tuple[Any, ...]:
    arguments = ARGS.__get__(error)
    given: Any = (error.message, tuple(error.exceptions)) if kind.is_group else ()  # type: ignore[attr-defined]
    fields = _values(error, kind)
    attributes = _attributes(error, kind)
    if _thread.dropped is not None:
        name = type(error).__qualname__
        if kind.is_group:
            given = (given[0], tuple(map(_member, given[1])))
        arguments = tuple(
            value if _may_go(value, f"{name}.args[{i}]") else NotSent(value)
            for i, value in enumerate(arguments)
        )
        fields = {key: v for key, v in fields.items() if _may_go(v, f"{name}.{key}")}
        if isinstance(attributes, dict):
            attributes = {k: v for k, v in attributes.items() if _may_go(v, f"{name}.{k}")}
        elif not _may_go(attributes, f"the state of {name}"):
            attributes = None
    if kind.is_builtin and not (fields or attributes or links or kind.is_group):
        return type(error), arguments
    make = called if kind.is_made_by_c else blank_of
    first = (type(error), arguments) if kind.is_made_by_c else (type(error), given)
    notes = DICT.__get__(error).get("__notes__") if kind.has_getstate else None
    return make, first, (arguments, attributes, fields, links, notes), None, None, fill


def _reduced_by_itself(error: BaseException) -> tuple[Any, ...] | str:
    """By the class's own `__reduce__`. What it returns may not work where it arrives: a second way goes
    with it, as bytes of its own."""
    made: Any = error.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if isinstance(made, str):
        return made
    make, arguments, state, items, pairs, setter = tuple(made) + (None,) * (6 - len(made))
    try:
        spare, _ = dumps_what_can_be(_Another(error))
    except Exception:  # That is why it has its own way.
        spare = b""
    notes = DICT.__get__(error).get("__notes__")
    rest = (state, setter, _links(error), notes)
    return by_itself, (make, arguments, spare), rest, items, pairs, fill_by_itself


class _Another:
    """Pickles an exception without its own `__reduce__`."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        return _reduced(self._error, _kind_of(type(self._error)), None)


class _Unlinked:
    """Pickles an exception without its causes and contexts."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        kind = _kind_of(type(self._error))
        if kind.is_ours or kind.reduces_itself:
            return itself, (self._error,)
        return _reduced(self._error, kind, None)


def _values(error: BaseException, kind: _Kind) -> dict[str, Any]:
    values = {}
    for name, field in kind.fields:
        try:
            value = field.__get__(error)
        except AttributeError:  # It was never set.
            continue
        # What an AttributeError is about can be anything, of any size. Python's own pickle forgets it.
        is_default = value is None or (name == "obj" and type(value) not in _PLAIN)
        if not (is_default and field.__objclass__.__module__ == "builtins"):
            values[name] = value
    return values


def _attributes(error: BaseException, kind: _Kind) -> Any:
    if kind.has_getstate:
        try:
            return error.__getstate__()  # type: ignore[attr-defined, unused-ignore]
        except Exception:  # The plain way is left.
            pass
    return dict(DICT.__get__(error)) or None


# ---- causes and contexts -------------------------------------------------------------------------


def _links(error: BaseException) -> tuple[Any, ...] | None:
    """(cause, context, suppress context), or None if it has none. They have never been part of a
    pickle: one that cannot be pickled stays behind."""
    cause, context = CAUSE.__get__(error), CONTEXT.__get__(error)
    suppress = SUPPRESS.__get__(error)
    if cause is None and context is None:
        return (None, None, True) if suppress else None
    if _linked_count(error) > _LINKED_MAX:
        return None
    return _link(cause), _link(context), suppress


def _linked_count(error: BaseException) -> int:
    seen = {id(error)}
    waiting = [error]
    while waiting and len(seen) <= _LINKED_MAX:
        one = waiting.pop()
        for link in (CAUSE.__get__(one), CONTEXT.__get__(one)):
            if link is not None and id(link) not in seen:
                seen.add(id(link))
                waiting.append(link)
    return len(seen)


def _link(error: BaseException | None) -> BaseException | None:
    if error is None or (type(error).__module__ == "builtins" and _is_plain(error)):
        return error
    return error if _why_not(error, _Unlinked(error)) is None else None


def _is_plain(error: BaseException) -> bool:
    return not DICT.__get__(error) and all(type(v) in _PLAIN for v in ARGS.__get__(error))


# ---- what cannot be pickled ----------------------------------------------------------------------


def dumps(value: Any) -> bytes:
    """Within a value that is being serialized, as part of it; else for pickle's `loads`."""
    return _core.dumps(value) if _core.is_serializing() else dumps_plainly(value)


def dumps_plainly(value: Any) -> bytes:
    sink = io.BytesIO()
    _Pickler(sink, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return sink.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """As the extension's, where there is no session."""

    dispatch_table: ClassVar[Any] = ChainMap(_code_pickled.REDUCERS, copyreg.dispatch_table)

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, BaseException):
            return reduce_exception(value)
        if isinstance(value, (types.FunctionType, type)):
            return _code_pickled.reduce_code(super().reducer_override, value)
        return NotImplemented


def dumps_what_can_be(value: Any) -> tuple[bytes, tuple[str, ...]]:
    """(pickled, what was left out): exceptions in `value` go without what cannot be pickled of them."""
    try:
        return dumps(value), ()
    except Exception:
        outer = _thread.dropped, _thread.verdicts
        dropped: dict[str, None] = {}
        _thread.dropped, _thread.verdicts = dropped, {}
        try:
            return dumps(value), tuple(dropped)
        finally:
            _thread.dropped, _thread.verdicts = outer


def _why_not(value: Any, pickled: Any) -> Exception | None:
    """Why `pickled`, which stands for `value`, cannot be pickled. What is being looked at can be."""
    is_first = _thread.verdicts is None
    if _thread.verdicts is None:
        _thread.verdicts = {}
    verdicts = _thread.verdicts
    found = verdicts.get(id(value))
    if found is not None:
        return found[1]
    verdicts[id(value)] = value, None
    try:
        dumps(pickled)
    except Exception as error:
        verdicts[id(value)] = value, error
        return error
    else:
        return None
    finally:
        if is_first:
            _thread.verdicts = None


def _may_go(value: Any, where: str) -> bool:
    if type(value) in _PLAIN:
        return True
    why = _why_not(value, value)
    if why is not None and _thread.dropped is not None:
        _thread.dropped[f"{where}: {why}"] = None
    return why is None


def _member(error: BaseException) -> BaseException:
    """Of an exception group: a place cannot stay empty."""
    if _may_go(error, type(error).__qualname__):
        return error
    from mobula import exceptions

    return exceptions.UnserializableException(f"{type(error).__qualname__}: {short(error)}")


class NotSent:
    """Stands for what could not be pickled, and looks like it."""

    def __init__(self, value: Any) -> None:
        self._text = short(value)

    def __repr__(self) -> str:
        return self._text


def short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__qualname__} whose repr() raised {type(error).__qualname__}>"
    return text if len(text) <= _REPR_MAX else text[: _REPR_MAX - 3] + "..."


# ---- for picklers that are not ours --------------------------------------------------------------


class Portable:
    """Holds an exception, and pickles it so with picklers that are not ours."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _portable, (dumps_what_can_be(self.error)[0],)


def _portable(pickled: bytes) -> Portable:
    return Portable(_exceptions_salvaged.loads(pickled)[0])


def in_letters(error: BaseException) -> bytes:
    """For a message that is text. b"": it is too large, or cannot be pickled."""
    try:
        pickled = dumps_what_can_be(error)[0]
    except Exception:  # The text tells of it.
        return b""
    return base64.b64encode(pickled) if len(pickled) <= _IN_LETTERS_MAX else b""


def from_letters(letters: str) -> BaseException | None:
    try:
        error = _exceptions_salvaged.loads(base64.b64decode(letters))[0]
    except Exception:  # The text tells of it.
        return None
    return error if isinstance(error, BaseException) else None
