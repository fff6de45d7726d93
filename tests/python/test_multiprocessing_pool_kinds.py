"""What a pool promises, it promises on tasks and on actors."""

from __future__ import annotations

import gc
import itertools
import operator
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from leftovers import wait_until
from mobula.util.multiprocessing import Pool, TimeoutError

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]

ON_TASKS: dict[str, Any] = {}
ON_ACTORS: dict[str, Any] = {"maxtasksperchild": 1_000_000}


@pytest.fixture(scope="module", params=[ON_TASKS, ON_ACTORS], ids=["tasks", "actors"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def pool(shared_session: None, kind: dict[str, Any]) -> Iterator[Pool]:
    with Pool(2, **kind) as made:
        yield made


def square(x: int) -> int:
    return x * x


def wait_for_file(path: str, started: str = "") -> str:
    if started:
        Path(started).touch()
    wait_until(lambda: os.path.exists(path), path)
    return path


def divide(x: int) -> float:
    return 1 / x


def pid_of(_: Any) -> int:
    return os.getpid()


def kill_if(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def is_ref(value: Any) -> bool:
    return isinstance(value, ray.ObjectRef)


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


def raise_unpicklable(_: Any = None) -> None:
    raise Unpicklable("what happened")


# ---- maps


@pytest.mark.parametrize("chunk_size", [None, 1, 2, 7, 10_000])
def test_maps_of_any_chunk_size_give_the_same(pool: Pool, chunk_size: int | None) -> None:
    numbers = range(30)
    assert pool.map(square, numbers, chunk_size) == [x * x for x in numbers]
    pairs = [(x, 2) for x in numbers]
    assert pool.starmap(pow, pairs, chunk_size) == [x * x for x in numbers]
    assert list(pool.imap(square, numbers, chunk_size)) == [x * x for x in numbers]
    assert sorted(pool.imap_unordered(square, numbers, chunk_size)) == [x * x for x in numbers]
    assert pool.map(square, [], chunk_size) == []
    assert list(pool.imap(square, [], chunk_size)) == []


@pytest.mark.parametrize("chunk_size", [0, -1])
def test_a_chunk_has_at_least_one_call(pool: Pool, chunk_size: int) -> None:
    for call in (pool.map, pool.starmap, pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match="chunksize"):
            call(square, [(1,)], chunksize=chunk_size)  # type: ignore[operator]


@pytest.mark.parametrize("chunk_size", [1, 3])
def test_functions_that_travel_by_value_are_those_of_the_moment(
    pool: Pool, chunk_size: int
) -> None:
    seen: list[int] = []
    for count in range(5):
        assert pool.map(lambda x: x + len(seen), range(4), chunk_size) == [
            x + count for x in range(4)
        ]
        assert pool.apply(lambda: len(seen)) == count
        seen.append(count)


def test_a_function_may_hold_much_and_refs(pool: Pool) -> None:
    much = list(range(20_000))
    assert pool.map(lambda x: x + len(much), range(4), 1) == [x + 20_000 for x in range(4)]
    ref = ray.put(5)
    assert pool.map(lambda x: x + ray.get(ref), range(4), 1) == [x + 5 for x in range(4)]
    assert list(pool.imap(lambda x: x + ray.get(ref), range(4), 2)) == [x + 5 for x in range(4)]


def test_refs_among_the_arguments_stay_refs(pool: Pool) -> None:
    ref = ray.put(5)
    for _ in range(3):
        assert pool.apply(is_ref, (ref,)) and pool.apply(is_ref, (), {"value": ref})
    for chunk_size in (1, 2, None):
        assert pool.map(is_ref, [ref, 5, [ref]], chunk_size) == [True, False, False]
        assert pool.starmap(is_ref, [(ref,), (5,)], chunk_size) == [True, False]
        assert list(pool.imap(is_ref, [ref, 5], chunk_size)) == [True, False]


def test_keywords_of_any_name_reach_the_function(pool: Pool) -> None:
    for _ in range(3):
        assert pool.apply(dict, (), {"self": 1, "function": 2}) == {"self": 1, "function": 2}


# ---- errors


@pytest.mark.parametrize("chunk_size", [1, 2])
def test_imap_raises_in_the_middle_and_goes_on(pool: Pool, chunk_size: int) -> None:
    results = pool.imap(divide, [1, 0, 2, 0, 4], chunk_size)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == [0.25]
    unordered = pool.imap_unordered(divide, [1, 0, 2], chunk_size)
    found: list[Any] = []
    for _ in range(3):
        try:
            found.append(next(unordered))
        except ZeroDivisionError:
            found.append(-1.0)
    assert sorted(found) == [-1, 0.5, 1]
    with pytest.raises(StopIteration):
        next(unordered)


@pytest.mark.parametrize("chunk_size", [1, 2, 10])
def test_what_the_iterable_raises_comes_after_what_it_gave(pool: Pool, chunk_size: int) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    with pytest.raises(LookupError):
        pool.map(square, numbers(), chunk_size)
    for imap in (pool.imap, pool.imap_unordered):
        results = imap(square, numbers(), chunk_size)
        if chunk_size < 3:
            assert sorted([next(results) for _ in range(2)]) == [1, 4]
        with pytest.raises(LookupError):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


def test_all_calls_of_a_map_end_before_it_raises(pool: Pool, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    for chunk_size in (1, 2):
        Path(gate).unlink(missing_ok=True)
        result = pool.starmap_async(
            lambda x, path: divide(x) if x < 1 else wait_for_file(path),
            [(0, gate), (1, gate)],
            chunksize=chunk_size,
        )
        with pytest.raises(TimeoutError):
            result.get(timeout=0.1)
        assert not result.ready()
        Path(gate).touch()
        with pytest.raises(ZeroDivisionError):
            result.get(timeout=60)
        assert result.ready() and not result.successful()


@pytest.mark.parametrize("chunk_size", [1, 2])
def test_the_first_error_in_order_is_raised(pool: Pool, chunk_size: int) -> None:
    def fail(x: int) -> None:
        if x % 2:
            raise ValueError(x)

    with pytest.raises(ValueError, match=r"^1$"):
        pool.map(fail, range(8), chunk_size)


def test_an_error_that_cannot_travel_is_told_and_the_rest_is_not_lost(pool: Pool) -> None:
    with pytest.raises(Exception, match="what happened"):
        pool.apply(raise_unpicklable)
    for chunk_size in (1, 2):
        results = pool.imap(lambda x: raise_unpicklable() if x == 1 else x, range(3), chunk_size)
        assert next(results) == 0
        with pytest.raises(Exception, match="what happened"):
            next(results)
        assert next(results) == 2


def test_what_cannot_be_sent_fails_its_own_calls(pool: Pool) -> None:
    lock = threading.Lock()
    assert isinstance(pool.apply_async(id, (lock,))._error or error_of(pool, lock), TypeError)
    results = pool.imap(type, [1, lock, 2])
    assert next(results) is int
    with pytest.raises(TypeError):
        next(results)
    assert next(results) is int
    with pytest.raises(TypeError):
        pool.map(lambda x: (x, lock), [1, 2], 1)
    assert pool.apply(abs, (-1,)) == 1


def error_of(pool: Pool, argument: Any) -> BaseException:
    try:
        pool.apply(id, (argument,))
    except BaseException as error:
        return error
    raise AssertionError


def test_a_timeout_error_of_a_call_is_no_timeout_of_the_pool(pool: Pool) -> None:
    def late() -> None:
        raise TimeoutError("in the call")

    with pytest.raises(TimeoutError, match="in the call"):
        pool.apply(late)
    with pytest.raises(TimeoutError, match="in the call"):
        pool.map(lambda _: late(), [1, 2], 1)

    def get_late() -> None:
        raise ray.exceptions.GetTimeoutError("of another")

    with pytest.raises(ray.exceptions.GetTimeoutError, match="of another"):
        pool.apply(get_late)
    with pytest.raises(ray.exceptions.GetTimeoutError, match="of another"):
        next(pool.imap(lambda _: get_late(), [1]))


def test_a_process_that_dies_fails_its_chunk_alone(kind: dict[str, Any]) -> None:
    with Pool(1, **kind) as pool:
        for chunk_size, lost in ((1, [3]), (2, [2, 3])):
            results = pool.imap(kill_if, range(8), chunk_size)
            found: list[int | None] = []
            while True:
                try:
                    found.append(next(results))
                except ray.exceptions.RayActorError:
                    found.append(None)
                except StopIteration:
                    break
            if kind is ON_TASKS:
                assert [x for x in found if x is not None] == [x for x in range(8) if x not in lost]
            assert None in found
        with pytest.raises(ray.exceptions.RayActorError):
            pool.map(kill_if, range(8), 1)
        with pytest.raises(ray.exceptions.RayActorError):
            pool.apply(sys.exit, (3,))
        assert pool.map(square, [3]) == [9]


# ---- lazy


def test_a_huge_iterable_is_read_as_results_are_taken(pool: Pool) -> None:
    for imap in (pool.imap, pool.imap_unordered):
        read = itertools.count()
        results = imap(square, (next(read) for _ in itertools.repeat(None)))
        assert next(read) <= 8  # Four chunks a process.
        for _ in range(100):
            next(results)
        assert next(read) <= 3 * 100 + 20
        for _ in range(2000):
            next(results)
        assert next(read) <= 2100 + 1024 + 20


def test_who_takes_slowly_does_not_have_much_read(pool: Pool) -> None:
    read = itertools.count()
    results = pool.imap(square, (next(read) for _ in itertools.repeat(None)))
    for _ in range(30):
        next(results)
        time.sleep(0.003)
    assert next(read) <= 30 + 16


def test_the_iterable_may_take_results_itself(pool: Pool) -> None:
    results: Any = None
    given = list(range(9, -1, -1))

    def numbers() -> Iterator[int]:
        while given:
            yield given.pop()
        yield next(results)  # The first, which nobody has taken yet.

    results = pool.imap(lambda x: x, numbers())
    assert sorted([*results, 0]) == [0, *range(10)]


def test_results_and_values_that_were_taken_are_let_go(pool: Pool) -> None:
    class Value:
        pass

    result = pool.map_async(lambda _: Value(), range(4), 1)
    references = [weakref.ref(result), *map(weakref.ref, result.get(60))]
    gc.collect()
    assert all(reference() is not None for reference in references)
    del result
    gc.collect()
    assert not any(reference() is not None for reference in references)


def test_results_that_nobody_asks_for_are_let_go(pool: Pool) -> None:
    for _ in range(600):
        pool.apply_async(abs, (-1,))
    wait_until(lambda: not pool._results(), "all are settled", 60)


# ---- callbacks


def test_callbacks_come_in_the_order_of_the_results_and_before_ready(tmp_path: Path) -> None:
    with Pool(1) as pool:
        gate = str(tmp_path / "gate")
        called: list[Any] = []
        ready: list[bool] = []
        results: list[Any] = []

        def note(value: Any) -> None:
            ready.append(results[len(called)].ready())
            called.append(value)

        results.append(pool.apply_async(wait_for_file, (gate,), callback=note))
        results += [pool.apply_async(square, (x,), callback=note) for x in range(20)]
        results.append(pool.map_async(square, [1, 2, 3], chunksize=1, callback=note))
        Path(gate).touch()
        assert results[-1].get(60) == [1, 4, 9]
        assert called == [gate, *(x * x for x in range(20)), [1, 4, 9]]
        assert not any(ready) and all(result.ready() for result in results)


def test_a_callback_that_raises_disturbs_nothing(pool: Pool) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("in a callback")

    assert pool.apply_async(square, (3,), callback=fail).get(60) == 9
    bad = pool.apply_async(divide, (0,), callback=print, error_callback=fail)
    with pytest.raises(ZeroDivisionError):
        bad.get(60)
    called: list[Any] = []
    assert pool.map_async(square, [2], callback=called.append).get(60) == [4] == called[0]


def test_the_callback_of_an_empty_map_is_called(pool: Pool) -> None:
    called: list[Any] = []
    assert pool.map_async(square, [], callback=called.append).get(60) == []
    assert called == [[]]


def test_a_callback_may_ask_the_pool(pool: Pool) -> None:
    found: list[Any] = []

    def ask(value: int) -> None:
        found.append(pool.apply_async(square, (value,)))

    pool.apply_async(square, (3,), callback=ask).wait(60)
    assert found[0].get(60) == 81


def test_an_error_callback_gets_the_error_and_the_other_is_not_called(pool: Pool) -> None:
    values: list[Any] = []
    errors: list[BaseException] = []
    result = pool.map_async(
        divide, [1, 0], chunksize=1, callback=values.append, error_callback=errors.append
    )
    result.wait(60)
    assert values == [] and [type(error) for error in errors] == [ZeroDivisionError]


# ---- the end of pools


def test_terminating_ends_what_runs_and_fails_all_that_is_not_done(
    kind: dict[str, Any], tmp_path: Path
) -> None:
    pool = Pool(1, **kind)
    never, started = str(tmp_path / "never"), str(tmp_path / "started")
    running = pool.apply_async(wait_for_file, (never, started))
    wait_until(lambda: os.path.exists(started), "it runs", 60)
    called: list[BaseException] = []
    waiting = pool.map_async(square, range(100), 1, error_callback=called.append)
    imap = pool.imap(wait_for_file, itertools.repeat(never))
    begun = time.monotonic()
    pool.terminate()
    pool.join()
    for result in (running, waiting):
        with pytest.raises(ray.exceptions.RayActorError):
            result.get(60)
    assert len(called) == 1
    with pytest.raises(ray.exceptions.RayActorError):
        while True:
            next(imap)
    assert time.monotonic() - begun < 30
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))


def test_leaving_the_block_ends_what_an_imap_has_begun(tmp_path: Path) -> None:
    started = str(tmp_path / "started")
    with Pool(1) as pool:
        imap = pool.imap(wait_for_file, [str(tmp_path / "never")] * 3)
        running = pool.apply_async(wait_for_file, (str(tmp_path / "never"), started))
        del imap
        assert not running.ready()
    with Pool(1) as pool:
        assert pool.apply_async(square, (3,)).get(60) == 9


def test_an_imap_of_a_closed_pool_gives_all_results(kind: dict[str, Any]) -> None:
    for joins in (False, True):
        pool = Pool(2, **kind)
        read = itertools.count()
        results = pool.imap(square, (next(read) for _ in range(300)))
        pool.close()
        if joins:
            pool.join()
            assert next(read) == 300  # As in the standard library, all was done.
            read = itertools.count()
        assert list(results) == [x * x for x in range(300)]
        pool.join()


def test_joining_waits_for_what_nobody_has_asked_for(kind: dict[str, Any], tmp_path: Path) -> None:
    pool = Pool(2, **kind)
    for number in range(20):
        pool.apply_async((lambda path: Path(path).touch()), (str(tmp_path / str(number)),))
    pool.close()
    pool.join()
    assert len(os.listdir(tmp_path)) == 20


def test_never_more_calls_are_under_way_than_processes(tmp_path: Path) -> None:
    def enter_and_leave(number: int) -> int:
        (tmp_path / str(number)).touch()
        inside = len(os.listdir(tmp_path))
        time.sleep(0.002)  # Others get a chance to come in.
        (tmp_path / str(number)).unlink()
        return inside

    with Pool(1) as one, Pool(2) as two:
        assert set(one.map(enter_and_leave, range(20), 1)) == {1}
        assert max(two.map(enter_and_leave, range(100), 1)) == 2


def test_a_pool_in_a_call_of_a_pool(pool: Pool) -> None:
    def inner(x: int) -> list[int]:
        with Pool(2) as another:
            return another.map(square, range(x))

    assert pool.map(inner, range(4), 1) == [[y * y for y in range(x)] for x in range(4)]


def test_a_pool_works_while_actors_keep_all_cpus() -> None:
    @ray.remote
    class Keeper:
        def ready(self) -> None:
            pass

    cpus = int(ray.cluster_resources()["CPU"])
    keepers = [Keeper.options(num_cpus=1).remote() for _ in range(cpus)]  # type: ignore[attr-defined]
    ray.get([keeper.ready.remote() for keeper in keepers])
    with Pool(2) as pool:
        assert pool.map(square, range(10), 1) == [x * x for x in range(10)]


def test_two_threads_that_ask_get_the_same_value(pool: Pool, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    result = pool.apply_async(lambda path: [wait_for_file(path)], (gate,))
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(result.get(60))) for _ in range(2)]
    for thread in threads:
        thread.start()
    Path(gate).touch()
    for thread in threads:
        thread.join()
    assert found[0] == [gate] and found[0] is found[1]


def test_threads_that_share_an_imap_get_each_result_once(pool: Pool) -> None:
    for imap in (pool.imap, pool.imap_unordered):
        results = imap(square, range(500))
        found: list[list[int]] = [[], [], []]

        def take(into: list[int], results: Any = results) -> None:
            into.extend(results)

        threads = [threading.Thread(target=take, args=(into,)) for into in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(itertools.chain(*found)) == [x * x for x in range(500)]


def test_a_result_that_is_late_can_be_asked_for_again(pool: Pool, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    for imap in (pool.imap, pool.imap_unordered):
        Path(gate).unlink(missing_ok=True)
        results = imap(wait_for_file, [gate, gate])
        for _ in range(3):
            with pytest.raises(TimeoutError):
                results.next(timeout=0.01)
        Path(gate).touch()
        assert list(results) == [gate, gate]


def test_what_is_done_comes_before_what_is_slow(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with Pool(2) as pool:
        results = pool.imap_unordered(
            lambda x: wait_for_file(gate) if x == 0 else str(x), range(500)
        )
        first = [next(results) for _ in range(499)]
        assert sorted(map(int, first)) == list(range(1, 500))
        Path(gate).touch()
        assert list(results) == [gate]


def test_a_call_that_was_interrupted_ends_its_own_call_only(pool: Pool) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(ray.exceptions.RayError):
        pool.apply(interrupt)
    assert pool.apply(operator.neg, (1,)) == -1


def test_the_error_of_a_call_has_the_traceback_of_the_worker(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        pool.apply(divide, (0,))
    assert "in divide" in str(caught.value.__cause__)
    assert type(pickle.loads(pickle.dumps(caught.value))) is ZeroDivisionError


def test_session_and_pools_end_in_any_order() -> None:
    """A result of a pool whose session has ended is an error, not a wait."""
    program = """
import mobula, time
from mobula.util.multiprocessing import Pool
mobula.init(num_cpus=1)
pool = Pool(1)
done = pool.apply_async(abs, (-1,))
late = pool.apply_async(time.sleep, (1000,))
called = []
told = pool.apply_async(time.sleep, (1000,), error_callback=called.append)
done.wait()
mobula.shutdown()
assert done.get() == 1
for result in (late, told):
    try:
        result.get(20)
    except Exception as error:
        print(type(error).__name__)
print(len(called))
"""
    import subprocess

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.split()
    assert len(lines) == 3 and lines[2] == "1" and "TimeoutError" not in lines, ran.stdout


def test_what_an_actor_that_died_had_not_started_is_done_by_another(tmp_path: Path) -> None:
    def note(x: int) -> int:
        (tmp_path / f"{x} {os.getpid()} {time.monotonic_ns()}").touch()
        if x in (50, 120):
            os._exit(1)
        return x

    with Pool(2, **ON_ACTORS) as pool:
        pool.map(square, range(200), 1)  # It is known by now how many chunks they may have.
        told: list[BaseException] = []
        result = pool.map_async(note, range(200), 1, error_callback=told.append)
        with pytest.raises(ray.exceptions.RayActorError):
            result.get(60)
        assert [type(error) for error in told] == [type(result._error)]
        assert sorted(int(name.split()[0]) for name in os.listdir(tmp_path)) == list(range(200))
        found: list[int | None] = []
        unordered = pool.imap_unordered(note, range(100, 140))
        for _ in range(40):
            try:
                found.append(next(unordered))
            except ray.exceptions.RayActorError:
                found.append(None)
        assert set(range(100, 140)) - set(found) == {120}


def test_a_slow_call_of_an_actor_holds_up_nothing_that_another_can_do(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with Pool(2, **ON_ACTORS) as pool:
        for _ in range(3):
            results = [pool.apply_async(square, (x,)) for x in range(300)]
            slow = pool.apply_async(wait_for_file, (gate,))
            called: list[int] = []
            later = [pool.apply_async(square, (x,), callback=called.append) for x in range(300)]
            assert [result.get(60) for result in results] == [x * x for x in range(300)]
            assert [result.get(60) for result in later] == [x * x for x in range(300)]
            assert not slow.ready()
            assert sorted(called) == [x * x for x in range(300)]
            Path(gate).touch()
            assert slow.get(60) == gate
            Path(gate).unlink()
