"""How `ActorPool.map` and `map_unordered` keep actors busy whose calls are short.

An actor that executes one call at a time, in the order in which they were made, can as well be given
its next calls before its last one is over: about a millisecond of them, seen how long calls have taken
lately. They are dealt out in turn, so that calls that would run at the same time in a pool without
calls ahead are never on one actor. Who takes results as they come also gets calls back that wait behind
a slow one, as soon as another actor has nothing to do.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from mobula import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mobula.util.actor_pool import ActorPool

# So many seconds' worth of calls an actor has at a time, one at least, and not more than so many.
_AHEAD_S = 1e-3
_DEPTH_MAX = 64
# So long a result is waited for before calls are taken back.
_SLOW_S = 1e-3
# Results that come one after the other are taken a few at a time, if that takes no longer.
_TOGETHER = 8
_TOGETHER_S = 200e-6


def key_of(future: Any) -> Any:
    """A list of refs is no key of a dict."""
    return tuple(future) if isinstance(future, list) else future


def results_in_order(pool: ActorPool) -> Iterator[Any]:
    """What `ActorPool.map` returns."""
    ahead = _Ahead(pool)
    while pool._future_to_actor:
        number = pool._next_return_index
        future = pool._index_to_future.get(number)
        if type(future) is not _core.ObjectRef:
            yield pool.get_next()
            continue
        if not _core.is_ready(future):
            _core.wait([future])
        pool._next_return_index = number + 1
        ahead.take(future)
        yield _core.get(future)


def results_as_they_come(pool: ActorPool) -> Iterator[Any]:
    """What `ActorPool.map_unordered` returns."""
    ahead = _Ahead(pool, may_take_back=True)
    ready: deque[Any] = deque()
    while pool._future_to_actor:
        if not ready:
            running = list(pool._index_to_future.values())
            if any(type(future) is not _core.ObjectRef for future in running):
                yield pool.get_next_unordered()
                continue
            ready.extend(ahead.some_ready(running))
        future = ready.popleft()
        found = pool._future_to_actor.get(future)
        if found is not None:  # Else somebody has taken it meanwhile.
            pool._next_return_index = max(pool._next_return_index, found[0] + 1)
            ahead.take(future)
            yield _core.get(future)


class _Ahead:
    """The calls of one `map`. How many an actor has beside the one that it would have in any case is in
    the pool's `_ahead`, by its id()."""

    def __init__(self, pool: ActorPool, may_take_back: bool = False) -> None:
        self._pool = pool
        self._may_take_back = may_take_back
        actors = [actor for _, actor in pool._future_to_actor.values()]
        actors += pool._idle_actors
        self._may_grow = len({id(actor) for actor in actors}) == len(actors)
        self._in_order: dict[int, bool] = {}
        self._checked = 0  # The number of the first call that was not looked at.
        self._depth = 1
        self._low = 0  # With more calls running than this, none are given out.
        self._taken = 0
        self._since = time.perf_counter()
        # What the calls ahead are, by number, to make them again.
        self._sent: dict[int, tuple[Callable[[Any, Any], Any], Any]] = {}

    def _check(self, future: Any, actor: Any) -> None:
        """Can others be sent behind this call?"""
        in_order = self._in_order.get(id(actor))
        if in_order is None:
            in_order = self._in_order[id(actor)] = _is_in_order(actor)
        # What was returned may be a task that uses the actor, and wants it for itself.
        if not (
            in_order
            and type(future) is _core.ObjectRef
            and _core.is_call_of(future, actor._mobula_ref)
        ):
            self._may_grow = False

    def take(self, future: Any) -> None:
        """A call has ended. Its actor gets its next call if it has no other."""
        pool = self._pool
        self._taken += 1
        now = time.perf_counter() if not self._low else 0.0
        number, actor = pool._future_to_actor.pop(future)
        del pool._index_to_future[number]
        left = pool._ahead.get(id(actor), 0)
        if left > 1:
            pool._ahead[id(actor)] = left - 1
        elif left == 1:
            del pool._ahead[id(actor)]
        else:
            pool._return_actor(actor)
        running = len(pool._future_to_actor)
        if running > self._low > 0 or not self._may_grow:
            return
        now = now or time.perf_counter()
        actors = running - sum(pool._ahead.values())
        if not actors or not pool._pending_submits:
            return
        # A call takes no longer than that: what we and who takes the results do is in it, too.
        seconds = max((now - self._since) * actors / self._taken, 1e-9)
        self._since = now
        self._taken = 0
        self._depth = max(1, min(int(_AHEAD_S / seconds), _DEPTH_MAX))
        self._low = 0
        if self._depth > 1:
            self._deal()

    def _deal(self) -> None:
        """Gives calls to all actors, one each in turn."""
        pool = self._pool
        actors: dict[int, Any] = {}
        counts: dict[int, int] = {}
        for future, (number, actor) in pool._future_to_actor.items():
            if number >= self._checked:
                self._check(future, actor)
            key = id(actor)
            actors[key] = actor
            counts[key] = counts.get(key, 0) + 1
        self._checked = pool._next_task_index
        while self._may_grow and pool._pending_submits:
            fewest = min(counts.values())
            if fewest >= self._depth:
                self._low = len(actors) * self._depth // 2
                break
            for key, actor in actors.items():
                if counts[key] == fewest and self._may_grow and pool._pending_submits:
                    self._send(actor, *pool._pending_submits.popleft())
                    counts[key] += 1

    def _send(self, actor: Any, fn: Callable[[Any, Any], Any], value: Any) -> None:
        pool = self._pool
        future = fn(actor, value)
        number = pool._next_task_index
        pool._future_to_actor[key_of(future)] = (number, actor)
        pool._index_to_future[number] = future
        pool._next_task_index = self._checked = number + 1
        ahead = pool._ahead
        ahead[id(actor)] = ahead.get(id(actor), 0) + 1
        if self._may_take_back:
            self._sent[number] = fn, value
        self._check(future, actor)

    def some_ready(self, running: list[Any]) -> list[Any]:
        """Those of the running calls that have ended; waits for one."""
        ready, _ = _core.wait(running, num_returns=len(running), timeout=0)
        if ready:
            return ready
        if self._depth > 1:
            few = min(_TOGETHER, len(running))
            ready, _ = _core.wait(running, num_returns=few, timeout=_TOGETHER_S)
            if ready:
                return ready
        if self._pool._ahead:
            ready, _ = _core.wait(running, num_returns=1, timeout=_SLOW_S)
            if ready:
                return ready
            if self._take_back():
                running = list(self._pool._index_to_future.values())
        return _core.wait(running, num_returns=1)[0]

    def _take_back(self) -> bool:
        """Actors that have nothing to do get calls that wait behind others."""
        pool = self._pool
        moved = 0
        for number, future in reversed(list(pool._index_to_future.items())):
            if not pool._idle_actors or pool._pending_submits:
                break
            _, busy = pool._future_to_actor[future]
            waits = number in self._sent and pool._ahead.get(id(busy), 0) > 0
            if not waits or not _core.cancel(future, False, False, True):
                continue
            del pool._future_to_actor[future]
            pool._lower_ahead(busy)
            self._depth, self._low = 1, 0
            moved += 1
            fn, value = self._sent.pop(number)
            idle = pool._idle_actors.pop()
            try:
                again = fn(idle, value)
                pool._future_to_actor[key_of(again)] = (number, idle)
                pool._index_to_future[number] = again
            except BaseException:
                pool._idle_actors.append(idle)
                pool._index_to_future.pop(number, None)
                raise
        return moved > 0


def _is_in_order(actor: Any) -> bool:
    """Does it execute one call at a time, in the order in which they were made, and take any number?"""
    from mobula.actor import ActorHandle

    if type(actor) is not ActorHandle:
        return False
    info = actor._mobula_info
    return not info.concurrent and not info.any_order and info.max_pending_calls < 0
