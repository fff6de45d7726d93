"""What a pool runs on if its processes keep something: an initializer's work, or resources; or if they
are replaced after so many calls. Each process is an actor.

An actor has two chunks, or ever more while each takes less than 2 ms; what a slow one holds up is taken
back when another has nothing to do. The rest waits here, in the order of submission. Who waits for a
chunk waits for its ref, and hands out more when it has that. So does the thread of the futures, which
is told when an actor has done most of what it has, or all. Calls of an actor start in order: of the
chunks of one that died, only the first that was not done is lost.
"""

from __future__ import annotations

import contextlib
import dis
import os
import threading
import time
import types
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import mobula
from mobula import _calls, _core, _flight, _futures, exceptions
from mobula._pool_tasks import (
    TERMINATED,
    Interrupted,
    NotReady,
    wait_for_all_refs,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_AHEAD_S = 0.002
_AHEAD_MIN = 2
_AHEAD_MAX = 256
_LOADED_MAX = 32


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
        self._loaded: dict[bytes, Callable[[Any], Any]] = {}  # The last ones, by their numbers.
        if initializer is not None:
            initializer(*arguments)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        if self._initializer is not None:
            _share_globals(self._initializer, function)
        return function(*args, **kwargs)

    def run(self, function: Callable[..., Any], how: int, held: Any) -> Any:
        """See `_calls.HOW`."""
        if self._initializer is not None:
            _share_globals(self._initializer, function)
        return _calls.HOW[how](function)(held.value)

    def run_loaded(self, function: bytes, number: bytes, how: int, held: Any) -> Any:
        """The same, of a function that comes with many calls of one map."""
        call = self._loaded.get(number)
        if call is None:
            loaded = _calls.decoded(function)
            if self._initializer is not None:
                _share_globals(self._initializer, loaded)
            call = _calls.HOW[how](loaded)
            while len(self._loaded) >= _LOADED_MAX:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[number] = call
        return call(held.value)


class _Worker:
    """An actor and what it has to do."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.in_flight: deque[_Chunk] = deque()  # They end in this order.
        self.ahead = _AHEAD_MIN  # So many chunks it may have.
        self.looked_at = 0.0
        self.taken = 0  # Results of it, since more was handed out.
        self.watched: Any = None  # A ref of whose end the engine is told.
        self.given = 0  # Calls, in all.
        self.retired = False  # It has had all the calls it may get.


class _Chunk:
    """The part. It has a ref once an actor has it, and again if that died before it started; or an
    error."""

    __slots__ = ("calls", "error", "follower", "ref", "send", "worker")

    def __init__(self, send: Callable[[Any], Any] | None, calls: int) -> None:
        self.send = send  # To an actor; returns the ref.
        self.calls = calls
        self.ref: Any = None
        self.error: BaseException | None = None
        self.worker: _Worker | None = None  # Until it is known how it ended.
        self.follower: _futures.Follower | None = None  # To be told, when there is a ref.


class ActorEngine(_futures.Follower):
    """Any thread may use it."""

    def __init__(self, size: int, make_actor: Callable[[], Any], calls_max: int | None) -> None:
        self._make_actor = make_actor
        self._calls_per_actor = calls_max
        self._lock = threading.RLock()
        self._handed_out = threading.Condition(self._lock)
        self._waiting: deque[_Chunk] = deque()
        self._is_closed = False
        self._is_terminated = False
        self._is_handing_out = False
        self._workers = [_Worker(make_actor()) for _ in range(size)]

    def wait_until_made(self) -> None:
        """Raises what a constructor raised."""
        mobula.get([worker.actor.__ray_ready__.remote() for worker in self._workers])

    # ---- what a pool wants, see TaskEngine

    def call(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        arguments = tuple(args)
        return self._submit(_Chunk(lambda actor: actor.call.remote(function, arguments, kwargs), 1))

    def map_submitter(self, function: Any, star: bool, each: bool) -> Callable[[Any], Any]:
        how = 2 * each + star
        encoded, number = None, os.urandom(12)
        # What cannot be encoded fails each call, as it is sent.
        with contextlib.suppress(Exception):
            encoded = _calls.encoded(function)

        def submit(value: Any) -> Any:
            held = _calls.Held(value)
            if encoded is None:
                send = lambda actor: actor.run.remote(function, how, held)  # noqa: E731
            else:
                send = lambda actor: actor.run_loaded.remote(encoded, number, how, held)  # noqa: E731
            return self._submit(_Chunk(send, len(value) if each else 1))

        return submit

    def is_ready(self, part: _Chunk) -> bool:
        ref, worker = part.ref, part.worker
        if ref is None:
            return part.error is not None
        if not _futures.is_ready_now(ref):
            return False
        if worker is not None:
            self._decide(part, worker)
        return part.ref is ref

    def failed(self, error: Exception) -> Any:
        chunk = _Chunk(None, 0)
        chunk.error = error
        return chunk

    def value(self, part: _Chunk, timeout: float | None = None) -> Any:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if (ref := part.ref) is None:
                if not self._wait_until_handed_out(part, _left(end)):
                    raise NotReady
                if (ref := part.ref) is None:
                    assert part.error is not None
                    raise part.error
            try:
                if not wait_for_all_refs((ref,), _left(end)):
                    raise NotReady
                return _core.get(ref)
            except (NotReady, Interrupted):
                raise
            except BaseException as error:
                raised = _calls.as_raised(error)
            finally:
                worker = part.worker
                if worker is not None and self._waiting:
                    worker.taken += 1
                    if 2 * worker.taken >= worker.ahead:
                        worker.taken = 0
                        self._advance()
            if not isinstance(raised, NotReady) and (worker := part.worker) is not None:
                self._decide(part, worker)
            with self._lock:  # It may just be taken back.
                if part.ref is ref:
                    raise raised

    def _wait_until_handed_out(self, part: _Chunk, timeout: float | None) -> bool:
        try:
            with self._handed_out:
                return self._handed_out.wait_for(lambda: _has_ref_or_error(part), timeout)
        except BaseException as error:
            raise Interrupted(error) from None

    def values(self, parts: list[Any], timeout: float | None = None) -> list[Any]:
        end = None if timeout is None else time.monotonic() + timeout
        flight = _flight.Flight(self.is_ready, self.wait_for)
        flight.parts.extend(parts)
        values: list[Any] = []
        first_error: BaseException | None = None
        while flight.parts:
            left = _left(end)
            try:
                values.append(self.value(flight.first(), left))
            except (NotReady, Interrupted):
                raise
            except BaseException as error:
                if _futures.is_interrupt(error):
                    raise
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        return values

    def wait_for(self, parts: Sequence[Any], count: int, timeout: float | None) -> bool:
        """Until `count` of them are ready: one or, if they are handed out, several. False: not in
        time. It may be that one of those that are ready is to be done again."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self._advance()
            failed = sum(part.error is not None for part in parts)
            refs = [ref for part in parts if (ref := part.ref) is not None]
            left = _left(end)
            if failed >= count:
                return True
            if len(refs) + failed >= count:
                return _flight.wait_for_refs(refs, count - failed, left)
            if count > 1:
                return False
            with self._handed_out:
                if not self._handed_out.wait_for(lambda: any(map(_has_ref_or_error, parts)), left):
                    return False

    def wait_for_all(self, parts: Sequence[Any]) -> None:
        with self._handed_out:
            self._handed_out.wait_for(lambda: all(map(_has_ref_or_error, parts)))
        if refs := [part.ref for part in parts if part.ref is not None]:
            wait_for_all_refs(refs, None)

    def tell(self, part: _Chunk, follower: _futures.Follower) -> None:
        with self._lock:
            ref = part.ref
            if ref is None and part.error is None:
                part.follower = follower
                return
        if ref is None:
            follower.on_ready()
            return

        def told(*_: Any) -> None:
            if self.is_ready(part) or not _core.is_connected():
                follower.on_ready()
            else:
                self.tell(part, follower)  # It is to be done again.

        _futures.notifier_of_session().settle_at_once(ref, told)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._advance()

    def terminate(self, parts: list[Any]) -> None:
        with self._lock:
            self._is_closed = self._is_terminated = True
            for worker in self._workers:
                with contextlib.suppress(*_futures.OF_ANOTHER_SESSION):
                    mobula.kill(worker.actor)
                for chunk in worker.in_flight:
                    chunk.worker = None  # It is not to be done again.
                worker.in_flight.clear()
            self._workers.clear()
            self._fail_waiting(exceptions.ActorDiedError(TERMINATED))

    # ---- how

    def on_ready(self) -> None:
        with self._lock:
            if not _core.is_connected():
                self._fail_waiting(exceptions.ActorDiedError("The session has ended."))
            else:
                self._advance()

    def _submit(self, chunk: _Chunk) -> _Chunk:
        with self._lock:
            if self._is_terminated:
                chunk.error = exceptions.ActorDiedError(TERMINATED)
                return chunk
            self._waiting.append(chunk)
            self._hand_out()
        return chunk

    def _advance(self) -> None:
        """Hands out what there is room for by now; or lets the actors go."""
        with self._lock:
            for worker in list(self._workers):
                self._look(worker)
            self._hand_out()
            if not self._waiting:
                self._take_back()
            if self._is_closed and not self._waiting:
                # The last handles: the actors end.
                self._workers = [worker for worker in self._workers if worker.in_flight]
            self._watch_all()

    def _take_back(self) -> None:
        """With the lock held: if an actor has nothing to do, half of what another has not started."""
        if all(worker.in_flight or worker.retired for worker in self._workers):
            return
        busy = max(self._workers, key=lambda worker: len(worker.in_flight))
        for _ in range(len(busy.in_flight) // 2):
            chunk = busy.in_flight[-1]
            if not _core.cancel(chunk.ref, False, False, True):
                break
            busy.in_flight.pop()
            busy.given -= chunk.calls
            chunk.ref = chunk.worker = None
            self._waiting.appendleft(chunk)
        self._hand_out()

    def _decide(self, part: _Chunk, worker: _Worker) -> None:
        """The part has a result, or is to be done again."""
        self._look(worker)
        # Those before it are not ready: it died, which is about to be told of all that it had.
        while part.worker is worker and (refs := [one.ref for one in list(worker.in_flight)]):
            _flight.wait_for_refs(refs, len(refs), None)
            self._look(worker)

    def _look(self, worker: _Worker) -> None:
        """What has it done, and how fast? Is it alive?"""
        with self._lock:
            ended: list[_Chunk] = []
            while worker.in_flight and _futures.is_ready_now(worker.in_flight[0].ref):
                ended.append(worker.in_flight.popleft())
            if not ended:
                return
            now = time.perf_counter()
            if now - worker.looked_at > _AHEAD_S * len(ended):  # Each took so long.
                worker.ahead = _AHEAD_MIN
            elif not worker.in_flight or 2 * len(ended) >= worker.ahead:
                worker.ahead = min(2 * worker.ahead, _AHEAD_MAX)
            worker.looked_at = now
            lost = len(ended)
            died = _has_died(ended[-1])  # Then all that it had has ended so.
            if died:
                lost = next(number for number, chunk in enumerate(ended) if _has_died(chunk))
                for chunk in reversed([*ended[lost + 1 :], *worker.in_flight]):
                    chunk.ref = None
                    self._waiting.appendleft(chunk)
                worker.in_flight.clear()
            for chunk in ended[: lost + 1]:
                chunk.worker = chunk.send = None
            if died or (worker.retired and not worker.in_flight):
                self._replace(worker)
                self._hand_out()

    def _replace(self, worker: _Worker) -> None:
        if worker in self._workers and not self._is_terminated:
            self._workers[self._workers.index(worker)] = _Worker(self._make_actor())

    def _watch_all(self) -> None:
        """With the lock held: this engine is told when there is something to do."""
        much = any(len(worker.in_flight) > 1 for worker in self._workers)
        for worker in self._workers:
            if not worker.in_flight:
                continue
            if worker.watched is not None and not _futures.is_ready_now(worker.watched):
                continue
            if much or self._waiting or worker.retired or self._is_closed:
                more = self._waiting and not worker.retired
                at = len(worker.in_flight) * 3 // 4 if more else -1
                worker.watched = worker.in_flight[at].ref
                _futures.notifier_of_session().settle_at_once(worker.watched, self)

    def _hand_out(self) -> None:
        """With the lock held."""
        if self._is_handing_out:  # To look at a worker may lead back here: the first goes on.
            return
        self._is_handing_out = True
        handed_out = False
        try:
            while self._waiting and (worker := self._free_worker()) is not None:
                self._hand_to(worker, self._waiting.popleft())
                handed_out = True
        finally:
            self._is_handing_out = False
        self._watch_all()
        if handed_out:
            self._handed_out.notify_all()

    def _free_worker(self) -> _Worker | None:
        for worker in list(self._workers):
            if worker.in_flight and _futures.is_ready_now(worker.in_flight[0].ref):
                self._look(worker)
        free = None
        for worker in self._workers:  # Those that have died were replaced just now.
            if worker.retired or len(worker.in_flight) >= worker.ahead:
                continue
            if free is None or len(worker.in_flight) < len(free.in_flight):
                free = worker
        return free

    def _hand_to(self, worker: _Worker, chunk: _Chunk) -> None:
        assert chunk.send is not None
        try:
            ref = chunk.send(worker.actor)
        except Exception as error:  # What cannot be pickled fails its own calls alone.
            chunk.error = error
        else:
            if not worker.in_flight:
                worker.looked_at = time.perf_counter()
            worker.in_flight.append(chunk)
            worker.given += chunk.calls
            chunk.worker = worker
            chunk.ref = ref
            if self._calls_per_actor is not None and worker.given >= self._calls_per_actor:
                worker.retired = True
        self._tell_follower(chunk)

    def _tell_follower(self, chunk: _Chunk) -> None:
        follower, chunk.follower = chunk.follower, None
        if follower is not None:
            self.tell(chunk, follower)

    def _fail_waiting(self, error: BaseException) -> None:
        """With the lock held."""
        while self._waiting:
            chunk = self._waiting.popleft()
            chunk.error = error
            self._tell_follower(chunk)
        self._handed_out.notify_all()


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())


def _has_ref_or_error(part: _Chunk) -> bool:
    return part.ref is not None or part.error is not None


def _has_died(chunk: _Chunk) -> bool:
    return isinstance(_futures.value_of(chunk.ref)[1], exceptions.ActorDiedError)
