"""mobula.util.multiprocessing.Pool does what multiprocessing.Pool does."""

from __future__ import annotations

import itertools
import operator
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from leftovers import wait_until
from mobula.util.multiprocessing import Pool, TimeoutError

pytestmark = pytest.mark.usefixtures("shared_session")


def square(x: int) -> int:
    return x * x


def wait_for(path: str) -> str:
    import time

    while not Path(path).exists():
        time.sleep(0.01)
    return path


def set_state(value: int) -> None:
    os.environ["POOL_STATE"] = str(value)


def state(_: Any = None) -> str:
    return os.environ["POOL_STATE"]


@pytest.fixture(scope="module")
def pool(shared_session: None) -> Iterator[Pool]:
    with Pool(2) as made:
        yield made


def test_maps(pool: Pool) -> None:
    assert pool.map(square, range(100)) == [i * i for i in range(100)]
    assert pool.map(square, range(10), chunksize=3) == [i * i for i in range(10)]
    assert pool.starmap(operator.add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.map(square, []) == []


def test_the_work_is_done_by_the_processes(pool: Pool) -> None:
    pids = set(pool.map(lambda _: os.getpid(), range(20), chunksize=1))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_apply(pool: Pool) -> None:
    assert pool.apply(int, ("ff",), {"base": 16}) == 255
    result = pool.apply_async(square, (7,))
    result.wait()
    assert result.ready() and result.successful() and result.get() == 49


def test_imap_keeps_the_order_and_imap_unordered_gives_everything(pool: Pool) -> None:
    assert list(pool.imap(square, range(40))) == [i * i for i in range(40)]
    assert list(pool.imap(square, range(40), chunksize=7)) == [i * i for i in range(40)]
    assert sorted(pool.imap_unordered(square, range(40))) == [i * i for i in range(40)]
    assert list(pool.imap(square, [])) == []


@pytest.mark.mobula_only
def test_imap_reads_an_endless_iterable_a_little_ahead(pool: Pool) -> None:
    numbers = itertools.count()
    results = pool.imap(square, numbers)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert next(numbers) < 100


def test_a_result_that_is_late_is_a_timeout(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    result = pool.apply_async(wait_for, (str(gate),))
    with pytest.raises(TimeoutError):
        result.get(timeout=0.05)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    later = pool.imap(wait_for, [str(gate)])
    with pytest.raises(TimeoutError):
        later.next(timeout=0.05)
    gate.touch()
    assert result.get() == later.next() == str(gate)


def test_an_error_is_the_one_that_was_raised(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError):
        pool.starmap(operator.truediv, [(1, 1), (1, 0)])
    with pytest.raises(ZeroDivisionError):
        pool.apply(operator.truediv, (1, 0))
    result = pool.starmap_async(operator.truediv, [(1, 0)])
    result.wait()
    assert not result.successful()


@pytest.mark.mobula_only
def test_imap_raises_at_the_turn_of_the_call_and_goes_on(pool: Pool) -> None:
    results = pool.imap(lambda x: 1 / x, [1, 0, 2])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 0.5


def test_callbacks_are_called_once(pool: Pool) -> None:
    called: list[Any] = []
    event = threading.Event()

    def note(value: Any) -> None:
        called.append(value)
        event.set()

    pool.map_async(square, [1, 2], callback=note)
    assert event.wait(60) and called == [[1, 4]]
    event.clear()
    pool.apply_async(operator.truediv, (1, 0), callback=print, error_callback=note)
    assert event.wait(60) and len(called) == 2


def test_closing_lets_it_finish(tmp_path: Path) -> None:
    pool = Pool(1)
    gate = tmp_path / "gate"
    results = [pool.apply_async(wait_for, (str(gate),)) for _ in range(5)]
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.map(square, [1])
    gate.touch()
    pool.join()
    assert [result.get() for result in results] == [str(gate)] * 5


@pytest.mark.mobula_only
def test_terminating_fails_what_is_not_done(tmp_path: Path) -> None:
    pool = Pool(1)
    results = [pool.apply_async(wait_for, (str(tmp_path / "never"),)) for _ in range(5)]
    pool.terminate()
    pool.join()
    for result in results:
        with pytest.raises(ray.exceptions.RayActorError):
            result.get(timeout=60)


def test_each_process_is_initialized() -> None:
    with Pool(2, initializer=set_state, initargs=(5,)) as pool:
        assert set(pool.map(state, range(10))) == {"5"}


def test_processes_are_replaced_after_so_many_calls() -> None:
    with Pool(1, maxtasksperchild=2) as pool:
        assert len(set(pool.map(lambda _: os.getpid(), range(6), chunksize=1))) == 3


@pytest.mark.mobula_only
def test_a_process_that_dies_is_replaced_and_its_chunk_fails() -> None:
    with Pool(1) as pool:
        with pytest.raises(ray.exceptions.RayActorError):
            pool.apply(lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert pool.map(square, [3]) == [9]


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=">0"):
        Pool(0)
    with pytest.raises(ValueError, match="100 processes"):
        Pool(100)
    with Pool(1) as pool, pytest.raises(TypeError):
        pool.map(square, 5)  # type: ignore[arg-type]


@pytest.mark.mobula_only
def test_it_cannot_be_pickled() -> None:
    with Pool(1) as pool, pytest.raises(NotImplementedError):
        pickle.dumps(pool)


# ---- initializers


def leave_file(folder: str, gate: str) -> None:
    Path(folder, str(os.getpid())).touch()
    wait_for(gate)


def fail_to_begin() -> None:
    raise ValueError("no beginning")


def fail_in_one(folder: str, first: str) -> None:
    Path(folder, str(os.getpid())).touch()
    try:
        os.mkdir(first)
    except FileExistsError:
        raise ValueError("no beginning") from None


def test_a_pool_is_there_when_its_initializers_have_run(tmp_path: Path) -> None:
    folder, gate = tmp_path / "begun", tmp_path / "gate"
    folder.mkdir()
    pools: list[Pool] = []

    def make() -> None:
        pools.append(Pool(2, initializer=leave_file, initargs=(str(folder), str(gate))))

    maker = threading.Thread(target=make)
    maker.start()
    wait_until(lambda: len(os.listdir(folder)) == 2, "both begin")
    assert pools == []
    gate.touch()
    maker.join()
    with pools[0] as pool:
        assert pool.map(square, [3]) == [9]


def test_an_initializer_that_raises_is_an_error_of_the_pool() -> None:
    with pytest.raises(ray.exceptions.ActorDiedError, match="no beginning"):
        Pool(2, initializer=fail_to_begin)


def test_one_initializer_that_raises_ends_all_processes(tmp_path: Path) -> None:
    folder = tmp_path / "begun"
    folder.mkdir()
    with pytest.raises(ray.exceptions.ActorDiedError, match="no beginning"):
        Pool(2, initializer=fail_in_one, initargs=(str(folder), str(tmp_path / "first")))
    pids = os.listdir(folder)
    assert len(pids) == 2
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "both end")
    with Pool(2) as pool:
        assert pool.map(square, [3]) == [9]


def test_a_process_that_is_replaced_runs_the_initializer_again() -> None:
    with Pool(1, initializer=set_state, initargs=(7,), maxtasksperchild=1) as pool:
        assert [pool.apply(state) for _ in range(3)] == ["7"] * 3
