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


# ---- methods that return several refs, and fields that subclasses use


@ray.remote(num_cpus=0)
class Several:
    @ray.method(num_returns=2)
    def two(self, value: Any) -> tuple[Any, Any]:
        return value, value + 1

    @ray.method(num_returns=2)
    def fail(self, value: Any) -> tuple[Any, Any]:
        raise ValueError(value)

    @ray.method(num_returns=2)
    def two_after(self, path: str) -> tuple[str, str]:
        import time

        while path and not Path(path).exists():
            time.sleep(0.01)
        return path, path


def two(actor: Any, value: Any) -> Any:
    return actor.two.remote(value)


def test_map_over_calls_with_several_returns() -> None:
    pool = ActorPool([Several.remote(), Several.remote()])
    assert list(pool.map(two, [1, 2, 3])) == [[1, 2], [2, 3], [3, 4]]
    assert list(ActorPool([Several.remote()]).map(two, [])) == []


@pytest.mark.mobula_only  # In Ray a TypeError.
def test_map_unordered_over_calls_with_several_returns() -> None:
    pool = ActorPool([Several.remote(), Several.remote()])
    assert sorted(pool.map_unordered(two, range(5))) == [[i, i + 1] for i in range(5)]


@pytest.mark.mobula_only
def test_the_next_of_several_returns_with_a_time_limit(tmp_path: Path) -> None:
    pool = ActorPool([Several.remote(), Several.remote()])
    gate = tmp_path / "gate"
    for path in (str(gate), ""):
        pool.submit(lambda actor, path: actor.two_after.remote(path), path)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01)
    assert pool.get_next_unordered(timeout=60) == ["", ""]
    with pytest.raises(TimeoutError):
        pool.get_next_unordered(timeout=0.01)
    gate.touch()
    assert pool.get_next_unordered(timeout=60) == [str(gate)] * 2
    assert not pool.has_next() and pool.has_free()


def test_an_error_of_several_returns_is_raised_and_the_actor_is_free_again() -> None:
    pool = ActorPool([Several.remote()])
    pool.submit(lambda actor, value: actor.fail.remote(value), 1)
    pool.submit(two, 5)
    with pytest.raises(ValueError, match="1"):
        pool.get_next()
    assert pool.get_next() == [5, 6]


def test_a_list_of_refs_of_several_calls_is_one_result() -> None:
    pool = ActorPool([Worker.remote()])
    calls = pool.map(lambda w, v: [w.double.remote(v), w.double.remote(v + 1)], [1, 2])
    assert list(calls) == [[2, 4], [4, 6]]


def test_fields_of_a_pool_say_what_it_does() -> None:
    pool = ActorPool([Worker.remote(), Worker.remote()])
    assert len(pool._idle_actors) == 2
    for value in range(3):
        pool.submit(double, value)
    assert pool._idle_actors == [] and pool._pending_submits == [(double, 2)]
    assert pool._next_task_index == 2 and pool._next_return_index == 0
    assert list(pool._index_to_future) == [0, 1]
    running = [pool._future_to_actor[future] for future in pool._index_to_future.values()]
    assert [number for number, _ in running] == [0, 1]
    assert all(isinstance(actor, ray.actor.ActorHandle) for _, actor in running)
    assert pool.get_next() == 0
    assert pool._pending_submits == [] and pool._next_task_index == 3
    assert list(pool._index_to_future) == [1, 2] and pool._next_return_index == 1


def test_fields_of_calls_with_several_returns() -> None:
    pool = ActorPool([Several.remote()])
    pool.submit(two, 1)
    (key,) = pool._future_to_actor
    assert isinstance(key, tuple) and list(key) == pool._index_to_future[0]
    assert pool.get_next() == [1, 2]
    assert pool._future_to_actor == {} and pool._index_to_future == {}


def test_a_subclass_takes_actors_out_and_gives_them_back() -> None:
    class Pool(ActorPool):
        def take(self) -> Any:
            return self._idle_actors.pop()

        def submit(self, fn: Any, value: Any) -> None:
            if self._idle_actors:
                actor = self._idle_actors.pop()
                future = fn(actor, value)
                self._future_to_actor[future] = (self._next_task_index, actor)
                self._index_to_future[self._next_task_index] = future
                self._next_task_index += 1
            else:
                self._pending_submits.append((fn, value))

    pool = Pool([Worker.remote()])
    actor = pool.take()
    pool.submit(double, 1)
    assert len(pool._pending_submits) == 1 and not pool.has_free()
    pool._return_actor(actor)
    assert pool._pending_submits == [] and pool._idle_actors == []
    assert pool.get_next() == 2
    assert pool._idle_actors == [actor]


def test_a_call_that_cannot_be_made_leaves_its_actor_free() -> None:
    pool = ActorPool([Worker.remote()])
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda worker, value: worker.double.remote(1 / value), 0)
    with pytest.raises(TypeError):
        pool.submit(lambda worker, value: {value}, 0)  # No ref, and no key.
    pool.submit(double, 4)
    assert pool.get_next() == 8
    assert pool.has_free()


def test_what_waits_is_a_list_to_subclasses() -> None:
    pool = ActorPool([])
    for value in range(4):
        pool.submit(double, value)
    waiting = pool._pending_submits
    assert waiting.pop(1) == (double, 1)
    assert waiting.pop() == (double, 3)
    assert waiting == [(double, 0), (double, 2)] and waiting != []
    with pytest.raises(IndexError):
        waiting.pop(2)
