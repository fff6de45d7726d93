"""ActorPool: work for whichever actor is free."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from mobula.util import ActorPool

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote(num_cpus=0)
class Worker:
    def double(self, value: int) -> int:
        return 2 * value

    def fail(self, value: int) -> None:
        raise ValueError(value)

    def wait_for(self, path: str) -> str:
        import time

        while not Path(path).exists():
            time.sleep(0.01)
        return path


def double(worker: Any, value: int) -> Any:
    return worker.double.remote(value)


def wait_for(worker: Any, path: str) -> Any:
    return worker.wait_for.remote(path)


@pytest.fixture
def make_pool() -> Callable[[int], ActorPool]:
    return lambda size: ActorPool([Worker.remote() for _ in range(size)])


def test_map_keeps_the_order(make_pool: Callable[[int], ActorPool]) -> None:
    pool = make_pool(2)
    assert list(pool.map(double, range(50))) == [2 * i for i in range(50)]
    assert list(pool.map(double, [])) == []


def test_map_unordered_gives_everything(make_pool: Callable[[int], ActorPool]) -> None:
    assert sorted(make_pool(3).map_unordered(double, range(50))) == [2 * i for i in range(50)]


def test_a_fast_result_overtakes_a_slow_one_unless_in_order(
    make_pool: Callable[[int], ActorPool], tmp_path: Path
) -> None:
    pool = make_pool(2)
    gate = tmp_path / "gate"
    pool.submit(wait_for, str(gate))
    pool.submit(double, 21)
    assert pool.get_next_unordered() == 42
    gate.touch()
    assert pool.get_next_unordered() == str(gate)


def test_nothing_submitted_is_nothing_to_get(make_pool: Callable[[int], ActorPool]) -> None:
    pool = make_pool(1)
    assert not pool.has_next()
    with pytest.raises(StopIteration, match="No more results"):
        pool.get_next()
    with pytest.raises(StopIteration, match="No more results"):
        pool.get_next_unordered()


def test_a_timeout_leaves_the_result_to_be_asked_for_again(
    make_pool: Callable[[int], ActorPool], tmp_path: Path
) -> None:
    pool = make_pool(1)
    gate = tmp_path / "gate"
    pool.submit(wait_for, str(gate))
    with pytest.raises(TimeoutError, match="Timed out waiting for result"):
        pool.get_next(timeout=0.05)
    with pytest.raises(TimeoutError):
        pool.get_next_unordered(timeout=0.05)
    assert pool.has_next()
    gate.touch()
    assert pool.get_next() == str(gate)


def test_a_call_that_is_given_up_frees_its_actor(
    make_pool: Callable[[int], ActorPool], tmp_path: Path
) -> None:
    pool = make_pool(2)
    gate = tmp_path / "gate"
    pool.submit(wait_for, str(gate))
    pool.submit(double, 1)
    with pytest.raises(TimeoutError, match="has been ignored"):
        pool.get_next(timeout=0.05, ignore_if_timedout=True)
    assert pool.get_next() == 2
    assert not pool.has_next()
    gate.touch()


def test_after_an_error_the_actor_works_on(make_pool: Callable[[int], ActorPool]) -> None:
    pool = make_pool(1)
    pool.submit(lambda worker, value: worker.fail.remote(value), 3)
    pool.submit(double, 4)
    with pytest.raises(ValueError, match="3"):
        pool.get_next()
    assert pool.get_next() == 8
    assert pool.has_free()


def test_get_next_does_not_skip_what_was_taken_out_of_order(
    make_pool: Callable[[int], ActorPool], tmp_path: Path
) -> None:
    pool = make_pool(3)
    gate = tmp_path / "gate"
    pool.submit(wait_for, str(gate))
    pool.submit(double, 1)
    assert pool.get_next_unordered() == 2
    with pytest.raises(ValueError, match="not allowed to call get_next"):
        pool.get_next()
    gate.touch()
    assert pool.get_next_unordered() == str(gate)


def test_actors_come_and_go(make_pool: Callable[[int], ActorPool]) -> None:
    pool = ActorPool([])
    pool.submit(double, 5)
    assert not pool.has_next() and not pool.has_free()
    worker = Worker.remote()
    pool.push(worker)
    assert pool.get_next() == 10
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(worker)
    assert pool.pop_idle() == worker
    assert pool.pop_idle() is None
