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


# ---- calls that map() sends ahead


@ray.remote(num_cpus=0)
class Log:
    """Remembers the calls of methods, from wherever they come."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def add(self, line: Any) -> Any:
        self.lines.append(line)
        return line

    def all(self) -> list[Any]:
        return self.lines

    def add_and_wait(self, line: Any, path: str) -> Any:
        import time

        self.lines.append(line)
        while path and not Path(path).exists():
            time.sleep(0.001)
        return line


@pytest.mark.mobula_only
def test_map_keeps_order_and_state_however_many_calls_are_ahead() -> None:
    logs = [Log.remote(), Log.remote()]
    pool = ActorPool(logs)
    add = lambda log, value: log.add.remote(value)  # noqa: E731
    for _ in range(3):
        assert list(pool.map(add, range(1000))) == list(range(1000))
    assert sorted(pool.map_unordered(add, range(1000))) == list(range(1000))
    lines = ray.get([log.all.remote() for log in logs])
    assert sorted(lines[0] + lines[1]) == sorted(4 * list(range(1000)))
    assert pool._idle_actors and not pool._ahead and not pool._future_to_actor
    assert sorted(map(id, pool._idle_actors)) == sorted(map(id, logs))


@pytest.mark.mobula_only
def test_an_error_ends_a_map_and_leaves_the_pool_whole() -> None:
    pool = ActorPool([Worker.remote(), Worker.remote()])

    def call(worker: Any, value: int) -> Any:
        return worker.fail.remote(value) if value == 500 else worker.double.remote(value)

    for map_ in (pool.map, pool.map_unordered):
        with pytest.raises(ValueError, match="500"):
            list(map_(call, range(2000)))
        assert pool.has_next()
        assert list(pool.map(double, range(300))) == [2 * i for i in range(300)]
        assert len(pool._idle_actors) == 2 and not pool._ahead


def test_what_is_left_of_a_map_can_be_had_one_by_one() -> None:
    pool = ActorPool([Worker.remote(), Worker.remote()])
    results = pool.map(double, range(1000))
    taken = [next(results) for _ in range(400)]
    while pool.has_next():
        taken.append(pool.get_next())
    assert taken == [2 * i for i in range(1000)]
    assert list(results) == []
    assert len(pool._idle_actors) == 2 and pool.has_free()
    results = pool.map_unordered(double, range(1000))
    taken = [next(results) for _ in range(400)]
    taken += [pool.get_next_unordered() for _ in range(300)]
    taken += results
    assert sorted(taken) == [2 * i for i in range(1000)]
    assert len(pool._idle_actors) == 2 and pool.has_free()


@pytest.mark.mobula_only
def test_a_fast_call_never_waits_behind_a_slow_one_when_results_come_in_any_order(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    pool = ActorPool([Log.remote(), Log.remote()])

    def call(log: Any, value: int) -> Any:
        return log.add_and_wait.remote(value, str(gate) if value == 700 else "")

    results = pool.map_unordered(call, range(1000))
    taken = [next(results) for _ in range(999)]  # All but the slow one, though its actor had more.
    assert sorted(taken) == [value for value in range(1000) if value != 700]
    gate.touch()
    assert list(results) == [700]
    assert len(pool._idle_actors) == 2 and not pool._ahead


@ray.remote(num_cpus=0)
def uses(log: Any, value: int) -> int:
    """A task that wants an actor for itself."""
    for word in ("begin", "end"):
        ray.get(log.add.remote((word, value)))
    return value


def assert_one_at_a_time(lines: list[Any]) -> None:
    pairs = zip(lines[::2], lines[1::2], strict=True)
    assert all(one == ("begin", v) and two == ("end", v) for one, two in pairs for v in [one[1]])


def test_tasks_that_use_an_actor_have_it_for_themselves() -> None:
    logs = [Log.remote(), Log.remote()]
    pool = ActorPool(logs)
    assert list(pool.map(lambda log, value: uses.remote(log, value), range(200))) == [*range(200)]
    unordered = pool.map_unordered(lambda log, value: uses.remote(log, value), range(200))
    assert sorted(unordered) == [*range(200)]
    for log in logs:
        assert_one_at_a_time(ray.get(log.all.remote()))


def test_tasks_after_calls_have_an_actor_for_themselves() -> None:
    logs = [Log.remote(), Log.remote()]
    pool = ActorPool(logs)

    def call(log: Any, value: int) -> Any:
        return uses.remote(log, value) if value >= 300 else log.add.remote(value)

    assert list(pool.map(call, range(400))) == [*range(400)]
    for log in logs:
        lines = [line for line in ray.get(log.all.remote()) if isinstance(line, tuple)]
        assert_one_at_a_time(lines)


@ray.remote(num_cpus=0)
class Busy:
    """Says how many of its calls ran at the same time."""

    def __init__(self) -> None:
        import threading

        self.now = 0
        self.most = 0
        self.lock = threading.Lock()

    def call(self, value: int) -> int:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        with self.lock:
            self.now -= 1
        return value

    def largest(self) -> int:
        return self.most


def test_an_actor_with_threads_gets_one_call_at_a_time() -> None:
    actors = [Busy.options(max_concurrency=4).remote() for _ in range(2)]
    pool = ActorPool(actors)
    for map_ in (pool.map, pool.map_unordered):
        assert sorted(map_(lambda a, v: a.call.remote(v), range(300))) == [*range(300)]
    assert ray.get([actor.largest.remote() for actor in actors]) == [1, 1]


def test_an_actor_with_coroutines_gets_one_call_at_a_time() -> None:
    @ray.remote(num_cpus=0)
    class Loop:
        def __init__(self) -> None:
            self.now = 0
            self.most = 0

        async def call(self, value: int) -> int:
            import asyncio

            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            return value

        async def largest(self) -> int:
            return self.most

    actor = Loop.remote()
    pool = ActorPool([actor])
    assert list(pool.map(lambda a, v: a.call.remote(v), range(200))) == [*range(200)]
    assert ray.get(actor.largest.remote()) == 1


def test_an_actor_with_a_limit_of_pending_calls_is_not_asked_for_more() -> None:
    pool = ActorPool([Worker.options(max_pending_calls=1).remote()])
    assert list(pool.map(double, range(300))) == [2 * i for i in range(300)]


def test_slow_calls_are_not_sent_ahead(tmp_path: Path) -> None:
    pool = ActorPool([Log.remote()])

    def slow(log: Any, value: int) -> Any:
        import time

        return log.__ray_call__.remote(lambda _: time.sleep(0.005) or value)

    for number, value in enumerate(pool.map(slow, range(10))):
        assert number == value
        assert len(pool._future_to_actor) <= 1


def test_a_pool_with_the_same_actor_twice_gives_it_two_calls() -> None:
    actor = Worker.remote()
    pool = ActorPool([actor, actor])
    assert list(pool.map(double, range(200))) == [2 * i for i in range(200)]
    assert pool._idle_actors == [actor, actor]


@pytest.mark.mobula_only
def test_actors_that_are_pushed_while_a_map_runs_get_calls() -> None:
    pool = ActorPool([Log.remote()])
    results = pool.map(lambda log, value: log.add.remote(value), range(1000))
    taken = [next(results) for _ in range(200)]
    late = Log.remote()
    pool.push(late)
    assert [*taken, *results] == list(range(1000))
    assert len(ray.get(late.all.remote())) > 0
    assert len(pool._idle_actors) == 2 and not pool._ahead


@pytest.mark.mobula_only
def test_calls_with_several_returns_after_others_are_right() -> None:
    pool = ActorPool([Several.remote(), Several.remote()])

    def call(actor: Any, value: int) -> Any:
        return actor.two.remote(value) if value >= 300 else actor.two.remote(value)[0]

    expected: list[Any] = [value if value < 300 else [value, value + 1] for value in range(400)]
    assert list(pool.map(call, range(400))) == expected
    unordered = sorted(pool.map_unordered(call, range(400)), key=str)
    assert unordered == sorted(expected, key=str)


def test_a_dead_actor_fails_its_calls_and_no_others() -> None:
    actors = [Worker.remote(), Worker.remote()]
    pool = ActorPool(actors)
    results = pool.map_unordered(double, range(2000))
    taken = [next(results) for _ in range(500)]
    ray.kill(actors[0])
    with pytest.raises(ray.exceptions.RayActorError):
        for value in results:
            taken.append(value)
    assert len(set(taken)) == len(taken) and set(taken) <= {2 * i for i in range(2000)}


@pytest.mark.mobula_only
def test_a_function_that_fails_in_the_middle_leaves_the_pool_whole() -> None:
    pool = ActorPool([Worker.remote(), Worker.remote()])

    def call(worker: Any, value: int) -> Any:
        return worker.double.remote(1 // (value - 700))

    for map_ in (pool.map, pool.map_unordered):
        with pytest.raises(ZeroDivisionError):
            list(map_(call, range(1000)))
        assert list(pool.map(double, range(50))) == [2 * i for i in range(50)]
        assert len(pool._idle_actors) == 2


@pytest.mark.mobula_only
def test_a_pool_of_a_subclass_keeps_to_what_that_does() -> None:
    seen: list[int] = []

    class Pool(ActorPool):
        def submit(self, fn: Any, value: Any) -> None:
            seen.append(value)
            super().submit(fn, value)

        def _return_actor(self, actor: Any) -> None:
            assert len(self._future_to_actor) < 2
            super()._return_actor(actor)

    pool = Pool([Worker.remote(), Worker.remote()])
    assert list(pool.map(double, range(200))) == [2 * i for i in range(200)]
    assert set(seen) == set(range(200))
