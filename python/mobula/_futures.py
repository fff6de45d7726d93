"""Futures of refs: `ref.future()`, and those of `Executor`. Those of event loops are in `_loops`.

Who waits gets the value by itself, and settles the future with it: `result()` waits in the runtime.
For the rest there is a thread, started by the first future of a session, which ends with it. Futures
with callbacks, and those that `concurrent.futures.wait` looks at, it settles at once; the others at
leisure, for those that nobody asks.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import logging
import os
import threading
import time
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from typing import TYPE_CHECKING, Any

from mobula import _core, exceptions

if TYPE_CHECKING:
    from collections.abc import Callable

    # Called with the value, or None and the error.
    Settle = Callable[[Any, BaseException | None], None]

_logger = logging.getLogger("mobula")
_RAISED = "a callback of a future raised an exception"

# How often who waits in RefFuture.result() looks whether it was cancelled meanwhile.
_LOOK_S = 0.1
# How often, at most and at least, futures are looked at that nobody asks; and how many at a time.
_SWEEP_S = 0.02
_SWEEP_MAX_S = 0.5
_SWEPT_AT_ONCE = 256
_CANCELLED = (CANCELLED, CANCELLED_AND_NOTIFIED)

# Guards the fields of all futures at which nobody but their owners has looked so far.
_unseen = threading.Lock()
# What is not settled in this session, by id. To add to it and to take from it is atomic.
_pending: dict[int, RefFuture | Follower] = {}


def is_interrupt(error: BaseException) -> bool:
    """Of this process (Ctrl-C), not of the task."""
    return isinstance(error, KeyboardInterrupt) and not isinstance(error, exceptions.RayError)


def value_of(ref: _core.ObjectRef[Any]) -> tuple[Any, BaseException | None]:
    """Of a ref that is ready."""
    try:
        return _core.get(ref), None
    except BaseException as error:  # Whatever it is belongs to who waits for the ref,
        if is_interrupt(error):
            raise  # but for that of this program.
        return None, error


# What is said of a ref whose session has ended: there is another one, or none.
OF_ANOTHER_SESSION = (ValueError, exceptions.RaySystemError)


class _SessionEnded(Exception):
    """It is not that of the ref any more."""


def has_ended(ref: _core.ObjectRef[Any]) -> bool:
    """Its session, that is."""
    try:
        _core.is_ready(ref)
    except OF_ANOTHER_SESSION:
        return True
    return False


def _is_ready(ref: _core.ObjectRef[Any], timeout: float) -> bool:
    try:
        return bool(_core.wait([ref], timeout=timeout)[0])
    except OF_ANOTHER_SESSION:
        if not has_ended(ref):  # A signal's handler may raise anything.
            raise
        raise _SessionEnded from None


def is_ready_now(ref: _core.ObjectRef[Any]) -> bool:
    try:
        return _core.is_ready(ref)
    except OF_ANOTHER_SESSION:  # The future is settled by now, or about to be.
        return False


# Held while one is moved in `_pending`, in which it is missing for a moment.
_moving = threading.Lock()


def all_pending() -> list[RefFuture | Follower]:
    with _moving:
        return list(_pending.values())


class Follower:
    """Something that is settled like a future, by who waits for it, or else by the thread."""

    def follow(self) -> None:
        """Call it once."""
        _pending[id(self)] = self
        notifier = _notifier
        if notifier is None or notifier.is_resting:
            notifier_of_session().sweep_on()

    def unfollow(self) -> None:
        _pending.pop(id(self), None)

    def is_settled(self) -> bool:
        raise NotImplementedError

    def settle_if_ready(self) -> bool:
        """Is it settled now? Looks if it can be."""
        raise NotImplementedError

    def on_ready(self) -> None:
        """The thread calls it when a ref is ready, or the session has ended: see `settle_at_once`."""
        raise NotImplementedError

    def end(self) -> None:
        """The session has ended."""
        raise NotImplementedError


class RefFuture(concurrent.futures.Future[Any]):
    """A future of the value of a ref.

    What `concurrent.futures` makes for each future, a lock with a condition and two lists, is made
    only when somebody looks at it: a callback is added, or `wait` and `as_completed` are called. From
    then on the thread of the futures settles it at once. `cancel` gives up waiting; the task goes on.
    """

    # What a new one has, without a store for each.
    _state = PENDING
    _result: Any = None
    _exception: BaseException | None = None

    def __init__(self, ref: _core.ObjectRef[Any]) -> None:
        self._ref: _core.ObjectRef[Any] | None = ref
        _pending[id(self)] = self
        notifier = _notifier
        if notifier is None or notifier.is_resting:
            notifier_of_session().sweep_on()

    def __getattr__(self, name: str) -> Any:
        if name not in ("_condition", "_waiters", "_done_callbacks"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with _unseen:
            fields = self.__dict__
            made = "_condition" not in fields
            if made:
                fields["_waiters"] = []
                fields["_done_callbacks"] = []
                fields["_condition"] = threading.Condition()
            ref = self._ref if made and self._state == PENDING else None
        if ref is not None:
            notifier_of_session().settle_at_once(ref, self)
        return fields[name]

    def done(self) -> bool:
        if self._state == PENDING:
            ref = self._ref
            if ref is not None and is_ready_now(ref):
                self._settle(*value_of(ref))
        return self._state != PENDING

    settle_if_ready = done

    def is_settled(self) -> bool:
        return self._state != PENDING

    def end(self) -> None:
        """The session has ended."""
        if (ref := self._ref) is not None and self._state == PENDING:
            self._settle(*value_of(ref))

    def running(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return self._state in _CANCELLED

    def cancel(self) -> bool:
        with _unseen:
            if self._state != PENDING:
                return self._state in _CANCELLED
            if "_condition" not in self.__dict__:
                self._state = CANCELLED_AND_NOTIFIED
                self._ref = None
                _pending.pop(id(self), None)
                return True
        with self._condition:
            if self._state != PENDING:
                return self._state in _CANCELLED
            self._state = CANCELLED_AND_NOTIFIED
            self._ref = None
            _pending.pop(id(self), None)
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._invoke_callbacks()
        return True

    def result(self, timeout: float | None = None) -> Any:
        try:
            if self._state == PENDING:
                self._wait(timeout)
            if self._exception is not None:
                raise self._exception
            if self._state != FINISHED:
                raise concurrent.futures.CancelledError
            return self._result
        finally:
            del self  # Else the traceback of the exception would hold it, and it the exception.

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if self._state == PENDING:
            self._wait(timeout)
        if self._state in _CANCELLED:
            raise concurrent.futures.CancelledError
        return self._exception

    def _wait(self, timeout: float | None) -> None:
        """Until it is settled. TimeoutError: it was not in time."""
        ref = self._ref
        if ref is None:  # Settled since.
            return
        if is_ready_now(ref):
            self._settle(*value_of(ref))
            return
        end = None if timeout is None else time.monotonic() + timeout
        # The session may end meanwhile; what is pending is settled then.
        with contextlib.suppress(_SessionEnded):
            look = _LOOK_S if timeout is None else max(0.0, min(timeout, _LOOK_S))
            while not _is_ready(ref, look):
                if self._state != PENDING:
                    return
                if end is not None:
                    look = min(end - time.monotonic(), _LOOK_S)
                    if look <= 0:
                        raise concurrent.futures.TimeoutError
            self._settle(*value_of(ref))
            return
        while self._state == PENDING:
            time.sleep(0.001)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        """Several may call it; the first counts."""
        with _unseen:
            if self._state != PENDING:
                return
            if "_condition" not in self.__dict__:
                self._result = value
                self._exception = error
                self._ref = None
                self._state = FINISHED
                _pending.pop(id(self), None)
                return
        with self._condition:
            if self._state != PENDING:
                return
            self._result = value
            self._exception = error
            self._ref = None
            self._state = FINISHED
            _pending.pop(id(self), None)
            for waiter in self._waiters:
                (waiter.add_result if error is None else waiter.add_exception)(self)
            self._condition.notify_all()
        self._invoke_callbacks()


class _Notifier:
    """The thread of the futures of one session."""

    def __init__(self, session_number: int) -> None:
        self.session_number = session_number
        self.pid = os.getpid()
        self._tokens = itertools.count(1)
        # What is to be done with the value of each token, and its ref. Taking from and adding to a
        # dict are atomic.
        self._waiting: dict[int, tuple[_core.ObjectRef[Any], RefFuture | Follower | Settle]] = {}
        self.is_resting = False
        self._thread = threading.Thread(target=self._run, name="mobula-futures", daemon=True)
        self._thread.start()

    def settle_at_once(
        self, ref: _core.ObjectRef[Any], settle: RefFuture | Follower | Settle
    ) -> None:
        token = next(self._tokens)
        self._waiting[token] = (ref, settle)
        _core.notify(ref, token)

    def sweep_on(self) -> None:
        """There are futures again that are to be settled at leisure."""
        self.is_resting = False
        _core.poke_notified(self.session_number)

    def is_current(self) -> bool:
        return self.session_number == _core.session_number() and self.pid == os.getpid()

    def join(self) -> None:
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        from mobula import _session

        _session.serve_session()
        pause = _SWEEP_S
        next_sweep = 0.0
        while True:
            self.is_resting = not _pending
            # Some may have come since; who adds one now sees that we rest.
            timeout = pause if _pending else None
            if (tokens := _core.next_notified(self.session_number, timeout)) is None:
                break
            for token in tokens:
                if token != 0:  # Else there are futures again to look at.
                    self._settle(*self._waiting.pop(token))
            if _pending and (now := time.monotonic()) >= next_sweep:
                pause = _SWEEP_S if _sweep() else min(2 * pause, _SWEEP_MAX_S)
                next_sweep = now + pause
        for token in list(self._waiting):
            self._settle(*self._waiting.pop(token))
        for pending in list(_pending.values()):
            try:
                pending.end()
            except BaseException:
                _logger.exception(_RAISED)

    @staticmethod
    def _settle(ref: _core.ObjectRef[Any], settle: RefFuture | Follower | Settle) -> None:
        # In a frame of its own: nothing of it may live on while the thread waits.
        try:
            if isinstance(settle, Follower):
                settle.on_ready()
            elif not isinstance(settle, RefFuture):
                settle(*value_of(ref))
            elif settle._state == PENDING:
                settle._settle(*value_of(ref))
        except BaseException:  # SystemExit, perhaps. Others need this thread.
            _logger.exception(_RAISED)


def _sweep() -> bool:
    """Settles what is ready; the oldest first, and all if all are. Were there some?"""
    any_ready = False
    while True:
        some = list(itertools.islice(_pending.values(), _SWEPT_AT_ONCE))
        ready = 0
        for pending in some:
            try:
                is_settled = pending.settle_if_ready()
            except BaseException:
                _logger.exception(_RAISED)
                is_settled = pending.is_settled()
            if is_settled:
                ready += 1
                continue
            with _moving:
                if _pending.pop(id(pending), None) is None:
                    continue
                _pending[id(pending)] = pending  # Behind the others.
            if pending.is_settled():
                _pending.pop(id(pending), None)
        any_ready = any_ready or ready > 0
        if ready < _SWEPT_AT_ONCE:
            return any_ready


_lock = threading.Lock()
_notifier: _Notifier | None = None
# Called when a session has ended.
at_end: list[Callable[[], None]] = []


def notifier_of_session() -> _Notifier:
    global _notifier
    notifier = _notifier
    if notifier is not None and notifier.is_current():
        return notifier
    from mobula import _session

    _session.require_session()
    with _lock:
        if _notifier is None or not _notifier.is_current():
            _notifier = _Notifier(_core.session_number())
        return _notifier


def end_session() -> None:
    """Call after `_core.disconnect`: no thread is left, every future is settled."""
    global _notifier
    with _lock:
        notifier, _notifier = _notifier, None
    for call in at_end:
        call()
    if notifier is not None and notifier.pid == os.getpid():
        notifier.join()


def future(ref: _core.ObjectRef[Any]) -> concurrent.futures.Future[Any]:
    """A future of the value of `ref`. Its `cancel` gives up waiting; the task goes on."""
    return RefFuture(ref)


def on_completed(ref: _core.ObjectRef[Any], callback: Callable[[Any], None]) -> None:
    """Calls `callback` with the value of `ref`, or its error, in a thread of its own kind."""
    notifier_of_session().settle_at_once(
        ref, lambda value, error: callback(value if error is None else error)
    )
