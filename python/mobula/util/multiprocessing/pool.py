"""`Pool`: the interface of `multiprocessing.Pool`, on tasks or actors.

Work is cut into chunks, and what is sent for one is a *part*. Who asks for a result gets its parts by
itself; only callbacks are called by the thread that settles futures.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from multiprocessing import TimeoutError as PoolTimeoutError
from typing import TYPE_CHECKING, Any

import mobula
from mobula import _address, _calls, _core, _futures
from mobula._flight import Flight
from mobula._pool_actors import ActorEngine, PoolActor
from mobula._pool_tasks import Interrupted, NotReady, TaskEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_logger = logging.getLogger("mobula")

# A map without a chunk size makes so many chunks a process, as multiprocessing does.
_CHUNKS_PER_PROCESS = 4
# An imap is at least this many chunks a process ahead of who takes the results,
_IMAP_CHUNKS_PER_PROCESS = 4
# at most as many as are taken in this time, and never more than
_IMAP_AHEAD_S = 0.004
_IMAP_CHUNKS_MAX = 1024

_SESSION_ENDED = "The session has ended."

# Guards the outcomes of all results; held for a moment only.
_settling = threading.Lock()


class _Raised:
    """The result of a call in a chunk that raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class AsyncResult(_futures.Follower):
    """The result of `apply_async`, `map_async` or `starmap_async`."""

    _value: Any = None
    _error: BaseException | None = None
    # With callbacks: set when they have been called.
    _told: threading.Event | None = None
    _callback: Callable[[Any], Any] | None = None
    _error_callback: Callable[[BaseException], Any] | None = None
    _ready_parts = 0  # So many of the first are known to be ready.
    _waiters = 0

    def __init__(self, pool: Pool, parts: list[Any], single: bool, chunked: bool) -> None:
        self._pool: Pool | None = pool
        self._parts: list[Any] | None = parts  # Until the outcome is here.
        self._single = single
        self._chunked = chunked
        self.follow()

    def call_back(
        self,
        pool: Pool,
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> None:
        """Once, before anybody else knows of this result."""
        self._callback = callback
        self._error_callback = error_callback
        self._told = threading.Event()
        if self._parts:
            pool._engine.tell(self._parts[0], self)
        else:
            self.end()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the result is there, at most `timeout` seconds."""
        if self._told is not None:
            self._told.wait(timeout)
        elif self._parts is not None:
            self._fetch(_from_now(timeout))

    def get(self, timeout: float | None = None) -> Any:
        """The result; raises what a call raised. TimeoutError (multiprocessing's): not in time."""
        if self._told is not None:
            if not self._told.wait(timeout):
                raise PoolTimeoutError
        elif self._parts is not None and not self._fetch(_from_now(timeout)):
            raise PoolTimeoutError
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # Else the traceback of the exception would hold it, and it the exception.
        return self._value

    def ready(self) -> bool:
        return self._told.is_set() if self._told is not None else self._look()

    def successful(self) -> bool:
        """Did all calls end without an error? ValueError: they have not ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    # ---- how

    def in_flight(self) -> list[Any]:
        """The parts that may not have ended."""
        return list(self._parts or ())

    def of_pool(self, pool: Pool) -> bool:
        return self._pool is pool

    def _fetch(self, timeout: float | None) -> bool:
        """Waits for the outcome and keeps it. False: it was not there in time."""
        pool, parts = self._pool, self._parts
        if pool is None or parts is None:
            return True
        self._waiters += 1  # The sweep need not get the values, too.
        try:
            if self._single:
                value = pool._engine.value(parts[0], timeout)
            else:
                value = pool._engine.values(parts, timeout)
                if self._chunked:
                    value = _joined(value)
        except NotReady:
            return False
        except Interrupted as interrupted:
            raise interrupted.error from None
        except BaseException as error:
            if _futures.is_interrupt(error):
                raise
            self._settle(None, error)
        else:
            self._settle(value, None)
        finally:
            self._waiters -= 1
        return True

    def _settle(self, value: Any, error: BaseException | None) -> None:
        """Several may call it; the first counts."""
        with _settling:
            if self._parts is None:
                return
            self._value = value
            self._error = error
            self._parts = None
        self._pool = None
        self.unfollow()

    def _look(self) -> bool:
        """Is it there?"""
        pool, parts = self._pool, self._parts
        if pool is None or parts is None:
            return True
        return self._has_all(pool, parts) and self._fetch(None)

    def _has_all(self, pool: Pool, parts: list[Any]) -> bool:
        ready = self._ready_parts
        is_ready = pool._engine.is_ready
        while ready < len(parts) and is_ready(parts[ready]):
            ready += 1
        self._ready_parts = ready
        return ready == len(parts)

    def is_settled(self) -> bool:
        return self._parts is None

    def settle_if_ready(self) -> bool:
        if self._told is not None or self._waiters:
            return self._parts is None  # Others do it.
        return self._look()

    def on_ready(self) -> None:
        pool, parts = self._pool, self._parts
        if pool is None or parts is None:
            self.end()
        elif not pool._engine.is_ready(parts[self._ready_parts]):
            self.end()  # There is no session any more.
        elif self._has_all(pool, parts):
            self.end()
        else:
            pool._engine.tell(parts[self._ready_parts], self)

    def end(self) -> None:
        pool, parts = self._pool, self._parts
        if pool is not None and parts is not None and not self._fetch(0):
            if _core.session_number() == pool._session_number:  # One is to be done again.
                if self._told is not None:
                    self._ready_parts = 0
                    pool._engine.tell(parts[0], self)
                return
            self._settle(None, mobula.exceptions.ActorDiedError(_SESSION_ENDED))
        if self._told is None or self._told.is_set():
            return
        callback: Any = self._callback if self._error is None else self._error_callback
        self._callback = self._error_callback = None
        try:
            if callback is not None:
                callback(self._value if self._error is None else self._error)
        except Exception:
            _logger.exception("a callback of a pool raised an exception")
        finally:
            self._told.set()


def _from_now(timeout: float | None) -> float | None:
    """Time that is over is none."""
    return None if timeout is None else max(timeout, 0.0)


def _joined(chunks: list[Any]) -> list[Any]:
    """The results of all chunks; raises the first error."""
    joined: list[Any] = []
    for chunk in chunks:
        if type(chunk) is _calls.Failures:
            raise next(error for _, error in chunk.outcomes() if error is not None)
        joined += chunk
    return joined


class IMapIterator:
    """What `imap` and `imap_unordered` return: results one by one. The iterable is read as they are
    taken, so it may be endless. What it raises is raised after the results of what it gave before.

    How far it is read ahead follows from how fast results are taken: see `_window_now`.
    """

    def __init__(
        self,
        pool: Pool,
        submit: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunk_size: int,
        ordered: bool,
    ) -> None:
        self._pool = pool
        self._engine = pool._engine
        self._submit = submit
        self._values = iter(iterable)
        self._chunk_size = chunk_size
        self._ordered = ordered
        self._lock = threading.RLock()  # The iterable may take results, too.
        # Parts whose values nobody has taken.
        self._flight = Flight(pool._engine.is_ready, pool._engine.wait_for)
        self._results: deque[Any] = deque()  # Of the chunk that is being taken.
        self._exhausted = False
        self._is_filling = False
        self._failure: BaseException | None = None  # What the iterable raised.
        self._window = self._window_min = pool._size * _IMAP_CHUNKS_PER_PROCESS
        self._taken = 0
        self._filled_at = time.perf_counter()

    def begin(self) -> None:
        """Reads the iterable for the first time, which may take long."""
        with self._lock:
            self._fill(self._window)

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result; raises what its call raised. StopIteration: there are no more.
        TimeoutError (multiprocessing's): it did not come in `timeout` seconds."""
        if self._chunk_size == 1:
            return self._next_value(timeout)
        while True:
            try:
                result = self._results.popleft()
            except IndexError:
                chunk = self._next_value(timeout)
                if type(chunk) is _calls.Failures:
                    self._results.extend(
                        value if error is None else _Raised(error)
                        for value, error in chunk.outcomes()
                    )
                else:
                    self._results.extend(chunk)
                continue
            if type(result) is _Raised:
                raise result.error
            return result

    def _next_value(self, timeout: float | None) -> Any:
        timeout = _from_now(timeout)
        part = self._next_part(timeout)
        try:
            return self._engine.value(part, timeout)
        except NotReady:
            self._flight.parts.appendleft(part)
        except Interrupted as interrupted:
            self._flight.parts.appendleft(part)
            raise interrupted.error from None
        except KeyboardInterrupt as error:
            if _futures.is_interrupt(error):
                self._flight.parts.appendleft(part)
            raise
        raise PoolTimeoutError

    def _next_part(self, timeout: float | None) -> Any:
        """The one to wait for."""
        with self._lock:
            flight = self._flight
            if not self._exhausted and 2 * len(flight) <= self._window:
                self._fill(self._window_now())
            if not flight:
                failure, self._failure = self._failure, None
                raise StopIteration if failure is None else failure
            if self._ordered:
                part = flight.first()
            elif (part := flight.first_done(timeout)) is None:
                raise PoolTimeoutError
            self._taken += 1
            return part

    def _window_now(self) -> int:
        """How many chunks are to be in flight: what is taken in `_IMAP_AHEAD_S`; but at first, and
        while that is little, a few for each process. It doubles at most with each time."""
        now = time.perf_counter()
        rate = self._taken / max(now - self._filled_at, 1e-6)
        self._taken = 0
        self._filled_at = now
        window = min(int(rate * _IMAP_AHEAD_S), 2 * self._window, _IMAP_CHUNKS_MAX)
        self._window = max(window, self._window_min)
        return self._window

    def _fill(self, window: int) -> None:
        if self._is_filling:  # The iterable itself takes a result.
            return
        pool = self._pool
        if pool._is_terminated or pool._session_number != _core.session_number():
            self._exhausted = True
            return
        self._is_filling = True
        flight, submit = self._flight.parts, self._submit
        wanted = window - len(self._flight)
        try:
            for _ in range(wanted):
                if self._chunk_size == 1:
                    value = next(self._values)
                elif not (value := list(itertools.islice(self._values, self._chunk_size))):
                    raise StopIteration
                try:
                    part = submit(value)
                except Exception as error:  # What cannot be sent fails its own calls.
                    part = self._engine.failed(error)
                flight.append(part)
        except StopIteration:
            self._exhausted = True
        except Exception as error:
            self._exhausted = True
            self._failure = error
        finally:
            self._is_filling = False

    def is_over(self) -> bool:
        return self._exhausted and not self._flight

    def submit_rest(self) -> None:
        """Reads the iterable to its end."""
        with self._lock:
            while not self._exhausted:
                self._fill(len(self._flight) + _IMAP_CHUNKS_MAX)


class Pool:
    """`multiprocessing.Pool`, on Mobula.

    processes: how many calls run at a time; as many as there are CPUs if not given. ValueError: fewer
    than one, or more than there are CPUs.
    initializer, initargs: called in each process when it starts. The pool is there when they have run;
    ActorDiedError: one raised.
    maxtasksperchild: a process is replaced after about so many calls (whole chunks).
    context: ignored. ray_address: passed to `init` if there is no session.
    ray_remote_args: options of the processes, such as {"num_cpus": 0.5}. By default they keep no CPUs
    to themselves, like all actors.

    With one of initializer, maxtasksperchild and ray_remote_args the processes are actors, of this pool
    alone. Else calls are tasks without CPUs, at most `processes` at a time, in workers of the session.

    Exceptions arrive as they were raised in the pool. A chunk whose process dies fails with
    ActorDiedError; the process is replaced.
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
        options = dict(ray_remote_args or {})
        self._size = _check_size(processes, options)
        self._lock = threading.RLock()  # What is submitted is pickled, which runs code of others.
        self._closed = False
        self._is_terminated = False
        self._session_number = _core.session_number()
        # Those that were not taken to their ends, and their parts, which outlive them.
        self._imaps: list[tuple[weakref.ref[IMapIterator], deque[Any]]] = []
        self._engine: TaskEngine | ActorEngine
        if initializer is None and maxtasksperchild is None and not options:
            self._engine = TaskEngine(self._size)
            return
        arguments = tuple(initargs or ())
        actor_class: Any = mobula.remote(PoolActor)
        if options:
            actor_class = actor_class.options(**options)
        self._engine = ActorEngine(
            self._size, lambda: actor_class.remote(initializer, arguments), maxtasksperchild
        )
        if initializer is not None:
            try:
                self._engine.wait_until_made()
            except BaseException:
                self.terminate()
                raise

    # ---- what multiprocessing.Pool has

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """`func(*args, **kwargs)` in one of the processes; waits for it."""
        return self.apply_async(func, args, kwargs).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """As `apply`, without waiting. Callbacks are called in a thread of the session's."""
        args = () if args is None else args if type(args) is tuple else tuple(args)
        with self._lock:
            if self._closed:
                raise ValueError("Pool not running")
            try:
                part = self._engine.call(func, args, kwargs or {})
            except Exception as error:  # What cannot be sent fails its own call.
                part = self._engine.failed(error)
            result = AsyncResult(self, [part], True, False)
        if callback is not None or error_callback is not None:
            result.call_back(self, callback, error_callback)
        return result

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
        result = self._map(func, list(iterable), chunksize, star=False)
        if callback is not None or error_callback is not None:
            result.call_back(self, callback, error_callback)
        return result

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
        result = self._map(func, [tuple(values) for values in iterable], chunksize, star=True)
        if callback is not None or error_callback is not None:
            result.call_back(self, callback, error_callback)
        return result

    def imap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """An iterator over the results, in order. `iterable` is read a little ahead."""
        return self._imap(func, iterable, chunksize, True)

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """As `imap`, in the order in which chunks are done, or nearly so."""
        return self._imap(func, iterable, chunksize, False)

    def close(self) -> None:
        """No more work is taken; what was taken is done, and the processes end."""
        with self._lock:
            self._closed = True
            if not self._live_imaps():
                self._engine.close()

    def terminate(self) -> None:
        """Ends the processes at once. What they had to do fails with ActorDiedError."""
        with self._lock:
            self._closed = self._is_terminated = True
            parts = [part for _, flight in self._imaps for part in list(flight)]
            for result in self._results():
                parts += result.in_flight()
            self._imaps.clear()
            self._engine.terminate(parts)

    def join(self) -> None:
        """Waits until everything is done. ValueError: the pool is not closed."""
        if not self._closed:
            raise ValueError("Pool is still running")
        with self._lock:
            imaps = self._live_imaps()
            flights = [flight for _, flight in self._imaps]
        for imap in imaps:
            imap.submit_rest()
        self._engine.close()
        try:
            for flight in flights:
                self._engine.wait_for_all(list(flight))
        except Interrupted as interrupted:
            raise interrupted.error from None
        for result in self._results():
            result.wait()
        self._engine.close()

    def __enter__(self) -> Pool:
        if self._closed:
            raise ValueError("Pool not running")
        return self

    def __exit__(self, *error: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    # ---- how

    def _map(
        self, func: Callable[..., Any], values: list[Any], chunk_size: int | None, star: bool
    ) -> AsyncResult:
        if chunk_size is None:
            chunk_size = -(-len(values) // (self._size * _CHUNKS_PER_PROCESS)) or 1
        if chunk_size < 1:
            raise ValueError(f"chunksize must be at least 1, not {chunk_size}")
        chunked = chunk_size > 1
        if chunked:
            starts = range(0, len(values), chunk_size)
            values = [values[start : start + chunk_size] for start in starts]
        with self._lock:
            if self._closed:
                raise ValueError("Pool not running")
            submit = self._engine.map_submitter(func, star, chunked)
            parts = []
            for value in values:
                try:
                    parts.append(submit(value))
                except Exception as error:  # What cannot be sent fails its own calls.
                    parts.append(self._engine.failed(error))
            return AsyncResult(self, parts, False, chunked)

    def _imap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        ordered: bool,
    ) -> IMapIterator:
        size = 1 if chunksize is None else chunksize
        if size < 1:
            raise ValueError(f"chunksize must be at least 1, not {size}")
        with self._lock:
            if self._closed:
                raise ValueError("Pool not running")
            submit = self._engine.map_submitter(func, False, size > 1)
            made = IMapIterator(self, submit, iterable, size, ordered)
            self._live_imaps()
            self._imaps.append((weakref.ref(made), made._flight.parts))
        made.begin()
        return made

    def _live_imaps(self) -> list[IMapIterator]:
        """With the lock held. Forgets those that are over."""
        is_ready = self._engine.is_ready
        self._imaps = [
            (imap, flight)
            for imap, flight in self._imaps
            if ((made := imap()) is not None and not made.is_over())
            or not all(is_ready(part) for part in list(flight))
        ]
        return [made for imap, _ in self._imaps if (made := imap()) is not None]

    def _results(self) -> list[AsyncResult]:
        """Those that are not settled."""
        return [
            one
            for one in _futures.all_pending()
            if isinstance(one, AsyncResult) and one.of_pool(self)
        ]


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
