"""The session ends while executors, pools and futures have work: all of it fails, nothing waits, and
nothing starts another session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import mobula
import pytest
from mobula import _core
from mobula.util.multiprocessing import Pool

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("no_session")]


def sleep_long(number: int = 0) -> int:
    time.sleep(600)
    return number


class Waiting:
    """A thread that waits; what it raises."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        self.outcome: Any = None
        self._wait = wait
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._wait()
        except Exception as error:
            self.outcome = error

    def error(self) -> Exception:
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert isinstance(self.outcome, Exception)
        return self.outcome


def test_who_waits_when_the_session_ends_is_told_and_starts_no_other() -> None:
    mobula.init(num_cpus=2)
    executor = mobula.Executor()
    tasks, actors = Pool(2), Pool(2, initializer=int)
    told: list[BaseException | None] = []
    waiting = [Waiting(executor.submit(sleep_long).result) for _ in range(2)]
    mapped = executor.map(sleep_long, range(3))
    waiting.append(Waiting(lambda: list(mapped)))
    for pool in (tasks, actors):
        waiting.append(Waiting(pool.apply_async(sleep_long).get))
        waiting.append(Waiting(pool.map_async(sleep_long, range(9), chunksize=1).get))
        waiting.append(Waiting(pool.imap(sleep_long, range(99)).next))
        waiting.append(Waiting(pool.imap_unordered(sleep_long, range(99)).next))
        called_back = pool.map_async(
            sleep_long, range(9), 1, lambda _: told.append(None), told.append
        )
        waiting.append(Waiting(called_back.get))
    time.sleep(0.3)  # So that they wait; nothing fails if they do not yet.
    mobula.shutdown()
    assert all(one.error() for one in waiting)
    assert len(told) == 2
    assert None not in told
    assert not mobula.is_initialized()


def test_what_is_left_of_an_ended_session_can_be_closed() -> None:
    mobula.init(num_cpus=2)
    executor = mobula.Executor()
    executor.submit(sleep_long)
    mapped = executor.map(sleep_long, range(3))
    pools = [Pool(2), Pool(2, initializer=int)]
    results = [pool.map_async(sleep_long, range(9), chunksize=1) for pool in pools]
    iterators = [pool.imap(sleep_long, range(999)) for pool in pools]
    mobula.shutdown()
    for result in results:
        assert result.ready()
        assert not result.successful()
    with pytest.raises((ValueError, mobula.exceptions.RayError)):
        next(mapped)
    for results_of in iterators:
        with pytest.raises((ValueError, mobula.exceptions.RayError)):
            next(results_of)
    executor.shutdown(cancel_futures=True)
    for pool in pools:
        pool.close()
        pool.join()
        pool.terminate()
    assert not mobula.is_initialized()


def test_a_ref_of_an_ended_session_starts_no_other() -> None:
    mobula.init(num_cpus=1)
    ref = mobula.put(1)
    actor = mobula.remote(type("Actor", (), {})).remote()
    mobula.shutdown()
    for use in (
        lambda: mobula.get(ref),
        lambda: mobula.get([ref]),
        lambda: mobula.wait([ref]),
        lambda: mobula.cancel(ref),
        lambda: mobula.kill(actor),
        lambda: _core.is_ready(ref),
    ):
        with pytest.raises(mobula.exceptions.RaySystemError, match="was shut down"):
            use()
    assert not mobula.is_initialized()


def test_a_pool_and_an_executor_go_on_in_the_next_session() -> None:
    mobula.init(num_cpus=2)
    executor, pool = mobula.Executor(2), Pool(2)
    for _ in range(2):
        assert list(executor.map(abs, [-1, 2])) == [1, 2]
        assert executor.submit(abs, -3).result() == 3
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool.map(lambda value: -value, [-1, 2]) == [1, -2]
        mobula.shutdown()
        mobula.init(num_cpus=2)
    executor.shutdown()
