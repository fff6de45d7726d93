"""A fixed set of actors that work off what is submitted: `ActorPool`."""

from __future__ import annotations

import itertools
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from mobula import _core
from mobula.util._calls_ahead import key_of, results_as_they_come, results_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Call = Callable[[Any, Any], Any]
_EMPTY = "No more results to get"
# What map() does for a pool only if these are its own.
_OWN = ("submit", "has_next", "get_next", "get_next_unordered", "_return_actor")


class _Pending(deque[Any]):
    """What waits, first come first served. To subclasses of the pool it is a list."""

    def pop(self, index: int = -1) -> Any:
        value = self[index]
        del self[index]
        return value

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (list, deque)) else NotImplemented


class ActorPool:
    """Gives work to whichever of its actors is free.

        pool = ActorPool([Worker.remote(), Worker.remote()])
        list(pool.map(lambda worker, value: worker.double.remote(value), [1, 2, 3]))   # [2, 4, 6]

    A call `fn(actor, value)` must return a ref, or a list of them; the result of a list is one. What is
    submitted while no actor is free waits here. Not for use by several threads at a time.
    """

    # Of map(): how many calls actors have beside the one that makes them busy, by id(). Each call of it
    # makes a new one.
    _ahead: dict[int, int] = {}  # noqa: RUF012 -- See above.

    # Subclasses use these fields.
    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle_actors: list[Any] = list(actors)
        # What a call returned, a tuple if that was a list: the number of its submission, and its actor.
        self._future_to_actor: dict[Any, tuple[int, Any]] = {}
        # By the number of the submission. A number that is missing was taken out of order.
        self._index_to_future: dict[int, Any] = {}
        self._next_task_index = 0  # Submissions that have been given to an actor.
        self._next_return_index = 0  # The submission whose result get_next() gives.
        self._pending_submits = _Pending()

    def submit(self, fn: Call, value: Any) -> None:
        """Calls `fn(actor, value)` with the next free actor, now or later."""
        if not self._idle_actors:
            self._pending_submits.append((fn, value))
            return
        actor = self._idle_actors.pop()
        try:
            future = fn(actor, value)
            self._future_to_actor[key_of(future)] = (self._next_task_index, actor)
        except BaseException:
            self._idle_actors.append(actor)
            raise
        self._index_to_future[self._next_task_index] = future
        self._next_task_index += 1

    def map(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """The results of `fn(actor, value)` for each of `values`, in their order. Results of earlier
        submissions are dropped. Raises what a call raised, at its turn.

        An actor that executes one call at a time, in order, gets some short calls ahead, about a
        millisecond of them."""
        self._drop_all()
        if self._is_plain():
            self._submit_all(fn, values)
            return results_in_order(self)
        for value in values:
            self.submit(fn, value)

        def results() -> Iterator[Any]:
            while self.has_next():
                yield self.get_next()

        return results()

    def map_unordered(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """As `map`, but in the order in which the results come."""
        self._drop_all()
        if self._is_plain():
            self._submit_all(fn, values)
            return results_as_they_come(self)
        for value in values:
            self.submit(fn, value)

        def results() -> Iterator[Any]:
            while self.has_next():
                yield self.get_next_unordered()

        return results()

    def has_next(self) -> bool:
        """Are there results, or calls that will have some?"""
        return bool(self._future_to_actor)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result, in the order of submission.

        StopIteration: nothing was submitted. TimeoutError: it did not come in `timeout` seconds; with
        `ignore_if_timedout` this call's result will never be given. ValueError: get_next_unordered()
        has taken a later one. Raises what the call raised; its actor is free again then.
        """
        if not self.has_next():
            raise StopIteration(_EMPTY)
        if self._next_return_index not in self._index_to_future:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        future = self._index_to_future[self._next_return_index]
        if timeout is not None and _wait([future], timeout) is None:
            self._timed_out(future, ignore_if_timedout)
        self._next_return_index += 1
        return self._take(future)

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """The result that comes first. Errors as with `get_next`; with `ignore_if_timedout` one of
        the calls that did not end in time is given up."""
        if not self.has_next():
            raise StopIteration(_EMPTY)
        running = list(self._index_to_future.values())
        future = _wait(running, timeout)
        if future is None:
            self._timed_out(running[0], ignore_if_timedout)
        self._skip_to(future)
        return self._take(future)

    def has_free(self) -> bool:
        """Is an actor free, with nothing waiting for one?"""
        return bool(self._idle_actors) and not self._pending_submits

    def pop_idle(self) -> Any | None:
        """Takes a free actor out of the pool; None if there is none."""
        return self._idle_actors.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Adds an actor. ValueError: it is one of the pool's."""
        busy = [other for _, other in self._future_to_actor.values()]
        if actor in self._idle_actors or actor in busy:
            raise ValueError("Actor already belongs to current ActorPool")
        self._return_actor(actor)

    def _timed_out(self, future: Any, ignore: bool) -> NoReturn:
        if not ignore:
            raise TimeoutError("Timed out waiting for result")
        self._skip_to(future)
        self._forget(future)
        raise TimeoutError(f"Timed out waiting for result. The task {future} has been ignored.")

    def _skip_to(self, future: Any) -> None:
        """Those before it in the order of submission are for get_next_unordered() now."""
        number, _ = self._future_to_actor[key_of(future)]
        self._next_return_index = max(self._next_return_index, number + 1)

    def _take(self, future: Any) -> Any:
        # First wait: an actor is free when its call is over, not when somebody asks for the result.
        _wait([future], None)
        self._forget(future)
        return _core.get(future)

    def _forget(self, future: Any) -> None:
        number, actor = self._future_to_actor.pop(key_of(future))
        del self._index_to_future[number]
        if not self._ahead or not self._lower_ahead(actor):
            self._return_actor(actor)

    def _lower_ahead(self, actor: Any) -> bool:
        """One call of it is over. Has it others?"""
        left = self._ahead.get(id(actor), 0) - 1
        if left > 0:
            self._ahead[id(actor)] = left
        elif left == 0:
            del self._ahead[id(actor)]
        return left >= 0

    def _submit_all(self, fn: Call, values: Iterable[Any]) -> None:
        rest = iter(values)
        while self._idle_actors:
            for value in rest:
                self.submit(fn, value)
                break
            else:
                return
        self._pending_submits.extend(zip(itertools.repeat(fn), rest))

    def _is_plain(self) -> bool:
        """Does nothing of a subclass stand between the pool and its actors?"""
        own = vars(ActorPool)
        return all(getattr(type(self), name, None) is own[name] for name in _OWN)

    def _return_actor(self, actor: Any) -> None:
        """It is free: it gets what waits."""
        self._idle_actors.append(actor)
        if self._pending_submits:
            self.submit(*self._pending_submits.pop(0))

    def _drop_all(self) -> None:
        self._pending_submits.clear()
        for _, actor in self._future_to_actor.values():
            if not self._ahead or not self._lower_ahead(actor):
                self._idle_actors.append(actor)
        self._future_to_actor.clear()
        self._index_to_future.clear()
        self._next_return_index = self._next_task_index
        self._ahead = {}


def _wait(futures: list[Any], timeout: float | None) -> Any:
    """The first of them that is ready, a list with all of its refs; None: not in time."""
    if all(not isinstance(future, list) for future in futures):
        ready, _ = _core.wait(futures, timeout=timeout)
        return ready[0] if ready else None
    missing = {number: set(_refs(future)) for number, future in enumerate(futures)}
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        for number, refs in missing.items():
            if not refs:
                return futures[number]
        waited = list({ref: None for refs in missing.values() for ref in refs})
        left = None if end is None else max(0.0, end - time.monotonic())
        ready, _ = _core.wait(waited, num_returns=1, timeout=left)
        if not ready:
            return None
        for refs in missing.values():
            refs.difference_update(ready)


def _refs(future: Any) -> list[Any]:
    return future if isinstance(future, list) else [future]
