"""What a pool runs on if its processes need not keep anything: tasks, at most so many at a time.

Chunks in flight are *parts*: here refs, in `_pool_actors` futures. A pool and its results know no more
of them than both engines can do.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mobula import _calls, _core, _flight, _futures, exceptions

if TYPE_CHECKING:
    from collections.abc import Sequence

TERMINATED = "The pool was terminated."


class NotReady(Exception):
    """A part is not there in time."""


class Interrupted(BaseException):
    """What a signal's handler raised while this process waited. It is not that of a part."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def wait_for_all_refs(refs: Sequence[Any], timeout: float | None) -> bool:
    """False: not in time. Interrupted. `get` does not wait then; it raises if the session has ended."""
    try:
        return _flight.wait_for_refs(refs, len(refs), timeout)
    except BaseException as error:
        if isinstance(error, _futures.OF_ANOTHER_SESSION) and _futures.has_ended(refs[0]):
            return True
        raise Interrupted(error) from None


class TaskEngine:
    """Any thread may use it."""

    def __init__(self, size: int) -> None:
        self._functions = _calls.Functions(
            {"num_cpus": 0, "max_retries": 0}, _calls.LeaseLimit(size), exits_end_workers=True
        )
        # What they raise is the failure of the part: see `failed`.
        self.call = self._functions.submit
        self.map_submitter = self._functions.map_submitter
        self._is_terminated = False

    is_ready = staticmethod(_futures.is_ready_now)

    def failed(self, error: Exception) -> Any:
        """The part of what could not be sent."""
        return _core.put_error(error, "a pool")

    def value(self, part: Any, timeout: float | None = None) -> Any:
        """Raises what it raised; NotReady, Interrupted."""
        if not _futures.is_ready_now(part) and not wait_for_all_refs((part,), timeout):
            raise NotReady
        try:
            return _core.get(part)
        except BaseException as error:
            raised = self._raised(error)
        raise raised

    def values(self, parts: list[Any], timeout: float | None = None) -> list[Any]:
        """Of all, when all are ready. Raises the first error; NotReady, Interrupted."""
        if len(parts) == 1:
            return [self.value(parts[0], timeout)]
        if parts and not wait_for_all_refs(parts, timeout):
            raise NotReady
        try:
            return _core.get(parts)  # type: ignore[no-any-return]
        except BaseException as error:
            raised = self._raised(error)
        raise raised

    wait_for = staticmethod(_flight.wait_for_refs)

    def wait_for_all(self, parts: Sequence[Any]) -> None:
        if parts:
            wait_for_all_refs(parts, None)

    def tell(self, part: Any, follower: _futures.Follower) -> None:
        """`follower.on_ready()` is called once when the part is ready."""
        _futures.notifier_of_session().settle_at_once(part, follower)

    def close(self) -> None:
        """No more parts are asked for; those that there are end."""

    def terminate(self, parts: list[Any]) -> None:
        """`parts`: those in flight."""
        self._is_terminated = True
        for part in reversed(parts):  # The last ones first, so that none of them starts meanwhile.
            with contextlib.suppress(*_futures.OF_ANOTHER_SESSION):
                _core.cancel(part, True, True)

    def _raised(self, error: BaseException) -> BaseException:
        if self._is_terminated and isinstance(
            error, (exceptions.TaskCancelledError, exceptions.WorkerCrashedError)
        ):
            return exceptions.ActorDiedError(TERMINATED)
        if isinstance(error, exceptions.WorkerCrashedError):
            died = exceptions.ActorDiedError(str(error))
            died.__cause__ = error
            return died
        return _calls.as_raised(error)
