"""`mobula.Executor`: tasks behind the interface of `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import threading
import time
from collections import deque
from concurrent.futures._base import PENDING
from typing import TYPE_CHECKING, Any

from mobula import _calls, _core, _futures, exceptions

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

    def __init__(self, ref: Any, executor: Executor | None) -> None:
        super().__init__(ref)
        self._executor = executor  # Until it is settled.

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
        self._unfinished: set[_Future] = set()
        self._is_shut_down = False

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """`fn(*args, **kwargs)` in a worker. RuntimeError: after shutdown()."""
        return self._future_of(self._functions.submit, fn, args, kwargs)

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
        if chunksize == 1:
            submit = self._functions.submit
            return _in_order(deque(self._future_of(submit, fn, args, {}) for args in calls), end)
        each = self._functions.make(_call_each).remote
        chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
        futures = deque(self._future_of(each, fn, chunk) for chunk in chunks)
        return itertools.chain.from_iterable(_in_order(futures, end))

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

    def _future_of(self, submit: Callable[..., Any], *call: Any) -> concurrent.futures.Future[Any]:
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError(_SHUT_DOWN)
            try:
                ref = submit(*call)
            except Exception as error:  # Arguments that cannot be pickled fail their own call.
                failed: concurrent.futures.Future[Any] = concurrent.futures.Future()
                failed.set_exception(error)
                return failed
            future = _Future(ref, self)
            self._unfinished.add(future)
        return future

    def _forget(self, future: _Future) -> None:
        self._unfinished.discard(future)  # At once, as other threads see it.


def _as_raised(error: BaseException) -> BaseException:
    if isinstance(error, exceptions.WorkerCrashedError):
        died = _worker_died()(*error.args)
        died.__cause__ = error
        return died
    return _calls.as_raised(error)


def _in_order(futures: deque[concurrent.futures.Future[Any]], end: float | None) -> Iterator[Any]:
    try:
        while futures:
            left = None if end is None else max(0.0, end - time.monotonic())
            yield futures.popleft().result(left)
    finally:
        for future in futures:
            future.cancel()
