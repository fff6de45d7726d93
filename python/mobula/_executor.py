"""`mobula.Executor`: tasks behind the interface of `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from mobula import _core, exceptions
from mobula._exceptions_unpickled import CAUSE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_SHUT_DOWN = "cannot schedule new futures after shutdown"


class _Exit:
    """A call said SystemExit, which is for its caller, not for the worker."""

    def __init__(self, error: SystemExit) -> None:
        self.code = error.code


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except SystemExit as error:
        return _Exit(error)


def _call_each(function: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> Any:
    try:
        return [function(*args) for args in chunk]
    except SystemExit as error:
        return _Exit(error)


@functools.cache
def _worker_died() -> type[exceptions.WorkerCrashedError]:
    from concurrent.futures.process import BrokenProcessPool  # It drags in multiprocessing.

    class WorkerCrashedError(exceptions.WorkerCrashedError, BrokenProcessPool):
        """The worker of a call died. Programs that were written for processes know it by the second
        name, though this executor goes on."""

        def __reduce__(self) -> tuple[Any, ...]:
            return exceptions.WorkerCrashedError, self.args

    return WorkerCrashedError


class _Future(concurrent.futures.Future[Any]):
    """Of a call that may be a task by now. It can be cancelled until that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.ref: Any = None  # Of the task.
        self._cancelling = threading.RLock()  # Callbacks may call cancel(), too.

    def cancel(self) -> bool:
        with self._cancelling:
            if self.done():
                return self.cancelled()
            if self.ref is not None and not _core.cancel(self.ref, False, False, True):
                return False
            return self._drop()

    def _drop(self) -> bool:
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        return True

    def running(self) -> bool:
        return self.ref is not None and not self.done()


class _Work:
    def __init__(self, task: Any, arguments: tuple[Any, ...]) -> None:
        self.task = task
        self.arguments = arguments
        self.future = _Future()


class Executor(concurrent.futures.Executor):
    """A `concurrent.futures.Executor` whose calls are tasks.

        with mobula.Executor() as executor:
            print(list(executor.map(math.sqrt, range(4))))

    max_workers: at most so many calls are under way at a time; without it, what fits the resources.
    options: of the tasks, such as num_cpus=2.

    `cancel` of a future works until its call is executed; `running` is true from when it is a task. The
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
        self._max = max_workers
        self._tasks = tuple(
            mobula.remote(**options)(function) if options else mobula.remote(function)
            for function in (_call, _call_each)
        )
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[_Work] = deque()
        self._running = 0
        self._unfinished: set[_Future] = set()
        self._is_shut_down = False

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """`fn(*args, **kwargs)` in a worker. RuntimeError: after shutdown()."""
        return self._submit(_Work(self._tasks[0], (fn, args, kwargs)))

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
        chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
        futures = deque(self._submit(_Work(self._tasks[1], (fn, chunk))) for chunk in chunks)
        return _in_order(futures, end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls. wait: until all have ended. cancel_futures: those that no worker
        executes yet are cancelled."""
        with self._lock:
            self._is_shut_down = True
            # The last first: else each would make room for another to become a task.
            dropped = [work.future for work in reversed(self._waiting)] if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
                dropped += self._unfinished.difference(dropped)
        for future in dropped:
            if future.cancel():
                self._forget(future)
        if wait:
            with self._lock:
                self._idle.wait_for(lambda: not self._unfinished)

    def _submit(self, work: _Work) -> concurrent.futures.Future[Any]:
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError(_SHUT_DOWN)
            self._waiting.append(work)
            self._unfinished.add(work.future)
        self._start_some()
        return work.future

    def _start_some(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or (self._max is not None and self._running >= self._max):
                    return
                work = self._waiting.popleft()
                self._running += 1
            self._start(work)

    def _start(self, work: _Work) -> None:
        future = work.future
        with future._cancelling:
            if not future.done():
                try:
                    future.ref = work.task.remote(*work.arguments)
                except Exception as error:  # Arguments that cannot be pickled fail their own call.
                    future.set_exception(error)
        if future.ref is not None:
            future.ref.future().add_done_callback(lambda done: self._finish(future, done))
        else:
            self._ended()
            self._forget(future)

    def _finish(self, future: _Future, done: concurrent.futures.Future[Any]) -> None:
        error = done.exception()
        # The slot is free before anybody sees the result and submits again.
        self._ended()
        with future._cancelling:
            if future.done():
                pass
            elif error is None:
                result = done.result()
                if isinstance(result, _Exit):
                    future.set_exception(SystemExit(result.code))
                else:
                    future.set_result(result)
            else:
                future.set_exception(_as_raised(error))
        future.ref = None
        self._forget(future)
        self._start_some()

    def _ended(self) -> None:
        with self._lock:
            self._running -= 1

    def _forget(self, future: _Future) -> None:
        with self._lock:
            self._unfinished.discard(future)
            if not self._unfinished:
                self._idle.notify_all()


def _as_raised(error: BaseException) -> BaseException:
    if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        CAUSE.__set__(
            error.cause, error
        )  # With the traceback of the worker. Classes may be frozen.
        return error.cause
    if isinstance(error, exceptions.WorkerCrashedError):
        died = _worker_died()(*error.args)
        died.__cause__ = error
        return died
    return error


def _in_order(futures: deque[concurrent.futures.Future[Any]], end: float | None) -> Iterator[Any]:
    try:
        while futures:
            left = None if end is None else max(0.0, end - time.monotonic())
            yield from futures.popleft().result(left)
    finally:
        for future in futures:
            future.cancel()
