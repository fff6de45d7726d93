"""`mobula.Executor`: tasks behind the interface of `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import threading
import time
from concurrent.futures._base import PENDING
from typing import TYPE_CHECKING, Any

from mobula import _calls, _core, _futures, exceptions
from mobula._flight import Flight, wait_for_refs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_SHUT_DOWN = "cannot schedule new futures after shutdown"


def _call_each(function: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> Any:
    try:
        return [function(*args) for args in chunk]
    except SystemExit as error:
        return _calls.Exit(error)


@functools.cache
def _worker_died() -> type[exceptions.WorkerCrashedError]:
    from concurrent.futures.process import BrokenProcessPool  # It drags in multiprocessing.

    class WorkerCrashedError(exceptions.WorkerCrashedError, BrokenProcessPool):
        """The worker of a call died. Programs that were written for processes know it by the second
        name, though this executor goes on."""

        def __reduce__(self) -> tuple[Any, ...]:
            return exceptions.WorkerCrashedError, self.args

    return WorkerCrashedError


class _Future(_futures.RefFuture):
    """Of a call that is a task. It can be cancelled until a worker executes that."""

    _is_cancelling = False

    def __init__(self, ref: Any, executor: Executor) -> None:
        # Another thread may settle it as soon as it is made.
        self._executor: Executor | None = executor  # Until it is settled.
        executor._unfinished.add(self)
        super().__init__(ref)

    def cancel(self) -> bool:
        ref = self._ref
        if ref is None or self.done():
            return self.cancelled()
        # From here on another thread may find the error of the cancelled task first.
        self._is_cancelling = True
        if not _core.cancel(ref, False, False, True):
            # Cancelled by another thread, perhaps; or the worker was faster.
            return self.cancelled()
        cancelled = super().cancel()
        self._leave()
        return cancelled

    def wait(self) -> None:
        """Until it is settled."""
        if self._state == PENDING:
            self._wait(None)

    def running(self) -> bool:
        ref = self._ref
        return (
            ref is not None
            and self._state == PENDING
            and not (_core.is_ready(ref) or _core.can_cancel(ref))
        )

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self._is_cancelling and type(error) is exceptions.TaskCancelledError:
            super().cancel()
            self._leave()
            return
        if error is not None:
            error = _as_raised(error)
        elif isinstance(value, _calls.Exit):
            value, error = None, SystemExit(value.code)
        super()._settle(value, error)
        self._leave()

    def _leave(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor._forget(self)


class _Mapped(_futures.Follower):
    """The calls of one `map`."""

    def __init__(self, executor: Executor) -> None:
        self._executor: Executor | None = executor  # Until all have ended.
        self._flight = Flight()
        self._is_cancelling = False
        self._is_submitting = True

    def submit_all(self, submit: Callable[[Any], Any], calls: Iterable[Any]) -> None:
        executor, parts = self._executor, self._flight.parts
        assert executor is not None
        executor._unfinished.add(self)
        self.follow()
        try:
            for call in calls:
                with executor._lock:
                    if executor._is_shut_down:
                        raise RuntimeError(_SHUT_DOWN)
                    try:
                        parts.append(submit(call))
                    except Exception as error:  # What cannot be pickled fails its own call.
                        parts.append(_core.put_error(error, "map"))
        finally:
            self._is_submitting = False

    def results(self, end: float | None) -> Iterator[Any]:
        flight = self._flight
        try:
            while flight.parts:
                yield self._value_of(flight.first(), end)
        finally:
            # Those that a worker executes go on.
            self.cancel()
            self.settle_if_ready()

    def _value_of(self, ref: Any, end: float | None) -> Any:
        try:
            if end is None:
                value = _core.get(ref)
            else:
                value = _core.get(ref, timeout=max(0.0, end - time.monotonic()))
        except BaseException as error:
            if not _futures.is_ready_now(ref):
                self._flight.parts.appendleft(ref)  # It is to be cancelled, or waited for.
            if type(error) is exceptions.GetTimeoutError:
                raised: BaseException = concurrent.futures.TimeoutError()
            elif self._is_cancelling and type(error) is exceptions.TaskCancelledError:
                raised = concurrent.futures.CancelledError()
            else:
                raised = _as_raised(error)
        else:
            if not isinstance(value, _calls.Exit):
                return value
            raised = SystemExit(value.code)
        raise raised

    def cancel(self) -> None:
        """What no worker executes yet."""
        self._is_cancelling = True
        with contextlib.suppress(*_futures.OF_ANOTHER_SESSION):
            for ref in list(self._flight.parts):
                _core.cancel(ref, False, False, True)

    def wait(self) -> None:
        """Until all have ended."""
        if refs := list(self._flight.parts):
            try:
                wait_for_refs(refs, len(refs), None)
            except _futures.OF_ANOTHER_SESSION:
                if not _futures.has_ended(refs[0]):
                    raise

    def is_settled(self) -> bool:
        return self._executor is None

    def settle_if_ready(self) -> bool:
        if self._is_submitting:
            return False
        try:
            for ref in reversed(self._flight.parts):
                if not _futures.is_ready_now(ref):
                    return False
        except RuntimeError:  # Somebody takes results.
            return False
        self._leave()
        return True

    def end(self) -> None:
        self._leave()

    def _leave(self) -> None:
        self.unfollow()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor._forget(self)


class Executor(concurrent.futures.Executor):
    """A `concurrent.futures.Executor` whose calls are tasks.

        with mobula.Executor() as executor:
            print(list(executor.map(math.sqrt, range(4))))

    max_workers: at most so many calls are under way at a time; without it, what fits the resources.
    options: of the tasks, such as num_cpus=2.

    `cancel` of a future works until its call is executed, which `running` tells. The
    exceptions of futures are those that the calls raised; if a worker died, `WorkerCrashedError`, which
    is a `BrokenProcessPool` here, and the executor goes on. Starts a session if there is none. Any
    thread may use it.
    """

    def __init__(self, max_workers: int | None = None, **options: Any) -> None:
        import mobula

        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if not mobula.is_initialized():
            mobula.init()
        self._functions = _calls.Functions(
            options, None if max_workers is None else _calls.LeaseLimit(max_workers)
        )
        self._lock = threading.RLock()  # Pickling arguments runs code of theirs.
        self._unfinished: set[_Future | _Mapped] = set()
        self._is_shut_down = False

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """`fn(*args, **kwargs)` in a worker. RuntimeError: after shutdown()."""
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError(_SHUT_DOWN)
            try:
                ref = self._functions.submit(fn, args, kwargs)
            except Exception as error:  # Arguments that cannot be pickled fail their own call.
                failed: concurrent.futures.Future[Any] = concurrent.futures.Future()
                failed.set_exception(error)
                return failed
            return _Future(ref, self)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[Any]:
        """`map(fn, *iterables)`, in order; everything is submitted at once.

        chunksize: calls a task. TimeoutError: a result is not there `timeout` seconds after this call.
        """
        if more:
            raise TypeError(f"unexpected keyword argument(s): {', '.join(sorted(more))}")
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        end = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables)  # noqa: B905  # The shortest ends it, as with map().
        mapped = _Mapped(self)
        if chunksize == 1:
            submit = self._functions.submit
            mapped.submit_all(lambda args: submit(fn, args, {}), calls)
            return mapped.results(end)
        each = self._functions.make(_call_each).remote
        chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
        mapped.submit_all(lambda chunk: each(fn, chunk), chunks)
        return itertools.chain.from_iterable(mapped.results(end))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls. wait: until all have ended. cancel_futures: those that no worker
        executes yet are cancelled."""
        with self._lock:
            self._is_shut_down = True
            unfinished = list(self._unfinished)
        if cancel_futures:
            for future in unfinished:
                future.cancel()
        for future in unfinished if wait else ():
            future.wait()

    def _forget(self, future: _Future | _Mapped) -> None:
        self._unfinished.discard(future)  # At once, as other threads see it.


def _as_raised(error: BaseException) -> BaseException:
    if isinstance(error, exceptions.WorkerCrashedError):
        died = _worker_died()(*error.args)
        died.__cause__ = error
        return died
    return _calls.as_raised(error)
