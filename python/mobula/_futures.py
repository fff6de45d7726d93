"""Futures of refs: `await ref`, `ref.future()`.

A thread of its own, started by the first future of a session, waits for the runtime to tell which
refs have become ready. It gets their values and settles their futures; those of event loops through
`call_soon_threadsafe`, many at a time, so that no loop ever waits or reads. The thread ends with the
session.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import itertools
import os
import threading
from typing import TYPE_CHECKING, Any

from mobula import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    Settle = Callable[[Any, BaseException | None], None]


class _Notifier:
    """The futures of one session."""

    def __init__(self, session_number: int) -> None:
        self.session_number = session_number
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._tokens = itertools.count(1)
        # The ref of each token, and what is to be done with its value.
        self._waiting: dict[int, tuple[_core.ObjectRef[Any], _Waiter]] = {}
        self._thread = threading.Thread(target=self._run, name="mobula-futures", daemon=True)
        self._thread.start()

    def add(self, ref: _core.ObjectRef[Any], waiter: _Waiter) -> None:
        with self._lock:
            token = next(self._tokens)
            self._waiting[token] = (ref, waiter)
        _core.notify(ref, token)

    def join(self) -> None:
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        from mobula import _session

        _session.serve_session()
        while (tokens := _core.next_notified(self.session_number)) is not None:
            with self._lock:
                ready = [self._waiting.pop(token) for token in tokens]
            self._settle(ready)
            # Nothing of them may live on while the thread waits.
            ready.clear()
            del ready
        with self._lock:
            left = list(self._waiting.values())
            self._waiting.clear()
        self._settle(left)

    @staticmethod
    def _settle(ready: Iterable[tuple[_core.ObjectRef[Any], _Waiter]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
        for ref, waiter in ready:
            value, error = _value_of(ref) if waiter.wants_value else (None, None)
            if waiter.loop is None:
                waiter.settle(value, error)
            else:
                by_loop.setdefault(waiter.loop, []).append(
                    functools.partial(waiter.settle, value, error)
                )
        for loop, settlements in by_loop.items():
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits there.
                loop.call_soon_threadsafe(_call_all, settlements)


class _Waiter:
    __slots__ = ("loop", "settle", "wants_value")

    def __init__(
        self, settle: Settle, loop: asyncio.AbstractEventLoop | None, wants_value: bool = True
    ) -> None:
        self.settle = settle
        self.loop = loop
        self.wants_value = wants_value


def _call_all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _value_of(ref: _core.ObjectRef[Any]) -> tuple[Any, BaseException | None]:
    try:
        return _core.get(ref), None
    except BaseException as error:  # Whatever it is belongs to who waits for the ref.
        return None, error


_lock = threading.Lock()
_notifier: _Notifier | None = None


def _add(ref: _core.ObjectRef[Any], waiter: _Waiter) -> None:
    from mobula import _session

    global _notifier
    _session.require_session()
    with _lock:
        number = _core.session_number()
        if _notifier is None or _notifier.session_number != number or _notifier.pid != os.getpid():
            _notifier = _Notifier(number)
        notifier = _notifier
    notifier.add(ref, waiter)


def end_session() -> None:
    """Call after `_core.disconnect`: no thread is left, every future is settled."""
    global _notifier
    with _lock:
        notifier, _notifier = _notifier, None
    if notifier is not None and notifier.pid == os.getpid():
        notifier.join()


def future(ref: _core.ObjectRef[Any]) -> concurrent.futures.Future[Any]:
    """A future of the value of `ref`. Its `cancel` gives up waiting; the task goes on."""
    result: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not result.set_running_or_notify_cancel():
            return
        if error is None:
            result.set_result(value)
        else:
            result.set_exception(error)

    _add(ref, _Waiter(settle, None))
    return result


def on_completed(ref: _core.ObjectRef[Any], callback: Callable[[Any], None]) -> None:
    """Calls `callback` with the value of `ref`, or its error, in a thread of its own kind."""
    _add(ref, _Waiter(lambda value, error: callback(value if error is None else error), None))


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

    def settle(value: Any, error: BaseException | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(value)
        elif isinstance(error, StopIteration):
            # A future cannot raise that; what a coroutine makes of it, too.
            wrapped = RuntimeError("the task raised StopIteration")
            wrapped.__cause__ = error
            result.set_exception(wrapped)
        else:
            result.set_exception(error)

    _add(ref, _Waiter(settle, loop, wants_value))
    return result


def await_ref(ref: _core.ObjectRef[Any]) -> Generator[Any, None, Any]:
    """What `await ref` does."""
    if _core.is_ready(ref):
        asyncio.get_running_loop()  # RuntimeError outside of one, as for a ref that is not ready.
        # As cheap as it can be; but another task of the loop gets its turn as with any await.
        return _ready_value(ref)
    return asyncio_future(ref).__await__()


def _ready_value(ref: _core.ObjectRef[Any]) -> Generator[Any, None, Any]:
    yield
    return _core.get(ref)
