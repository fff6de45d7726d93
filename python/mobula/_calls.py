"""Calls as tasks, for those who hand out something else than refs: executors, pools, joblib.

A function that is steady (`_steady`) is sent once, others with each call or with each map. Refs among
the arguments stay refs.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from mobula import _core, _steady, exceptions
from mobula._exceptions_pickled import Portable
from mobula._exceptions_unpickled import CAUSE

if TYPE_CHECKING:
    from collections.abc import Iterable

# Functions that are known to be steady are remembered, up to so many.
_STEADY_MAX = 256
# Of others, what travels with each call of a map; larger ones are put.
_FUNCTION_BYTES_MAX = 8 * 1024

_ObjectRef = _core.ObjectRef


# ---- in the worker


class Exit:
    """A call said SystemExit, which is for its caller, not for the worker."""

    def __init__(self, error: SystemExit) -> None:
        self.code = error.code


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _call_to_exit(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    try:
        return function(*args, **kwargs)
    except SystemExit as error:
        return Exit(error)


class _Sent:
    """A function that was sent once for many calls. The subclasses say how it is called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__name__ = getattr(function, "__name__", "call")
        self.__qualname__ = getattr(function, "__qualname__", self.__name__)


class _Calling(_Sent):
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


class _CallingToExit(_Sent):
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._function(*args, **kwargs)
        except SystemExit as error:
            return Exit(error)


class _OfOne(_Sent):
    """With a value."""

    def __call__(self, value: Any, /) -> Any:
        return self._function(value.value if type(value) is Held else value)


class _OfStar(_Sent):
    """With a tuple of arguments."""

    def __call__(self, values: tuple[Any, ...], /) -> Any:
        return self._function(*values)


class _OfEach(_Sent):
    """With each value of a list: the results, or Failures if one of the calls fails."""

    def __call__(self, values: list[Any], /) -> Any:
        function = self._function
        try:
            done = []
            for value in values:
                done.append(function(value))
            return done
        except Exception as error:
            return _with_failures(function, values, done, error)


class _OfEachStar(_Sent):
    def __call__(self, values: list[tuple[Any, ...]], /) -> Any:
        function = self._function
        try:
            done = []
            for each in values:
                done.append(function(*each))
            return done
        except Exception as error:
            return _with_failures(lambda each: function(*each), values, done, error)


HOW: tuple[Callable[[Any], Callable[[Any], Any]], ...] = (_OfOne, _OfStar, _OfEach, _OfEachStar)
# Functions that came with their calls, by the number of their map; the last ones.
_loaded: dict[bytes, Any] = {}
_LOADED_MAX = 32


def _run_loaded(how: int, number: bytes, function: bytes, value: Any) -> Any:
    call = _loaded.get(number)
    if call is None:
        call = HOW[how](decoded(function))
        while len(_loaded) >= _LOADED_MAX:
            del _loaded[next(iter(_loaded))]
        _loaded[number] = call
    return call(value)


def _run_given(how: int, function: Any, value: Any) -> Any:
    return HOW[how](function)(value)


class OfCalls(_Sent):
    """With (args, kwargs) of each call in a list. The first error ends it."""

    def __call__(self, calls: list[tuple[Any, Any]], /) -> Any:
        function = self._function
        return [function(*args, **kwargs) for args, kwargs in calls]


def _with_failures(
    call: Callable[[Any], Any], values: list[Any], done: list[Any], error: BaseException
) -> Failures:
    """`error` is that of the first call that is not done; the others are called yet."""
    outcomes: list[tuple[Any, Portable | None]] = [(value, None) for value in done]
    outcomes.append((None, Portable(error)))
    for value in values[len(outcomes) :]:
        try:
            outcomes.append((call(value), None))
        except Exception as another:
            outcomes.append((None, Portable(another)))
    return Failures(outcomes)


# ---- on the way


class Held:
    """Something that would be replaced by its value if it were an argument by itself."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Failures:
    """What calls returned or raised; it travels as a value, so that the others are not lost."""

    def __init__(self, outcomes: list[tuple[Any, Portable | None]]) -> None:
        self._outcomes = outcomes

    def outcomes(self) -> list[tuple[Any, BaseException | None]]:
        return [(value, None if error is None else error.error) for value, error in self._outcomes]


# ---- at the caller


class LeaseLimit:
    """So many tasks of one executor or pool at a time."""

    _free: ClassVar[list[int]] = []  # Numbers of those that have gone, for the next.
    _numbers = itertools.count(1)
    _lock = threading.RLock()  # A collection may run __del__ anywhere.

    def __init__(self, tasks_max: int) -> None:
        self.tasks_max = tasks_max
        with self._lock:
            self.number = heapq.heappop(self._free) if self._free else next(self._numbers)

    def __del__(self) -> None:
        with self._lock:
            heapq.heappush(self._free, self.number)


class Functions:
    """The remote functions of one executor or pool."""

    def __init__(
        self, options: dict[str, Any], limit: LeaseLimit | None, exits_end_workers: bool = False
    ) -> None:
        from mobula import _remote

        self._limit = limit  # Its number is in use for as long as its functions.
        pair = (0, 0) if limit is None else (limit.number, limit.tasks_max)
        self.make = functools.partial(_remote.RemoteFunction, options=options, limit=pair)
        self._calling = _Calling if exits_end_workers else _CallingToExit
        self.call = self.make(_call if exits_end_workers else _call_to_exit).remote
        # Steady functions that were called, by id, and from the second time on what submits a call.
        self._known: dict[int, tuple[Any, _steady.Snapshot, Any]] = {}
        # The same of maps, by id and how it is called.
        self._known_maps: dict[tuple[int, int], tuple[Any, _steady.Snapshot, Any]] = {}

    @functools.cached_property
    def _call_loaded(self) -> Any:
        return self.make(_run_loaded).remote

    @functools.cached_property
    def _call_given(self) -> Any:
        return self.make(_run_given).remote

    def submit(self, function: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
        """The ref of `function(*args, **kwargs)`. Refs among the arguments stay refs."""
        known = self._known.get(id(function))
        if known is None or known[0] is not function or not _steady.holds(known[1]):
            parts = _steady.snapshot(function)
            if parts is not None:
                self._remember(function, parts, None)
            return self.call(function, args, kwargs)
        for value in args:
            if type(value) is _ObjectRef:
                return self.call(function, args, kwargs)
        if kwargs and any(type(value) is _ObjectRef for value in kwargs.values()):
            return self.call(function, args, kwargs)
        submit = known[2]
        if submit is None:  # Many functions are called once only.
            submit = self.make(self._calling(function)).remote
            self._remember(function, known[1], submit)
        return submit(*args, **kwargs)

    def _remember(self, function: Any, parts: _steady.Snapshot, submit: Any) -> None:
        if len(self._known) >= _STEADY_MAX:
            self._known.clear()
        self._known[id(function)] = (function, parts, submit)

    def batch_submitter(self, function: Any) -> Callable[[Any], Any] | None:
        """What submits a list of (args, kwargs) for `function`. None: it is not steady."""
        key = (id(function), -1)
        known = self._known_maps.get(key)
        if known is not None and known[0] is function and _steady.holds(known[1]):
            return known[2]  # type: ignore[no-any-return]
        if (parts := _steady.snapshot(function)) is None:
            return None
        submit = self.make(OfCalls(function)).remote
        self._remember_map(key, (function, parts, submit))
        return submit  # type: ignore[no-any-return]

    def _remember_map(self, key: tuple[int, int], known: tuple[Any, _steady.Snapshot, Any]) -> None:
        if len(self._known_maps) >= _STEADY_MAX:
            self._known_maps.clear()
        self._known_maps[key] = known

    def map_submitter(self, function: Any, star: bool, each: bool) -> Callable[[Any], Any]:
        """What submits a call of `function` with a value, or with the arguments that `star` unpacks;
        or, with `each`, a list of such calls. It stands for the function as it is now."""
        how = 2 * each + star
        known = self._known_maps.get((id(function), how))
        if known is not None and known[0] is function and _steady.holds(known[1]):
            return known[2]  # type: ignore[no-any-return]
        if (parts := _steady.snapshot(function)) is None:
            submit = self._submitter_with_function(function, how)
        else:
            submit = self.make(HOW[how](function)).remote
        if not (star or each):
            submit = functools.partial(_submit_one, submit)
        if parts is not None:
            self._remember_map((id(function), how), (function, parts, submit))
        return submit

    def _submitter_with_function(self, function: Any, how: int) -> Callable[[Any], Any]:
        # What was sent once stays in the workers, and in this process, to the end.
        try:
            as_bytes = encoded(function)
        except Exception as error:
            return functools.partial(_fail, error)
        if as_bytes is None:
            return functools.partial(self._call_given, how, _core.put(function))
        return functools.partial(self._call_loaded, how, os.urandom(12), as_bytes)


def encoded(function: Any) -> bytes | None:
    """None: it is too large to travel with each call, or holds refs. Raises why it has no bytes."""
    as_bytes, refs = _core._encode_for_test(function)
    return None if refs or len(as_bytes) > _FUNCTION_BYTES_MAX else as_bytes


def decoded(function: bytes) -> Any:
    return _core._decode_for_test(function, ())


def _fail(error: BaseException, value: Any) -> Any:
    raise error


def _submit_one(submit: Callable[[Any], Any], value: Any) -> Any:
    return submit(value if type(value) is not _ObjectRef else Held(value))


def as_raised(error: BaseException) -> BaseException:
    """What the call itself raised, if it is that, with the traceback of the worker as its cause."""
    if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        CAUSE.__set__(error.cause, error)  # Classes may be frozen.
        return error.cause
    return error
