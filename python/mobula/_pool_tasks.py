"""What a pool runs on if its processes need not keep anything: tasks, at most so many at a time.

Chunks in flight are *parts*: here refs, in `_pool_actors` futures. A pool and its results know no more
of them than both engines can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mobula import _calls, _core, _flight, _futures, exceptions

if TYPE_CHECKING:
    from collections.abc import Sequence

TERMINATED = "The pool was terminated."


class NotReady(Exception):
    """A part is not there in time."""


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
        """Raises what it raised; NotReady."""
        try:
            return _core.get(part) if timeout is None else _core.get(part, timeout=timeout)
        except BaseException as error:
            raised = self._raised(error)
        raise raised

    def values(self, parts: list[Any], timeout: float | None = None) -> list[Any]:
        """Of all, when all are ready. Raises the first error; NotReady."""
        if len(parts) == 1:
            return [self.value(parts[0], timeout)]
        try:
            return _core.get(parts, timeout=timeout)  # type: ignore[no-any-return]
        except BaseException as error:
            raised = self._raised(error)
        if isinstance(raised, NotReady) or is_interrupt(raised):
            raise raised
        # It has not waited for those behind.
        if len(_core.wait(parts, num_returns=len(parts), timeout=timeout)[0]) < len(parts):
            raise NotReady
        return [self.value(part) for part in parts]

    wait_for = staticmethod(_flight.wait_for_refs)

    def wait_for_all(self, parts: Sequence[Any]) -> None:
        if parts:
            _core.wait(list(parts), num_returns=len(parts), timeout=None)

    def tell(self, part: Any, follower: _futures.Follower) -> None:
        """`follower.on_ready()` is called once when the part is ready."""
        _futures.notifier_of_session().settle_at_once(part, follower)

    def close(self) -> None:
        """No more parts are asked for; those that there are end."""

    def terminate(self, parts: list[Any]) -> None:
        """`parts`: those in flight."""
        self._is_terminated = True
        for part in reversed(parts):  # The last ones first, so that none of them starts meanwhile.
            _core.cancel(part, True, True)

    def _raised(self, error: BaseException) -> BaseException:
        if type(error) is exceptions.GetTimeoutError:
            return NotReady()
        if self._is_terminated and isinstance(
            error, (exceptions.TaskCancelledError, exceptions.WorkerCrashedError)
        ):
            return exceptions.ActorDiedError(TERMINATED)
        if isinstance(error, exceptions.WorkerCrashedError):
            died = exceptions.ActorDiedError(str(error))
            died.__cause__ = error
            return died
        return _calls.as_raised(error)


def is_interrupt(error: BaseException) -> bool:
    """Of this process, not of the task."""
    return isinstance(error, KeyboardInterrupt) and not isinstance(error, exceptions.RayError)
