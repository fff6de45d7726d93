"""Who waits for a result and is interrupted, or has no time left, finds the result later."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mobula
import pytest
from mobula.util.multiprocessing import Pool

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]


class Alarm(Exception):
    pass


class AlarmOfValues(ValueError):
    pass


@contextmanager
def alarm(kind: type[Exception]) -> Iterator[None]:
    """While it waits, a signal's handler raises."""

    def ring(*_: Any) -> None:
        raise kind("time is over")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(kind, match="time is over"):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def after(path: str) -> int:
    while not os.path.exists(path):
        time.sleep(0.001)
    return 7


def seven_of(pool: Pool, how: str, path: str) -> Callable[[float | None], Any]:
    """What waits, at most so long, for a result that is 7 once there is a file."""
    if how == "apply_async":
        return pool.apply_async(after, (path,)).get
    if how == "map_async":
        result = pool.map_async(after, [path, path], chunksize=1)
        return lambda timeout: result.get(timeout)[1]
    results = getattr(pool, how)(after, [path, path])
    return lambda timeout: results.next(timeout)


@pytest.mark.parametrize("kind", [Alarm, AlarmOfValues])
@pytest.mark.parametrize("how", ["apply_async", "map_async", "imap", "imap_unordered"])
@pytest.mark.parametrize("on", ["tasks", "actors"])
def test_what_a_signal_raises_is_no_result_of_a_pool(
    on: str, how: str, kind: type[Exception], tmp_path: Path
) -> None:
    file = tmp_path / "go"
    with Pool(1, initializer=int if on == "actors" else None) as pool:
        get = seven_of(pool, how, str(file))
        with alarm(kind):
            get(None)
        file.touch()
        assert get(None) == 7
        if how.startswith("imap"):
            assert get(None) == 7


@pytest.mark.parametrize("how", ["apply_async", "map_async", "imap", "imap_unordered"])
@pytest.mark.parametrize("on", ["tasks", "actors"])
def test_with_no_time_left_a_pool_has_no_result_yet(on: str, how: str, tmp_path: Path) -> None:
    file = tmp_path / "go"
    with Pool(1, initializer=int if on == "actors" else None) as pool:
        get = seven_of(pool, how, str(file))
        for timeout in (0, -1, -0.5):
            with pytest.raises(multiprocessing.TimeoutError):
                get(timeout)
        with pytest.raises(TypeError):
            get("soon")  # type: ignore[arg-type]
        file.touch()
        assert get(None) == 7


@pytest.mark.parametrize("kind", [Alarm, AlarmOfValues])
def test_what_a_signal_raises_is_no_result_of_a_future(
    kind: type[Exception], tmp_path: Path
) -> None:
    file = tmp_path / "go"
    with mobula.Executor() as executor:
        future = executor.submit(after, str(file))
        with alarm(kind):
            future.result()
        assert not future.done()
        file.touch()
        assert future.result() == 7


def test_with_no_time_left_a_future_has_no_result_yet(tmp_path: Path) -> None:
    file = tmp_path / "go"
    with mobula.Executor() as executor:
        future = executor.submit(after, str(file))
        for timeout in (0, -1):
            with pytest.raises(concurrent.futures.TimeoutError):
                future.result(timeout)
            with pytest.raises(concurrent.futures.TimeoutError):
                future.exception(timeout)
        file.touch()
        assert future.result() == 7
        assert future.result(-1) == 7
