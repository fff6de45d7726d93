"""A first-in-first-out queue that tasks, actors and drivers share: `Queue`.

The items lie in an actor of the queue's own, in which an asyncio queue does the waiting.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_Method = TypeVar("_Method")


class Empty(queue.Empty):
    """Nothing is in the queue."""


class Full(queue.Full):
    """The queue has as many items as it may."""


def _at_once(method: _Method) -> _Method:
    """What it returns is the answer, or to be awaited. It is called before there is an asyncio task,
    and needs none if it returns at once."""
    method.__mobula_at_once__ = True  # type: ignore[attr-defined]
    return method


class _QueueActor:
    """Answers say whether it worked, so that no traceback of this actor ever reaches a user.

    What can be answered at once is: only who has to wait costs a coroutine."""

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    @_at_once
    def qsize(self) -> int:
        return self._items.qsize()

    @_at_once
    def empty(self) -> bool:
        return self._items.empty()

    @_at_once
    def full(self) -> bool:
        return self._items.full()

    @_at_once
    def put(self, item: Any, timeout: float | None) -> bool | Coroutine[Any, Any, bool]:
        if self._items.full():
            return self._put_later(item, timeout)
        self._items.put_nowait(item)
        return True

    async def _put_later(self, item: Any, timeout: float | None) -> bool:
        try:
            await asyncio.wait_for(self._items.put(item), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    @_at_once
    def get(self, timeout: float | None) -> tuple[bool, Any] | Coroutine[Any, Any, Any]:
        if self._items.empty():
            return self._get_later(timeout)
        return True, self._items.get_nowait()

    async def _get_later(self, timeout: float | None) -> tuple[bool, Any]:
        try:
            return True, await asyncio.wait_for(self._items.get(), timeout)
        except asyncio.TimeoutError:
            return False, None

    @_at_once
    def put_now(self, items: list[Any]) -> tuple[bool, int]:
        """All of them or none."""
        used = self._items.qsize()
        if 0 < self._maxsize < used + len(items):
            return False, used
        for item in items:
            self._items.put_nowait(item)
        return True, used

    @_at_once
    def get_now(self, count: int) -> tuple[bool, Any]:
        """So many or none."""
        if self._items.qsize() < count:
            return False, self._items.qsize()
        return True, [self._items.get_nowait() for _ in range(count)]


class Queue:
    """A queue that is passed to tasks and actors and used by all of them.

    maxsize: how many items it holds; 0 or less: any number.
    actor_options: options of the actor that holds them, such as {"num_cpus": 0, "name": "todo"}.

    `actor` is that actor's handle. Values travel as with `put`: large arrays through shared memory.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        import mobula

        self.maxsize = maxsize
        options = dict(actor_options or {})
        actor_class = mobula.remote(_QueueActor)
        self.actor: Any = (actor_class.options(**options) if options else actor_class).remote(
            maxsize
        )

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items are in it now."""
        return int(_get(self.actor.qsize.remote()))

    def qsize(self) -> int:
        """The same as `size`."""
        return self.size()

    def empty(self) -> bool:
        return bool(_get(self.actor.empty.remote()))

    def full(self) -> bool:
        return bool(_get(self.actor.full.remote()))

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Adds an item; waits for room if there is none (`block`), at most `timeout` seconds.
        Full: there was none. ValueError: a negative timeout."""
        if not block:
            return self.put_nowait(item)
        _check_timeout(timeout)
        if not _get(self.actor.put.remote(item, timeout)):
            raise Full
        return None

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """`put` for coroutines."""
        if not block:
            done, _ = await self.actor.put_now.remote([item])
        else:
            _check_timeout(timeout)
            done = await self.actor.put.remote(item, timeout)
        if not done:
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Takes the oldest item; waits for one if there is none (`block`), at most `timeout` seconds.
        Empty: there was none. ValueError: a negative timeout."""
        if not block:
            return self.get_nowait()
        _check_timeout(timeout)
        done, item = _get(self.actor.get.remote(timeout))
        if not done:
            raise Empty
        return item

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """`get` for coroutines."""
        if not block:
            done, items = await self.actor.get_now.remote(1)
            item = items[0] if done else None
        else:
            _check_timeout(timeout)
            done, item = await self.actor.get.remote(timeout)
        if not done:
            raise Empty
        return item

    def put_nowait(self, item: Any) -> None:
        """Adds an item. Full: there is no room."""
        done, _ = _get(self.actor.put_now.remote([item]))
        if not done:
            raise Full

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Adds all items, or none. Full: there is no room for all. TypeError: not an iterable."""
        if not isinstance(items, Iterable):
            raise TypeError("Argument 'items' must be an Iterable")
        items = list(items)
        done, used = _get(self.actor.put_now.remote(items))
        if not done:
            raise Full(
                f"Cannot add {len(items)} items to queue of size {used} and maxsize {self.maxsize}."
            )

    def get_nowait(self) -> Any:
        """Takes the oldest item. Empty: there is none."""
        done, items = _get(self.actor.get_now.remote(1))
        if not done:
            raise Empty
        return items[0]

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Takes so many items, or none. Empty: there are fewer. TypeError, ValueError: not a count."""
        if not isinstance(num_items, int):
            raise TypeError("Argument 'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        done, items = _get(self.actor.get_now.remote(num_items))
        if not done:
            raise Empty(f"Cannot get {num_items} items from queue of size {items}.")
        return list(items)

    def shutdown(self, force: bool = False, grace_period_s: int = 5) -> None:
        """Ends the actor; the queue cannot be used afterwards.

        force: at once. Else it may end what it was asked before, for at most `grace_period_s` seconds;
        puts and gets that still wait then fail with ActorDiedError.
        """
        import mobula

        if self.actor is None:
            return
        if not force:
            ended = self.actor.__ray_terminate__.remote()
            mobula.wait([ended], timeout=grace_period_s)
        mobula.kill(self.actor, no_restart=True)
        self.actor = None


def _get(ref: Any) -> Any:
    import mobula

    return mobula.get(ref)


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
