"""What a pool runs on if its processes keep something: an initializer's work, or resources; or if they
are replaced after so many calls. Each process is an actor.

An actor has at most `_CHUNKS_AHEAD` chunks, so that a slow one holds up little; the rest waits here, in
the order of submission. Parts are futures, settled by the thread that settles those of refs.
"""

from __future__ import annotations

import concurrent.futures
import dis
import threading
import types
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import mobula
from mobula import _calls, _futures
from mobula._pool_tasks import TERMINATED, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CHUNKS_AHEAD = 2


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

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        if self._initializer is not None:
            _share_globals(self._initializer, function)
        return function(*args, **kwargs)

    def run(self, function: Callable[..., Any], how: int, held: Any) -> Any:
        """See `_calls.HOW`."""
        if self._initializer is not None:
            _share_globals(self._initializer, function)
        return _calls.HOW[how](function)(held.value)


class _Worker:
    """An actor and how much it has to do."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.chunks = 0  # Given and not done.
        self.given = 0  # Calls, in all.
        self.retired = False  # It has had all the calls it may get.


class _Chunk(concurrent.futures.Future):  # type: ignore[type-arg]
    def __init__(self, send: Callable[[Any], Any], calls: int) -> None:
        super().__init__()
        self.send: Callable[[Any], Any] | None = send  # To an actor; returns the ref.
        self.calls = calls


class ActorEngine:
    """Any thread may use it."""

    def __init__(self, size: int, make_actor: Callable[[], Any], calls_max: int | None) -> None:
        self._make_actor = make_actor
        self._calls_per_actor = calls_max
        self._lock = threading.RLock()
        self._waiting: deque[_Chunk] = deque()
        self._running: set[_Chunk] = set()
        self._is_closed = False
        self._is_terminated = False
        self._workers = [_Worker(make_actor()) for _ in range(size)]

    def wait_until_made(self) -> None:
        """Raises what a constructor raised."""
        mobula.get([worker.actor.__ray_ready__.remote() for worker in self._workers])

    def call(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return self._submit(
            _Chunk(lambda actor: actor.call.remote(function, tuple(args), kwargs), 1)
        )

    def map_submitter(self, function: Any, star: bool, each: bool) -> Callable[[Any], Any]:
        how = 2 * each + star

        def submit(value: Any) -> Any:
            held = _calls.Held(value)
            count = len(value) if each else 1
            return self._submit(_Chunk(lambda actor: actor.run.remote(function, how, held), count))

        return submit

    @staticmethod
    def is_ready(part: _Chunk) -> bool:
        return part.done()

    def failed(self, error: Exception) -> Any:
        chunk = _Chunk(lambda actor: None, 0)
        chunk.set_exception(error)
        return chunk

    def value(self, part: _Chunk, timeout: float | None = None) -> Any:
        if concurrent.futures.wait([part], timeout).not_done:
            raise NotReady
        return part.result()

    def values(self, parts: list[Any], timeout: float | None = None) -> list[Any]:
        if concurrent.futures.wait(parts, timeout).not_done:
            raise NotReady
        return [part.result() for part in parts]

    @staticmethod
    def wait_for(parts: Sequence[Any], count: int, timeout: float | None) -> bool:
        """Until `count` of them are ready: one or, briefly, several. False: not in time."""
        if count == 1:
            return bool(concurrent.futures.wait(parts, timeout, "FIRST_COMPLETED").done)
        return False  # They come one by one.

    def wait_for_all(self, parts: Sequence[Any]) -> None:
        concurrent.futures.wait(parts)

    def tell(self, part: _Chunk, follower: _futures.Follower) -> None:
        part.add_done_callback(lambda _: follower.on_ready())

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._end_if_done()

    def terminate(self, parts: list[Any]) -> None:
        with self._lock:
            self._is_closed = self._is_terminated = True
            waiting = list(self._waiting)
            self._waiting.clear()
            for worker in self._workers:
                mobula.kill(worker.actor)
            self._end_if_done()
        for chunk in waiting:
            chunk.set_exception(mobula.exceptions.ActorDiedError(TERMINATED))

    def _submit(self, chunk: _Chunk) -> _Chunk:
        with self._lock:
            if self._is_terminated:
                chunk.set_exception(mobula.exceptions.ActorDiedError(TERMINATED))
                return chunk
            self._waiting.append(chunk)
            self._hand_out()
        return chunk

    def _hand_out(self) -> None:
        """With the lock held."""
        while self._waiting:
            worker = min(
                (w for w in self._workers if not w.retired), key=lambda w: w.chunks, default=None
            )
            if worker is None or worker.chunks >= _CHUNKS_AHEAD:
                return
            chunk = self._waiting.popleft()
            assert chunk.send is not None
            try:
                ref = chunk.send(worker.actor)
            except Exception as error:  # What cannot be pickled fails its own calls alone.
                chunk.set_exception(error)
                continue
            chunk.send = None
            worker.chunks += 1
            worker.given += chunk.calls
            self._running.add(chunk)
            if self._calls_per_actor is not None and worker.given >= self._calls_per_actor:
                worker.retired = True
            settle = partial(self._finish, chunk, worker)
            _futures.notifier_of_session().settle_at_once(ref, settle)

    def _finish(
        self, chunk: _Chunk, worker: _Worker, value: Any, error: BaseException | None
    ) -> None:
        with self._lock:
            self._running.discard(chunk)
            worker.chunks -= 1
            died = isinstance(error, mobula.exceptions.RayActorError)
            over = died or (worker.retired and worker.chunks == 0)
            if over and worker in self._workers and not self._is_terminated:
                self._workers[self._workers.index(worker)] = _Worker(self._make_actor())
            self._hand_out()
            self._end_if_done()
        if error is None:
            chunk.set_result(value)
        else:
            chunk.set_exception(_calls.as_raised(error))

    def _end_if_done(self) -> None:
        """With the lock held."""
        if self._is_closed and not self._running and not self._waiting:
            self._workers.clear()  # The last handles: the actors end.
