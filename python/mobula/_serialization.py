"""The parts of serialization that are better written in Python: making picklers, saying what could
not be serialized, and carrying exceptions. The extension calls them, none of them for plain values.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import linecache
import os
import pickle
import sys
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]
from mobula import _code_pickled, _core, _culprits, _exceptions_pickled, _exceptions_salvaged
from mobula._titles import title_prefix

if TYPE_CHECKING:
    from collections.abc import Callable

_CPickler = pickle.Pickler
_PROTOCOL = 5
# Longer texts are cut. Characters.
_TEXT_MAX = 16 * 1024
# How far an exception's causes, and frames in one traceback, are followed.
_CHAIN_MAX = 16
_FRAMES_MAX = 60

# ---- picklers ------------------------------------------------------------------------------------

# cloudpickle's reducers and ours by exact type. The extension looks here itself, which spares picklers
# a look into a ChainMap for every object.
REDUCERS: dict[type, Callable[[Any], Any]] = _code_pickled.REDUCERS
# Modules whose functions and classes the user wants pickled by value.
BY_VALUE_MODULES: set[str] = cloudpickle.cloudpickle._PICKLE_BY_VALUE_MODULES


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    @property
    def dispatch_table(self) -> Any:
        """There is none: without one the C pickler looks into copyreg's by itself, and fast."""
        raise AttributeError

    def reducer_override(self, value: Any) -> Any:
        """Of functions and classes that the extension does not find by their name."""
        if isinstance(value, type) and (actor := sys.modules.get("mobula.actor")) is not None:
            reduced = actor.reduce_plain(value)
            if reduced is not None:
                return reduced
        return super().reducer_override(value)


reduce_exception = _exceptions_pickled.reduce_exception


def make_pickler(
    write: Callable[[Any], None],
    buffer_callback: Callable[[Any], bool],
    reducer_override: Callable[[Any], Any],
) -> tuple[Any, Any, Any, dict[Any, Any]]:
    """A pickler that the extension uses again and again: (dump, clear_memo, how cloudpickle reduces
    functions and classes, a dict to be emptied after each dump)."""
    file = type("_Sink", (), {"write": staticmethod(write)})
    pickler = _Pickler(file, protocol=_PROTOCOL, buffer_callback=buffer_callback)
    reduce_code = functools.partial(_code_pickled.reduce_code, pickler.reducer_override)
    pickler.reducer_override = reducer_override  # type: ignore
    dump = _CPickler.dump.__get__(pickler)
    return dump, pickler.clear_memo, reduce_code, pickler.globals_ref


# Kinds of numpy types whose `str` says all about them.
_PLAIN_KINDS = frozenset("biufcSU")


def reduce_array(array: Any) -> tuple[Any, ...]:
    """Reduces an array (of exactly numpy.ndarray). Twice as fast as numpy's own way for those that
    are nothing but numbers in a row."""
    dtype = array.dtype
    if (
        dtype.kind in _PLAIN_KINDS
        and dtype.metadata is None
        and array.flags.c_contiguous
        and array.nbytes
    ):
        return load_array, (pickle.PickleBuffer(array), dtype.str, array.shape)
    return array.__reduce_ex__(_PROTOCOL)  # type: ignore[no-any-return]


def load_array(buffer: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    import numpy

    array = numpy.frombuffer(buffer, dtype)
    return array if len(shape) == 1 else array.reshape(shape)


def reduce_private_array(array: Any) -> tuple[Any, ...]:
    """Reduces an array inside of a thing of pandas."""
    from mobula import _pandas

    return _pandas.reduce_array(array)


def reduce_of_pandas(value: Any) -> Any:
    """Reduces blocks and arrays of pandas; NotImplemented: by its own means."""
    if type(value).__module__.partition(".")[0] != "pandas":
        return NotImplemented
    from mobula import _pandas

    return _pandas.reduce_data(value)


class PrivateBegin:
    """A mark in a pickle, never the same one twice: from here on arrays are pandas' to write."""


class PrivateEnd:
    """Up to here."""


def reduce_of_library(value: Any) -> Any:
    """Reduces memory of torch tensors and data of Arrow; NotImplemented: by its own means."""
    if type(value).__name__ == "TypedStorage":
        from mobula import _tensors

        return _tensors.reduce_storage(value)
    from mobula import _arrow

    return _arrow.reduce_data(value)


# ---- what could not be serialized ----------------------------------------------------------------


def bind_arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> None:
    """TypeError: the arguments do not fit the function's signature."""
    from mobula import _signatures

    try:
        signature = _signatures.of(function)
    except ValueError:  # Some callables do not tell.
        return
    signature.bind(*args, **kwargs)


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or getattr(function, "__name__", function))


def _parameter(function: Any, position: int) -> str | None:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if position < len(parameters) and parameters[position].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        return parameters[position].name
    return None


def pickle_plainly(value: Any) -> bytes:
    """As bytes that the standard library's pickle loads."""
    return _exceptions_pickled.dumps_plainly(value)


def serialization_error(
    role: str, value: Any, position: int | str | None, function: Any, error: BaseException
) -> BaseException:
    """The exception to raise because pickling `value` raised `error`. What the user's own __reduce__
    and the like raised stays as it is."""
    if not isinstance(error, (TypeError, pickle.PicklingError, AttributeError)):
        return error
    what = f"the {role}" if role == "function" else f"the {role} {_exceptions_pickled.short(value)}"
    if role == "function":
        module = getattr(value, "__module__", None)
        what += f" {module}.{_name_of(value)}" if module else f" {_name_of(value)}"
    if isinstance(position, str):
        what += f" (argument {position!r}) of task {_name_of(function)}"
    elif role == "argument" and position is not None:
        name = _parameter(function, position)
        which = f"{position + 1}, {name!r}" if name else f"{position + 1}"
        what += f" (argument {which}) of task {_name_of(function)}"
    elif role == "result":
        which = "" if position is None else f" (number {position + 1})"
        what += f"{which} of task {function}"
    text = f"Could not serialize {what}: {error}"
    path = _culprits.find_unserializable(value)
    if path:
        text += f". The culprit is {path}"
    explained = TypeError(text)
    explained.__cause__ = error
    return explained


def too_large(function: Callable[..., Any], name: str, megabytes: float) -> BaseException:
    """The exception for a function that takes `megabytes` MiB: it names what is large."""
    sizes = []
    for step, part in _culprits.parts(inspect.unwrap(function)):
        try:
            sizes.append((len(_core._encode_for_test(part)[0]), step.removeprefix(" -> ")))
        except Exception:  # It went into the function by other means.
            continue
    culprit = ""
    if sizes:
        size, step = max(sizes)
        culprit = f" Most of it is {step}: {size / 2**20:.0f} MiB."
    return ValueError(
        f"The remote function {name} is too large: {megabytes:.0f} MiB with what it refers to, and "
        f"95 MiB are allowed.{culprit} Put that into the object store with put(), and pass the ref "
        "as an argument."
    )


# ---- exceptions ----------------------------------------------------------------------------------


@dataclass
class RaisedError:
    """One exception of a chain, as text."""

    class_name: str
    lines: list[str]
    """What `traceback.format_exception_only` says, or the whole text of an exception group."""
    frames: list[tuple[str, int, str]]
    """(file, line number, function), the outermost first."""
    frames_left_out: int
    link: str
    """How the exception before it in the chain relates to it: "cause", "context" or ""."""


@dataclass
class TaskFailure:
    """An exception that a task raised, after its way through Mobula."""

    function_name: str
    pid: int
    chain: list[RaisedError]
    """The first cause first; the exception that left the task last. Never empty."""
    cause: BaseException | None
    """The exception itself; None if it did not survive pickling."""
    cause_missing: str
    """Why `cause` is None."""
    actor: tuple[str, str] | None = None
    """(id, repr) of the actor whose method it was."""
    left_out: list[str] = field(default_factory=list)
    """What `cause` lacks, because it could not be pickled, or not be loaded here; and why."""
    _text: str = field(default="", repr=False)

    @property
    def class_name(self) -> str:
        return self.chain[-1].class_name

    @property
    def traceback_text(self) -> str:
        """The traceback as Python prints it, headed by the task's name and process. Formatted when
        it is first read: most exceptions are never printed."""
        if not self._text:
            self._text = _format(self)
        return self._text


# New in Python 3.11.
_GROUPS: Any = getattr(builtins, "BaseExceptionGroup", ())

_LINKS = {
    "cause": "\nThe above exception was the direct cause of the following exception:\n\n",
    "context": "\nDuring handling of the above exception, another exception occurred:\n\n",
    "": "",
}


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "... (cut)\n"


def _describe(error: BaseException, link: str) -> tuple[Any, ...]:
    frames = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        frames.append((code.co_filename, step.tb_lineno, name))
        step = step.tb_next
    left_out = max(0, len(frames) - _FRAMES_MAX)
    if left_out:
        half = _FRAMES_MAX // 2
        frames = frames[:half] + frames[-half:]
    try:
        if isinstance(error, _GROUPS):
            lines = traceback.format_exception(error, chain=False)
            frames = []
        else:
            lines = traceback.format_exception_only(type(error), error)
    except Exception:  # The user's __str__ can do anything.
        lines = [f"{type(error).__qualname__}: <it cannot be printed>\n"]
    return type(error).__qualname__, [_cut(line) for line in lines], frames, left_out, link


def _chain(error: BaseException) -> list[tuple[Any, ...]]:
    described: list[tuple[Any, ...]] = []
    seen = {id(error)}
    current = error
    while True:
        if current.__cause__ is not None:
            earlier, link = current.__cause__, "cause"
        elif current.__context__ is not None and not current.__suppress_context__:
            earlier, link = current.__context__, "context"
        else:
            earlier, link = None, ""
        if earlier is None or id(earlier) in seen or len(described) == _CHAIN_MAX - 1:
            described.append(_describe(current, ""))
            return described[::-1]
        described.append(_describe(current, link))
        seen.add(id(earlier))
        current = earlier


def encode_failure(error: BaseException, function_name: str, with_cause: bool) -> tuple[Any, ...]:
    """Plain data that tells of `error`. The extension pickles it, in whose scope this may run twice:
    without the exception itself if that is too large or cannot be pickled."""
    if isinstance(error, KeyboardInterrupt):  # By `cancel`, or of the task's own will.
        error = _cancellation(error)
    actor = _this_actor()
    if with_cause:
        return function_name, os.getpid(), _chain(error), _Cause(error), "", actor
    return function_name, os.getpid(), _chain(error), None, "it cannot be pickled", actor


def _this_actor() -> tuple[str, str] | None:
    """(id, repr) of the actor that this process is, if it is one."""
    module = sys.modules.get("mobula._actor_worker")
    actor = module.this_actor() if module is not None else None
    if actor is None:
        return None
    try:
        return actor.actor_id, _cut(repr(actor.instance)) if actor.instance is not None else ""
    except Exception:  # It is the user's.
        return actor.actor_id, f"<{actor.class_name}, whose repr fails>"


def _cancellation(interrupt: KeyboardInterrupt) -> BaseException:
    from mobula import exceptions

    task = _core.current_task()
    error = exceptions.TaskCancelledError(task["task_id"] if task else None)
    return error.with_traceback(interrupt.__traceback__)


# Larger ones are put beside the failure.
_CAUSE_BYTES_MAX = 32 * 1024


class _Cause:
    """Pickles an exception as bytes of its own, so that the rest of the message is readable where
    the exception cannot be loaded: (bytes, or a ref of them; what was left out)."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        pickled, left_out = _exceptions_pickled.dumps_what_can_be(self._error)
        if len(pickled) > _CAUSE_BYTES_MAX:
            return tuple, ((_core.put(pickled), left_out),)
        return tuple, ((pickled, left_out),)


def decode_failure(described: tuple[Any, ...]) -> TaskFailure:
    """The other end of `encode_failure`."""
    function_name, pid, chain, sent, cause_missing, actor = described
    cause = None
    left_out: list[str] = []
    if sent is not None:
        pickled, not_sent = sent
        left_out.extend(not_sent)
        try:
            if isinstance(pickled, _core.ObjectRef):
                pickled = _core.get(pickled)
            cause, missing = _exceptions_salvaged.loads(pickled)
            left_out.extend(missing)
        except Exception as error:
            cause_missing = f"it cannot be unpickled: {type(error).__qualname__}: {error}"
        else:
            if not isinstance(cause, BaseException):
                cause_missing = f"it was unpickled as {type(cause).__qualname__}"
                cause = None
    raised = [RaisedError(*part) for part in chain]
    return TaskFailure(function_name, pid, raised, cause, cause_missing, actor, left_out)


def _format(failure: TaskFailure) -> str:
    from mobula import _machine

    who = f"pid={failure.pid}, ip={_machine.address()}"
    if failure.actor is not None:
        actor_id, actor_repr = failure.actor
        who += f", actor_id={actor_id}" + (f", repr={actor_repr}" if actor_repr else "")
    head = f"{title_prefix()}{failure.function_name}() ({who})\n"
    pieces = []
    linecache.checkcache()
    for position, raised in enumerate(failure.chain):
        if position > 0:
            pieces.append(_LINKS[raised.link])
        if position == len(failure.chain) - 1:
            pieces.append(head)
        elif raised.frames:
            pieces.append("Traceback (most recent call last):\n")
        frames = traceback.StackSummary.from_list(
            [traceback.FrameSummary(file, line, name) for file, line, name in raised.frames]
        )
        shown = frames.format()
        if raised.frames_left_out:
            note = f"  ... {raised.frames_left_out} frames left out ...\n"
            shown.insert(len(shown) // 2, note)
        pieces.extend(shown)
        pieces.extend(raised.lines)
    pieces.extend(f"(Did not arrive: {what})\n" for what in failure.left_out)
    return "".join(pieces).rstrip("\n")
