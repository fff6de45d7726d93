"""Event loops and refs: `await ref`, `ref.as_future()`.

`await` looks for the value for a moment. Then the loop is woken through a descriptor, once for all
values that have come, and gets them and settles its futures in its own thread. The thread of
`_futures` reads for the loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import threading
import weakref
from typing import Any

from mobula import _core, _futures
from mobula._futures import notifier_of_session, value_of


class _Loop:
    """The futures of refs that one event loop waits for, in one session. In the loop's thread only,
    but for end()."""

    def __init__(self, loop: asyncio.AbstractEventLoop, session_number: int) -> None:
        self.session_number = session_number
        self._loop = weakref.ref(loop)
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._queue = _core.open_loop_queue(self._event)
        self._tokens = itertools.count(1)
        self._waiting: dict[int, tuple[_core.ObjectRef[Any], asyncio.Future[Any], bool]] = {}
        self._has_looked = False
        # With the loop, or with the session if the loop was closed before: whoever still holds it.
        self._close = weakref.finalize(loop, _close_loop, session_number, self._queue, self._event)
        try:
            loop.add_reader(self._event, self._settle_some)
        except NotImplementedError:
            self._close()
            raise

    def add(
        self, ref: _core.ObjectRef[Any], future: asyncio.Future[Any], wants_value: bool
    ) -> None:
        token = next(self._tokens)
        self._waiting[token] = (ref, future, wants_value)
        _core.notify(ref, token, self._queue)

    def may_look(self, loop: asyncio.AbstractEventLoop) -> bool:
        """The first time in each turn of the loop."""
        if self._has_looked:
            return False
        self._has_looked = True
        loop.call_soon(self._turn_is_over)
        return True

    def _turn_is_over(self) -> None:
        self._has_looked = False

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._loop() is loop and self.session_number == _core.session_number()

    def end(self) -> None:
        """The session has ended. Any thread may call it."""
        loop = self._loop()
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._settle_all)
            except RuntimeError:  # It is closed: nobody waits there.
                self._close()

    def _settle_some(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        for token in _core.take_loop_tokens(self.session_number, self._queue):
            _settle_in_loop(*self._waiting.pop(token))

    def _settle_all(self) -> None:
        loop = self._loop()
        if loop is not None:
            loop.remove_reader(self._event)
        for token in list(self._waiting):
            _settle_in_loop(*self._waiting.pop(token))
        self._close()


def _close_loop(session_number: int, queue: int, event: int) -> None:
    _core.close_loop_queue(session_number, queue)
    os.close(event)


def _settle_in_loop(
    ref: _core.ObjectRef[Any], future: asyncio.Future[Any], wants_value: bool
) -> None:
    if not future.done():
        _settle_asyncio(future, *(value_of(ref) if wants_value else (None, None)))


def _settle_asyncio(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    elif isinstance(error, StopIteration):
        # A future cannot raise that; what a coroutine makes of it, too.
        wrapped = RuntimeError("the task raised StopIteration")
        wrapped.__cause__ = error
        future.set_exception(wrapped)
    else:
        future.set_exception(error)


_lock = threading.Lock()
# None: a loop that takes no readers.
_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop | None] = (
    weakref.WeakKeyDictionary()
)


# That of the last await: seldom there are two in a process.
_last: _Loop | None = None


def _loop_of(loop: asyncio.AbstractEventLoop) -> _Loop | None:
    global _last
    last = _last
    if last is not None and last.is_of(loop):
        return last
    notifier = notifier_of_session()  # Its thread reads for the loops.
    known = _loops.get(loop)
    if known is not None and known.session_number == notifier.session_number:
        _last = known
        return known
    if known is None and loop in _loops:
        return None
    try:
        made: _Loop | None = _Loop(loop, notifier.session_number)
    except NotImplementedError:
        made = None
    with _lock:
        _loops[loop] = made
    _last = made
    return made


def _end_session() -> None:
    global _last
    _last = None
    with _lock:
        loops = list(_loops.values())
        _loops.clear()
    for loop in loops:
        if loop is not None:
            loop.end()


_futures.at_end.append(_end_session)


def as_future(ref: _core.ObjectRef[Any]) -> asyncio.Future[Any]:
    """A future of the event loop that runs in this thread, or else is set in it. RuntimeError: there
    is none."""
    return _future_in(asyncio.get_event_loop(), ref, True)


def asyncio_future(ref: _core.ObjectRef[Any], wants_value: bool = True) -> asyncio.Future[Any]:
    """A future of the running event loop. Without `wants_value` its result is None once `ref` is
    ready, be it with an error."""
    return _future_in(asyncio.get_running_loop(), ref, wants_value)


def _future_in(
    loop: asyncio.AbstractEventLoop, ref: _core.ObjectRef[Any], wants_value: bool
) -> asyncio.Future[Any]:
    result: asyncio.Future[Any] = loop.create_future()
    watched = _loop_of(loop)
    if watched is not None:
        watched.add(ref, result, wants_value)
    else:
        notifier_of_session().settle_at_once(
            ref, functools.partial(_call_in_loop, loop, result, wants_value)
        )
    return result


def _call_in_loop(
    loop: asyncio.AbstractEventLoop,
    result: asyncio.Future[Any],
    wants_value: bool,
    value: Any,
    error: BaseException | None,
) -> None:
    with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits there.
        loop.call_soon_threadsafe(
            _settle_asyncio, result, *((value, error) if wants_value else (None, None))
        )


def await_ref(ref: _core.ObjectRef[Any], loop: asyncio.AbstractEventLoop) -> Any:
    """What `await ref` does in the running loop if there is no value yet."""
    # With nothing else to do, the loop may as well look for the value for a moment.
    if _has_time(loop) and _core.look_briefly(ref):
        return _core.await_ready(ref)
    return _future_in(loop, ref, True).__await__()


def _has_time(loop: asyncio.AbstractEventLoop) -> bool:
    ready = getattr(loop, "_ready", None)
    if ready is not None:
        return not ready
    # A loop that does not show what else it has to run: once a turn.
    watched = _loop_of(loop)
    return watched is not None and watched.may_look(loop)
