"""From what a failed task sent (`_serialization.TaskFailure`) to the exception that `get` raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobula import exceptions

if TYPE_CHECKING:
    from mobula._serialization import TaskFailure


def to_exception(failure: TaskFailure) -> BaseException:
    """A RayTaskError, as an instance of what the task raised where that is possible."""
    cause = failure.cause
    if cause is None:
        cause = exceptions.UnserializableException(failure.traceback_text)
    elif isinstance(cause, exceptions.RayTaskError):
        # The task passed on what a task of its own raised: that one's cause is the user's exception.
        cause = cause.cause
    error = exceptions.RayTaskError(
        failure.function_name, failure, cause, pid=failure.pid, ip=_address()
    )
    return error.as_instanceof_cause()


def _address() -> str:
    from mobula import _machine

    return _machine.address()
