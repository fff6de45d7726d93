"""From what a failed task sent (`_serialization.TaskFailure`) to the exception that `get` raises."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from mobula import exceptions

if TYPE_CHECKING:
    from mobula._serialization import TaskFailure

_IGNORE = "MOBULA_IGNORE_UNHANDLED_ERRORS"
_IGNORE_OF_RAY = "RAY_IGNORE_UNHANDLED_ERRORS"  # Counts for programs that run as Ray's.
_logger = logging.getLogger("mobula")


def to_exception(failure: TaskFailure) -> BaseException:
    """A RayTaskError, as an instance of what the task raised where that is possible."""
    cause = failure.cause
    if cause is None:
        cause = exceptions.UnserializableException(failure.traceback_text)
    elif isinstance(cause, exceptions.UnserializableException):  # Its class is missing here.
        cause._original_stack_trace = failure.traceback_text
    elif isinstance(cause, exceptions.RayTaskError):
        # The task passed on what a task of its own raised: that one's cause is the user's exception.
        cause = cause.cause
    actor_id, actor_repr = failure.actor or (None, None)
    error = exceptions.RayTaskError(
        failure.function_name,
        failure,
        cause,
        pid=failure.pid,
        ip=_address(),
        actor_repr=actor_repr,
        actor_id=actor_id,
    )
    return error.as_instanceof_cause()


def of_dependent(function_name: str, argument_error: BaseException) -> BaseException:
    """The error of a task that never ran because an argument of its is `argument_error`."""
    if isinstance(argument_error, exceptions.RayTaskError):
        cause, text = argument_error.cause, str(argument_error)
    else:
        cause = argument_error
        text = f"{type(argument_error).__qualname__}: {argument_error}"
    text = (
        f"{function_name}()\n"
        f"At least one of the input arguments of this task could not be computed, so it did not run:\n"
        f"{text}"
    )
    error = exceptions.RayTaskError(function_name, text, cause, pid=0, ip=_address())
    return error.as_instanceof_cause()


def of_unpickling(error: BaseException) -> BaseException:
    """A value came, but its own class failed to make it again from what it was pickled as."""
    text = "".join(traceback.format_exception(error))
    outer = exceptions.RaySystemError(error, text)
    outer.__cause__ = error
    return outer


def of_function(name: str, error: BaseException) -> BaseException:
    """The function of a task cannot be loaded in the worker."""
    inner = error.__cause__ if isinstance(error, exceptions.RaySystemError) else error
    outer = RuntimeError(
        f"The remote function {name} failed to import on the worker. Something that it uses may be "
        f"missing there:\n\n{''.join(traceback.format_exception(inner))}"
    )
    outer.__cause__ = inner
    return outer


def tell_unhandled(errors: list[BaseException], not_kept: int) -> None:
    """Tasks failed whose refs are gone, and nobody had looked at what they returned. In a thread for
    which the end of the session waits."""
    from mobula import _address, _session

    _session.serve_session()
    if _IGNORE in os.environ or (_address.runs_as_ray() and _IGNORE_OF_RAY in os.environ):
        return
    # The program itself cancelled it, or the task never ran: what it lacked was told at the time.
    silent = (exceptions.TaskCancelledError, exceptions.TaskUnschedulableError)
    for error in errors:
        if isinstance(error, silent):
            continue
        _logger.error(f"Unhandled error (suppress with '{_IGNORE}=1'): {error}")
    if not_kept:
        _logger.error(f"{not_kept} more tasks failed with an unhandled error that is not shown.")


def tell_retry(function: Any, retry: int, retries_max: int) -> None:
    """While the exception is handled: `function` is called again. Once a second at most."""
    now = time.monotonic()
    name = getattr(function, "__name__", str(function))
    if now < _told.get(name, 0.0) + _TELL_EVERY_SECONDS:
        return
    if len(_told) >= _TOLD_MAX:
        _told.clear()
    _told[name] = now
    attempts = f"attempt {retry + 1}"
    if retries_max >= 0:
        attempts += f" of {retries_max + 1}"
    error = _in_one_line(sys.exc_info()[1])
    print(f"{name} failed with {error}. It is called again: {attempts}.", file=sys.stderr)


def _in_one_line(error: BaseException | None) -> str:
    """The class of the exception and the first line of what it says."""
    if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause  # What it says itself is a whole traceback.
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("__main__", "builtins"):
        name = f"{kind.__module__}.{name}"
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # It is the user's.
        lines = ["<it cannot be printed>"]
    return f"{name}: {lines[0]}" if lines else name


_TELL_EVERY_SECONDS = 1.0
_TOLD_MAX = 1000
_told: dict[str, float] = {}


def _address() -> str:
    from mobula import _machine

    return _machine.address()
