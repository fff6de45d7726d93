"""`Pool`: the interface of `multiprocessing.Pool`; each of its processes is an actor.

Work is cut into chunks. An actor has at most `_CHUNKS_AHEAD` of them, so that a slow one holds up
little; the rest waits here, in the order of submission. Results are handed out, and callbacks called,
by the thread that settles the futures of refs: a callback that waits for the pool waits for ever.
"""

from __future__ import annotations

import dis
import itertools
import os
import threading
import types
from collections import deque
from functools import partial
from multiprocessing import TimeoutError as PoolTimeoutError
from typing import TYPE_CHECKING, Any

import mobula
from mobula import _address
from mobula._exceptions_pickled import Portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CHUNKS_AHEAD = 2
# A map without a chunk size makes so many chunks an actor, as multiprocessing does.
_CHUNKS_PER_PROCESS = 4
# An imap reads this many chunks an actor ahead of who takes the results.
_IMAP_CHUNKS_PER_PROCESS = 4


# (args, kwargs)
_Call = tuple[tuple[Any, ...], dict[str, Any]]


class _Failure:
    """What a call raised; it travels as a value, so that the rest of its chunk is not lost."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _failure, (Portable(self.error),)


def _failure(portable: Portable) -> _Failure:
    return _Failure(portable.error)


def _share_globals(initializer: Callable[..., Any], function: Callable[..., Any]) -> None:
    """What the initializer has assigned with `global` is there for functions of its module. Those of a
    script travel by value, each with globals of its own."""
    while isinstance(function, partial):
        function = function.func
    plain = isinstance(initializer, types.FunctionType) and isinstance(function, types.FunctionType)
    if not plain or function.__module__ != initializer.__module__:
        return
    source, target = initializer.__globals__, function.__globals__
    if source is target:
        return
    for instruction in dis.get_instructions(initializer):
        if instruction.opname == "STORE_GLOBAL" and instruction.argval in source:
            target[instruction.argval] = source[instruction.argval]


class PoolActor:
    """One process of a pool."""

    def __init__(self, initializer: Callable[..., Any] | None, arguments: tuple[Any, ...]) -> None:
        self._initializer = initializer
        if initializer is not None:
            initializer(*arguments)

    def run(self, function: Callable[..., Any], calls: list[_Call]) -> list[Any]:
        """calls: (args, kwargs). The results, or _Failures, in this order."""
        if self._initializer is not None:
            _share_globals(self._initializer, function)
        results = []
        for args, kwargs in calls:
            try:
                results.append(function(*args, **kwargs))
            except Exception as error:
                results.append(_Failure(error))
        return results


class _Worker:
    """An actor and how much it has to do."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.chunks = 0  # Given and not done.
        self.given = 0  # Calls, in all.
        self.retired = False  # It has had all the calls it may get.


class _Chunk:
    def __init__(
        self,
        function: Callable[..., Any],
        calls: list[_Call],
        done: Callable[[list[Any]], None],
    ) -> None:
        self.function = function
        self.calls = calls
        self.done = done  # Called once, with results or _Failures, one for each call.


class AsyncResult:
    """The result of `apply_async`, `map_async` or `starmap_async`."""

    def __init__(
        self,
        parts: int,
        single: bool,
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> None:
        self._parts: list[list[Any] | None] = [None] * parts
        self._missing = parts
        self._single = single
        self._callback = callback
        self._error_callback = error_callback
        self._ready = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        if parts == 0:
            self._finish()

    def _set_part(self, number: int, results: list[Any]) -> None:
        self._parts[number] = results
        self._missing -= 1
        if self._missing == 0:
            self._finish()

    def _finish(self) -> None:
        values = list(itertools.chain.from_iterable(part or [] for part in self._parts))
        self._parts = []
        failure = next((value for value in values if isinstance(value, _Failure)), None)
        if failure is not None:
            self._error = failure.error
        else:
            self._value = values[0] if self._single else values
        try:
            if self._error is None and self._callback is not None:
                self._callback(self._value)
            elif self._error is not None and self._error_callback is not None:
                self._error_callback(self._error)
        finally:
            self._ready.set()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the result is there, at most `timeout` seconds."""
        self._ready.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """The result; raises what a call raised. TimeoutError (multiprocessing's): not in time."""
        if not self._ready.wait(timeout):
            raise PoolTimeoutError
        if self._error is not None:
            raise self._error
        return self._value

    def ready(self) -> bool:
        return self._ready.is_set()

    def successful(self) -> bool:
        """Did all calls end without an error? ValueError: they have not ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None


class IMapIterator:
    """What `imap` and `imap_unordered` return: results one by one. The iterable is read as they are
    taken, so it may be endless."""

    def __init__(
        self,
        pool: Pool,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        chunk_size: int,
        ordered: bool,
    ) -> None:
        self._pool = pool
        self._function = function
        self._values = iter(iterable)
        self._chunk_size = chunk_size
        self._ordered = ordered
        self._changed = threading.Condition()
        self._submitted = 0
        self._taken_chunks = 0
        self._under_way = 0
        self._done: dict[int, list[Any]] = {}
        self._results: deque[Any] = deque()
        self._exhausted = False
        for _ in range(pool._size * _IMAP_CHUNKS_PER_PROCESS):
            self._submit_next()

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result; raises what its call raised. StopIteration: there are no more.
        TimeoutError (multiprocessing's): it did not come in `timeout` seconds."""
        while not self._results:
            with self._changed:
                if not self._changed.wait_for(self._has_chunk_or_end, timeout):
                    raise PoolTimeoutError
                if not self._done:
                    raise StopIteration
                number = self._taken_chunks if self._ordered else next(iter(self._done))
                self._results.extend(self._done.pop(number))
                self._taken_chunks += 1
            self._submit_next()
        result = self._results.popleft()
        if isinstance(result, _Failure):
            raise result.error
        return result

    def _has_chunk_or_end(self) -> bool:
        if self._ordered and self._taken_chunks in self._done:
            return True
        return self._under_way == 0 if self._ordered else bool(self._done) or self._under_way == 0

    def _submit_next(self) -> None:
        if self._exhausted:
            return
        calls: list[_Call] = [
            ((value,), {}) for value in itertools.islice(self._values, self._chunk_size)
        ]
        if not calls:
            self._exhausted = True
            return
        number = self._submitted
        self._submitted += 1
        with self._changed:
            self._under_way += 1

        def done(results: list[Any]) -> None:
            with self._changed:
                self._under_way -= 1
                self._done[number] = results
                self._changed.notify_all()

        self._pool._submit(_Chunk(self._function, calls, done))


class Pool:
    """`multiprocessing.Pool`, on Mobula.

    processes: how many actors; all CPUs if not given. ValueError: fewer than one, or more than there
    are CPUs.
    initializer, initargs: called in each actor when it starts. The pool is there when they have run;
    ActorDiedError: one raised.
    maxtasksperchild: an actor is replaced after about so many calls (whole chunks).
    context: ignored. ray_address: passed to `init` if there is no session.
    ray_remote_args: options of the actors, such as {"num_cpus": 0.5}. By default they keep no CPUs to
    themselves, like all actors.

    Exceptions arrive as they were raised in the pool. A chunk whose actor dies fails with
    ActorDiedError; the actor is replaced.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if maxtasksperchild is not None and maxtasksperchild < 1:
            raise ValueError("maxtasksperchild must be a positive int or None")
        if not mobula.is_initialized():
            _start_session(ray_address or os.environ.get("RAY_ADDRESS"), processes)
        self._initializer = initializer
        self._initargs = tuple(initargs or ())
        self._calls_per_actor = maxtasksperchild
        self._options = dict(ray_remote_args or {})
        self._size = _check_size(processes, self._options)
        self._lock = threading.RLock()
        self._waiting: deque[_Chunk] = deque()
        self._running: set[_Chunk] = set()
        self._closed = False
        self._terminated = False
        self._all_done = threading.Condition(self._lock)
        self._workers = [self._new_worker() for _ in range(self._size)]
        if initializer is not None:
            self._wait_for_initializers()

    # ---- what multiprocessing.Pool has

    def apply(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """`func(*args, **kwargs)` in one of the processes; waits for it."""
        return self.apply_async(func, args, kwargs).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """As `apply`, without waiting. Callbacks are called in a thread of the pool's."""
        calls: list[_Call] = [(tuple(args or ()), dict(kwargs or {}))]
        return self._start(func, [calls], True, callback, error_callback)

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """`[func(x) for x in iterable]`, spread over the processes."""
        return list(self.map_async(func, iterable, chunksize).get())

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        calls: list[_Call] = [((value,), {}) for value in iterable]
        return self._start(func, self._chunks(calls, chunksize), False, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """`[func(*x) for x in iterable]`, spread over the processes."""
        return list(self.starmap_async(func, iterable, chunksize=chunksize).get())

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
        chunksize: int | None = None,
    ) -> AsyncResult:
        calls: list[_Call] = [(tuple(values), {}) for values in iterable]
        return self._start(func, self._chunks(calls, chunksize), False, callback, error_callback)

    def imap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """An iterator over the results, in order. `iterable` is read a little ahead."""
        return self._imap(func, iterable, chunksize, True)

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """As `imap`, in the order in which chunks are done."""
        return self._imap(func, iterable, chunksize, False)

    def close(self) -> None:
        """No more work is taken; what was taken is done, and the processes end."""
        with self._lock:
            self._closed = True
            self._end_if_done()

    def terminate(self) -> None:
        """Ends the processes at once. What they had to do fails with ActorDiedError."""
        with self._lock:
            self._closed = self._terminated = True
            waiting = list(self._waiting)
            self._waiting.clear()
            for worker in self._workers:
                mobula.kill(worker.actor)
            self._end_if_done()
        error = mobula.exceptions.ActorDiedError("The pool was terminated.")
        for chunk in waiting:
            chunk.done([_Failure(error) for _ in chunk.calls])

    def join(self) -> None:
        """Waits until everything is done. ValueError: the pool is not closed."""
        if not self._closed:
            raise ValueError("Pool is still running")
        with self._lock:
            self._all_done.wait_for(lambda: not self._running and not self._waiting)

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *error: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    # ---- how

    def _check_running(self) -> None:
        if self._closed:
            raise ValueError("Pool not running")

    def _chunks(self, calls: list[_Call], size: int | None) -> list[list[_Call]]:
        if size is None:
            size = -(-len(calls) // (self._size * _CHUNKS_PER_PROCESS)) or 1
        if size < 1:
            raise ValueError(f"chunksize must be at least 1, not {size}")
        return [calls[start : start + size] for start in range(0, len(calls), size)]

    def _start(
        self,
        func: Callable[..., Any],
        chunks: list[list[_Call]],
        single: bool,
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> AsyncResult:
        self._check_running()
        result = AsyncResult(len(chunks), single, callback, error_callback)

        def done_with(number: int) -> Callable[[list[Any]], None]:
            return lambda results: result._set_part(number, results)

        for number, calls in enumerate(chunks):
            self._submit(_Chunk(func, calls, done_with(number)))
        return result

    def _imap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        ordered: bool,
    ) -> IMapIterator:
        self._check_running()
        size = 1 if chunksize is None else chunksize
        if size < 1:
            raise ValueError(f"chunksize must be at least 1, not {size}")
        return IMapIterator(self, func, iterable, size, ordered)

    def _submit(self, chunk: _Chunk) -> None:
        with self._lock:
            self._check_running()
            self._waiting.append(chunk)
            self._hand_out()

    def _new_worker(self) -> _Worker:
        actor_class: Any = mobula.remote(PoolActor)
        if self._options:
            actor_class = actor_class.options(**self._options)
        return _Worker(actor_class.remote(self._initializer, self._initargs))

    def _wait_for_initializers(self) -> None:
        try:
            mobula.get([worker.actor.__ray_ready__.remote() for worker in self._workers])
        except BaseException:
            self.terminate()
            raise

    def _hand_out(self) -> None:
        """With the lock held."""
        while self._waiting:
            worker = min(
                (w for w in self._workers if not w.retired), key=lambda w: w.chunks, default=None
            )
            if worker is None or worker.chunks >= _CHUNKS_AHEAD:
                return
            chunk = self._waiting.popleft()
            try:
                ref = worker.actor.run.remote(chunk.function, chunk.calls)
            except Exception as error:  # What cannot be pickled fails its own calls alone.
                chunk.done([_Failure(error) for _ in chunk.calls])
                continue
            worker.chunks += 1
            worker.given += len(chunk.calls)
            self._running.add(chunk)
            if self._calls_per_actor is not None and worker.given >= self._calls_per_actor:
                worker.retired = True
            ref.future().add_done_callback(partial(self._finish, chunk, worker))

    def _finish(self, chunk: _Chunk, worker: _Worker, future: Any) -> None:
        error = future.exception()
        with self._lock:
            self._running.discard(chunk)
            worker.chunks -= 1
            died = isinstance(error, mobula.exceptions.RayActorError)
            over = died or (worker.retired and worker.chunks == 0)
            if over and worker in self._workers and not self._terminated:
                self._workers[self._workers.index(worker)] = self._new_worker()
            self._hand_out()
        # A cause that is known for each call stays with it; the rest hits the whole chunk.
        chunk.done(future.result() if error is None else [_Failure(error) for _ in chunk.calls])
        with self._lock:
            self._end_if_done()

    def _end_if_done(self) -> None:
        """With the lock held."""
        if not self._running and not self._waiting:
            if self._closed:
                self._workers.clear()  # The last handles: the actors end.
            self._all_done.notify_all()


def _start_session(address: str | None, processes: int | None) -> None:
    """One that is there, or else a new one with a CPU for each process."""
    if processes is None or processes <= 0 or _address.would_join(address):
        mobula.init(address)
    else:
        mobula.init(address, num_cpus=processes)


def _check_size(processes: int | None, options: dict[str, Any]) -> int:
    cpus = int(mobula.cluster_resources().get("CPU", 0))
    if processes is None:
        return max(1, cpus)
    if processes <= 0:
        raise ValueError("Processes in the pool must be >0.")
    each = options.get("num_cpus", 1)
    if each and processes * each > cpus:
        raise ValueError(
            f"Tried to start a pool with {processes} processes on an existing ray cluster, but there "
            f"are only {cpus} CPUs in the ray cluster."
        )
    return processes
