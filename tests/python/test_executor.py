"""`mobula.Executor` is a `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import operator
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import mobula
import pytest
from leftovers import wait_until
from mobula import _core, _futures

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]


@pytest.fixture
def executor() -> Iterator[mobula.Executor]:
    with mobula.Executor() as made:
        yield made


def wait_for_file(path: str, started: str = "") -> str:
    if started:
        Path(started).touch()
    wait_until(lambda: os.path.exists(path), path)
    return path


def test_it_is_an_executor_whose_calls_run_elsewhere(executor: mobula.Executor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    assert executor.submit(os.getpid).result() != os.getpid()
    assert executor.submit(int, "ff", base=16).result() == 255


def test_map_keeps_the_order_and_ends_with_the_shortest(executor: mobula.Executor) -> None:
    assert list(executor.map(math.sqrt, [0, 1, 4, 9])) == [0, 1, 2, 3]
    assert list(executor.map(pow, range(10), [2] * 7, chunksize=3)) == [i**2 for i in range(7)]
    assert list(executor.map(pow, [], [])) == []
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(math.sqrt, [1], chunksize=0)


def test_an_error_is_the_one_that_was_raised_with_the_remote_traceback(
    executor: mobula.Executor,
) -> None:
    future = executor.submit(operator.truediv, 1, 0)
    error = future.exception()
    assert type(error) is ZeroDivisionError
    assert isinstance(error.__cause__, mobula.exceptions.RayTaskError)
    with pytest.raises(ZeroDivisionError):
        list(executor.map(operator.truediv, [1, 1], [1, 0]))


def test_what_cannot_be_pickled_fails_its_own_future(executor: mobula.Executor) -> None:
    bad = executor.submit(print, threading.Lock())
    good = executor.submit(abs, -1)
    assert isinstance(bad.exception(), TypeError)
    assert good.result() == 1


def test_max_workers_bounds_what_is_under_way_and_the_rest_can_be_cancelled(
    tmp_path: Path,
) -> None:
    executor = mobula.Executor(max_workers=1, num_cpus=0)
    gate = str(tmp_path / "gate")
    first = executor.submit(wait_for_file, gate, str(tmp_path / "started"))
    second = executor.submit(wait_for_file, gate)
    wait_until((tmp_path / "started").exists, "it runs", 60)
    assert first.running() and not second.running()
    assert second.cancel() and not first.cancel()
    Path(gate).touch()
    assert first.result() == gate
    executor.shutdown()
    assert second.cancelled()


def test_shutdown_waits_and_can_drop_what_waits(tmp_path: Path) -> None:
    executor = mobula.Executor(max_workers=1)
    gate = str(tmp_path / "gate")
    first = executor.submit(wait_for_file, gate, str(tmp_path / "started"))
    wait_until((tmp_path / "started").exists, "it runs", 60)
    waiting = [executor.submit(abs, i) for i in range(3)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    Path(gate).touch()
    executor.shutdown()
    assert first.done()


def test_a_late_result_of_map_is_a_timeout(tmp_path: Path) -> None:
    with mobula.Executor() as executor:
        gate = str(tmp_path / "gate")
        results = executor.map(wait_for_file, [gate], timeout=0.05)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        Path(gate).touch()


def test_as_completed_and_wait_of_the_standard_library_work(executor: mobula.Executor) -> None:
    futures = [executor.submit(abs, -i) for i in range(200)]
    done = {future.result() for future in concurrent.futures.as_completed(futures)}
    assert done == set(range(200))
    assert not concurrent.futures.wait(futures).not_done


def test_what_waits_for_a_worker_can_be_cancelled_without_max_workers(tmp_path: Path) -> None:
    executor = mobula.Executor(num_cpus=2)
    gate = str(tmp_path / "gate")
    first = executor.submit(wait_for_file, gate, str(tmp_path / "started"))
    wait_until((tmp_path / "started").exists, "it runs", 60)
    waiting = [executor.submit(wait_for_file, str(tmp_path / "never")) for _ in range(50)]
    told: list[bool] = []
    waiting[0].add_done_callback(lambda future: told.append(future.cancelled() and future.cancel()))
    assert waiting[0].cancel() and waiting[0].cancel()
    assert told == [True]
    assert not first.cancel()
    assert concurrent.futures.wait(waiting[:1]).done == {waiting[0]}
    with pytest.raises(concurrent.futures.CancelledError):
        waiting[0].result()
    shut_down = threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True})
    shut_down.start()
    concurrent.futures.wait(waiting)
    assert all(future.cancelled() for future in waiting)
    assert shut_down.is_alive() and not first.done()
    Path(gate).touch()
    shut_down.join(60)
    assert not shut_down.is_alive()
    assert first.result() == gate


def test_a_worker_that_dies_fails_its_call_as_a_broken_process_pool_does() -> None:
    with mobula.Executor(max_retries=0) as executor:
        died = executor.submit(os._exit, 3)
        with pytest.raises(BrokenProcessPool, match="exited with code 3"):
            died.result(60)
        error = died.exception()
        assert isinstance(error, mobula.exceptions.WorkerCrashedError)
        copy = pickle.loads(pickle.dumps(error))
        assert isinstance(copy, mobula.exceptions.WorkerCrashedError) and str(copy) == str(error)
        assert executor.submit(abs, -1).result(60) == 1


def test_a_call_that_exits_raises_that_and_its_worker_goes_on() -> None:
    with mobula.Executor(max_workers=1) as executor:
        pid = executor.submit(os.getpid).result(60)
        left = executor.submit(sys.exit, 3)
        with pytest.raises(SystemExit) as caught:
            left.result(60)
        assert caught.value.code == 3
        with pytest.raises(SystemExit):
            list(executor.map(sys.exit, [None]))
        assert executor.submit(os.getpid).result(60) == pid


def test_cancelling_while_calls_start_and_end_loses_none() -> None:
    with mobula.Executor(max_workers=4, num_cpus=0) as executor:
        for _ in range(5):
            futures = [executor.submit(abs, -number) for number in range(300)]
            cancelled = [future.cancel() for future in futures[::2]]
            concurrent.futures.wait(futures)
            assert [future.cancelled() for future in futures[::2]] == cancelled
            for number, future in enumerate(futures):
                assert future.cancelled() or future.result() == number
            assert not any(future.cancelled() for future in futures[1::2])


def test_it_is_an_executor_of_asyncio() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with mobula.Executor() as executor:
            calls = [loop.run_in_executor(executor, abs, -number) for number in range(50)]
            return await asyncio.gather(*calls)

    assert asyncio.run(main()) == list(range(50))


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="max_workers"):
        mobula.Executor(max_workers=0)
    with pytest.raises(ValueError, match="no_such_option"):
        mobula.Executor(no_such_option=1)


def test_what_a_function_names_may_change_between_calls(executor: mobula.Executor) -> None:
    space = {"word": "first"}
    exec("def say():\n    return word\ndef ask():\n    return say()", space)
    for word in ("first", "second", "third", "third", "fourth"):
        space["word"] = word
        assert [executor.submit(space["ask"]).result() for _ in range(3)] == [word] * 3
    exec("def say():\n    return 'another'", space)
    assert executor.submit(space["ask"]).result() == "another"


def test_what_a_closure_holds_may_change_between_calls(executor: mobula.Executor) -> None:
    seen: list[int] = []

    def count() -> int:
        return len(seen)

    for number in range(4):
        assert executor.submit(count).result() == number
        seen.append(number)


def test_refs_among_the_arguments_stay_refs(executor: mobula.Executor) -> None:
    ref = mobula.put(5)
    for _ in range(4):
        assert executor.submit(type, ref).result() is mobula.ObjectRef
        assert list(executor.map(type, [ref, 1])) == [mobula.ObjectRef, int]


def test_never_more_calls_are_under_way_than_max_workers(tmp_path: Path) -> None:
    def enter_and_leave(number: int) -> int:
        (tmp_path / str(number)).touch()
        inside = len(os.listdir(tmp_path))
        if inside < 3:
            time.sleep(0.01)  # Others get a chance to come in.
        (tmp_path / str(number)).unlink()
        return inside

    with mobula.Executor(max_workers=2, num_cpus=0) as executor:
        assert set(executor.map(enter_and_leave, range(40))) <= {1, 2}
        assert max(executor.map(enter_and_leave, range(40))) == 2


def test_a_call_is_running_while_a_worker_executes_it(tmp_path: Path) -> None:
    with mobula.Executor(max_workers=1) as executor:
        gate = str(tmp_path / "gate")
        first = executor.submit(wait_for_file, gate, str(tmp_path / "started"))
        wait_until((tmp_path / "started").exists, "it runs", 60)
        second = executor.submit(abs, -1)
        assert first.running() and not second.running() and not second.done()
        Path(gate).touch()
        assert second.result(60) == 1
        assert not first.running() and first.done()


def test_results_that_nobody_asks_for_are_let_go(executor: mobula.Executor) -> None:
    for _ in range(600):
        executor.submit(abs, -1)
    wait_until(lambda: not _futures._pending, "all are settled", 60)
    assert not executor._unfinished


def test_two_threads_that_wait_get_the_same_value(
    executor: mobula.Executor, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    future = executor.submit(lambda path: [wait_for_file(path)], gate)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(future.result) for _ in range(2)]
        Path(gate).touch()
        first, second = (one.result(60) for one in waiting)
    assert first == [gate] and first is second


def test_a_cancelled_call_is_cancelled_whoever_sees_its_end_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = _core.cancel

    def cancel_and_be_overtaken(*how: Any) -> bool:
        taken_back = cancel(*how)
        # As a thread does that waits for it, or sweeps.
        assert waiting.done()
        return taken_back

    with mobula.Executor(max_workers=1) as executor:
        gate = str(tmp_path / "gate")
        executor.submit(wait_for_file, gate, str(tmp_path / "started"))
        wait_until((tmp_path / "started").exists, "it runs", 60)
        waiting = executor.submit(abs, -1)
        monkeypatch.setattr(_core, "cancel", cancel_and_be_overtaken)
        was_cancelled = waiting.cancel()
        Path(gate).touch()
    assert was_cancelled and waiting.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.result()


def test_calls_of_an_executor_with_one_worker_start_in_the_order_of_submission() -> None:
    def one() -> int:
        return time.monotonic_ns()

    def two() -> int:
        return time.monotonic_ns()

    calls = [one, two, time.monotonic_ns, two, one, two, one, time.monotonic_ns]
    with mobula.Executor(max_workers=1) as executor:
        first = executor.submit(time.sleep, 0.05)  # Longer than what a worker is given ahead.
        started = [future.result(60) for future in [executor.submit(call) for call in calls]]
        first.result(60)
    assert started == sorted(started)


def test_map_of_many_and_slow_ones_keeps_the_order(executor: mobula.Executor) -> None:
    def wait_a_little(number: int) -> int:
        if number % 100 == 3:
            time.sleep(0.003)
        return number

    assert list(executor.map(wait_a_little, range(500))) == list(range(500))
    assert list(executor.map(wait_a_little, range(500), chunksize=9)) == list(range(500))


def test_an_iterator_of_map_that_is_closed_cancels_what_waits(tmp_path: Path) -> None:
    with mobula.Executor(max_workers=1) as executor:
        gate, started = str(tmp_path / "gate"), str(tmp_path / "started")
        executor.submit(wait_for_file, gate, started)
        wait_until(lambda: os.path.exists(started), "it runs", 60)
        results = executor.map(lambda name: (tmp_path / name).touch(), "abc", timeout=0)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        Path(gate).touch()
    # The first is given up, too, but only those that were not taken are cancelled.
    assert {"gate", "started"} <= set(os.listdir(tmp_path)) <= {"gate", "started", "a"}


def test_shutdown_cancels_and_waits_for_calls_of_map(tmp_path: Path) -> None:
    executor = mobula.Executor(max_workers=1)
    gate, started = str(tmp_path / "gate"), str(tmp_path / "started")
    results = executor.map(wait_for_file, [gate, gate], [started, ""])
    wait_until(lambda: os.path.exists(started), "it runs", 60)
    ended = threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True})
    ended.start()
    assert ended.is_alive()
    Path(gate).touch()
    ended.join(60)
    assert next(results) == gate
    with pytest.raises(concurrent.futures.CancelledError):
        next(results)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(executor.map(abs, [1]))


def test_a_map_that_nobody_takes_the_results_of_is_let_go(executor: mobula.Executor) -> None:
    for _ in range(3):
        executor.map(abs, range(100))
    wait_until(lambda: not executor._unfinished and not _futures._pending, "all have ended", 60)


def test_what_cannot_be_pickled_fails_its_own_call_of_map(executor: mobula.Executor) -> None:
    results = executor.map(type, [1, threading.Lock()])
    assert next(results) is int
    with pytest.raises(TypeError):
        next(results)
