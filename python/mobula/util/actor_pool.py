"""A fixed set of actors that work off what is submitted: `ActorPool`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from mobula import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Call = Callable[[Any, Any], Any]

_EMPTY = "No more results to get"


class ActorPool:
    """Gives work to whichever of its actors is free.

        pool = ActorPool([Worker.remote(), Worker.remote()])
        list(pool.map(lambda worker, value: worker.double.remote(value), [1, 2, 3]))   # [2, 4, 6]

    A call `fn(actor, value)` must return one ref. What is submitted while no actor is free waits here.
    Not for use by several threads at a time.
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle: list[Any] = list(actors)
        # By the number of the submission. A number that is missing was taken out of order.
        self._running: dict[int, tuple[Any, Any]] = {}  # (ref, actor)
        self._number_of: dict[Any, int] = {}
        self._waiting: deque[tuple[Call, Any]] = deque()
        self._submitted = 0  # Submissions that have been given to an actor.
        self._next = 0  # The submission whose result get_next() gives.

    def submit(self, fn: Call, value: Any) -> None:
        """Calls `fn(actor, value)` with the next free actor, now or later."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        ref = fn(actor, value)
        self._running[self._submitted] = (ref, actor)
        self._number_of[ref] = self._submitted
        self._submitted += 1

    def map(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """The results of `fn(actor, value)` for each of `values`, in their order. Results of earlier
        submissions are dropped. Raises what a call raised, at its turn."""
        self._drop_all()
        for value in values:
            self.submit(fn, value)

        def results() -> Iterator[Any]:
            while self.has_next():
                yield self.get_next()

        return results()

    def map_unordered(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """As `map`, but in the order in which the results come."""
        self._drop_all()
        for value in values:
            self.submit(fn, value)

        def results() -> Iterator[Any]:
            while self.has_next():
                yield self.get_next_unordered()

        return results()

    def has_next(self) -> bool:
        """Are there results, or calls that will have some?"""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result, in the order of submission.

        StopIteration: nothing was submitted. TimeoutError: it did not come in `timeout` seconds; with
        `ignore_if_timedout` this call's result will never be given. ValueError: get_next_unordered()
        has taken a later one. Raises what the call raised; its actor is free again then.
        """
        if not self.has_next():
            raise StopIteration(_EMPTY)
        if self._next not in self._running:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        ref, _ = self._running[self._next]
        if timeout is not None:
            ready, _ = _core.wait([ref], timeout=timeout)
            if not ready:
                self._timed_out(ref, ignore_if_timedout)
        self._next += 1
        return self._take(ref)

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """The result that comes first. Errors as with `get_next`; with `ignore_if_timedout` one of
        the calls that did not end in time is given up."""
        if not self.has_next():
            raise StopIteration(_EMPTY)
        ready, pending = _core.wait([ref for ref, _ in self._running.values()], timeout=timeout)
        if not ready:
            self._timed_out(pending[0], ignore_if_timedout)
        ref = ready[0]
        self._next = max(self._next, self._number_of[ref] + 1)
        return self._take(ref)

    def has_free(self) -> bool:
        """Is an actor free, with nothing waiting for one?"""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> Any | None:
        """Takes a free actor out of the pool; None if there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Adds an actor. ValueError: it is one of the pool's."""
        if actor in self._idle or any(actor == busy for _, busy in self._running.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._give_work(actor)

    def _timed_out(self, ref: Any, ignore: bool) -> None:
        if not ignore:
            raise TimeoutError("Timed out waiting for result")
        self._next = max(self._next, self._number_of[ref] + 1)
        self._forget(ref)
        raise TimeoutError(f"Timed out waiting for result. The task {ref} has been ignored.")

    def _take(self, ref: Any) -> Any:
        # First wait: an actor is free when its call is over, not when somebody asks for the result.
        _core.wait([ref])
        self._forget(ref)
        return _core.get(ref)

    def _forget(self, ref: Any) -> None:
        _, actor = self._running.pop(self._number_of.pop(ref))
        self._give_work(actor)

    def _give_work(self, actor: Any) -> None:
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.popleft())

    def _drop_all(self) -> None:
        self._waiting.clear()
        for ref, actor in self._running.values():
            del ref
            self._idle.append(actor)
        self._running.clear()
        self._number_of.clear()
        self._next = self._submitted
