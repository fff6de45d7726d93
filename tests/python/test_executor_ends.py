"""What of an executor is under way when it ends, and what others may do to its threads."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import mobula
import pytest
from leftovers import wait_until
from mobula import _futures
from mobula.util.multiprocessing import Pool

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]


def leave_a_mark(folder: str, number: int) -> int:
    """Its second half is done after that of the first call."""
    Path(folder, f"{number}-begun").touch()
    while number and not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.001)
    Path(folder, f"{number}-done").touch()
    return number


def marks(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*-*")}


def go_soon(folder: Path) -> threading.Timer:
    timer = threading.Timer(0.1, (folder / "go").touch)
    timer.start()
    return timer


def test_shutdown_waits_for_the_running_calls_of_a_map_that_was_left(tmp_path: Path) -> None:
    executor = mobula.Executor(2)
    results = executor.map(leave_a_mark, [str(tmp_path)] * 8, range(8))
    assert next(results) == 0
    wait_until(lambda: (tmp_path / "1-begun").exists(), "the second call")
    results.close()  # type: ignore[attr-defined]
    timer = go_soon(tmp_path)
    executor.shutdown()
    ended = marks(tmp_path)
    timer.join()
    begun = {name.replace("begun", "done") for name in ended if "begun" in name}
    assert "1-done" in begun
    assert begun <= ended


def test_shutdown_waits_for_the_running_calls_of_a_map_that_was_too_late(tmp_path: Path) -> None:
    executor = mobula.Executor(2)
    results = executor.map(leave_a_mark, [str(tmp_path)] * 2, [1, 2], timeout=0.3)
    wait_until(lambda: len(marks(tmp_path)) == 2, "both calls")
    with pytest.raises(concurrent.futures.TimeoutError):
        list(results)
    timer = go_soon(tmp_path)
    executor.shutdown()
    ended = marks(tmp_path)
    timer.join()
    assert {"1-done", "2-done"} <= ended


def test_shutdown_waits_for_calls_that_were_submitted_after_the_first_had_ended(
    tmp_path: Path,
) -> None:
    executor = mobula.Executor(2)

    def numbers() -> Iterator[int]:
        yield 0
        wait_until(lambda: (tmp_path / "0-done").exists(), "the first call")
        # Whoever settles what has ended has had the time for it.
        other = executor.submit(int)
        wait_until(lambda: id(other) not in _futures._pending, "the other")
        yield 1

    executor.map(leave_a_mark, [str(tmp_path)] * 2, numbers())
    timer = go_soon(tmp_path)
    executor.shutdown()
    ended = marks(tmp_path)
    timer.join()
    assert "1-done" in ended


def test_a_future_that_is_settled_while_it_is_made_does_not_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = _futures.RefFuture.__init__

    def make_and_settle(self: _futures.RefFuture, ref: mobula.ObjectRef) -> None:
        make(self, ref)
        mobula.wait([ref])
        assert self.done()

    monkeypatch.setattr(_futures.RefFuture, "__init__", make_and_settle)
    with mobula.Executor() as executor:
        assert executor.submit(int).result() == 0
        assert not executor._unfinished


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_callback_that_raises_ends_no_thread_that_others_need(
    error: type[BaseException],
) -> None:
    called = threading.Event()

    def fail(_: object) -> None:
        called.set()
        raise error

    with mobula.Executor() as executor, Pool(1) as pool:
        executor.submit(time.sleep, 0.05).add_done_callback(fail)
        assert called.wait(30)
        called.clear()
        pool.apply_async(int, callback=fail)
        assert called.wait(30)
        assert concurrent.futures.wait([executor.submit(int)], timeout=30).done
        assert pool.apply_async(int, callback=lambda _: None).get(30) == 0
