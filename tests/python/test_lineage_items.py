"""Items of generators whose bytes are lost (losing.py): their task is run again for them."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import numpy as np
import pytest
from losing import lose
from mobula import exceptions
from mobula._testing import object_exists, runtime_state

pytestmark = pytest.mark.mobula_only

_SIZE = 40_000  # 320 kB: in the store.


@pytest.fixture
def session(no_session: None) -> Iterator[None]:
    ray.init(num_cpus=2, object_store_memory=256 << 20)
    yield
    ray.shutdown()


def mark(folder: Path, name: str) -> int:
    """How often this was called with this name."""
    with open(folder / name, "a") as file:
        file.write("x")
        return file.tell()


def marks(folder: Path, name: str) -> int:
    return len((folder / name).read_text())


@ray.remote
def count(folder: Path, n: int) -> Iterator[Any]:
    run = mark(folder, "runs")
    for i in range(n):
        yield np.full(_SIZE, 1000 * run + i)


def first(ref: Any, timeout: float = 60) -> int:
    value = int(ray.get(ref, timeout=timeout)[0])
    gc.collect()
    return value


def test_a_lost_item_is_made_again_and_the_others_stay(session: None, tmp_path: Path) -> None:
    refs = list(count.remote(tmp_path, 4))
    assert [first(ref) for ref in refs] == [1000, 1001, 1002, 1003]
    lose(refs[2])
    assert [first(ref) for ref in refs] == [1000, 1001, 2002, 1003]
    lose(refs[0])
    lose(refs[3])
    assert [first(ref) for ref in refs] in (
        [3000, 1001, 2002, 3003],  # In one run,
        [3000, 1001, 2002, 4003],  # or the last one was missed too late.
    )


def test_items_in_the_middle_of_a_stream_are_not_disturbed(session: None, tmp_path: Path) -> None:
    generator = count.options(_generator_backpressure_num_objects=2).remote(tmp_path, 6)
    taken = [next(generator), next(generator)]
    lose(taken[0])
    # The first run waits for its consumer meanwhile, and goes on where it was.
    assert first(taken[0]) == 2000
    assert [first(ref) for ref in [*taken, *generator]] == [2000, 1001, 1002, 1003, 1004, 1005]
    assert marks(tmp_path, "runs") == 2


def test_an_item_that_nobody_has_taken_yet_is_made_again(session: None, tmp_path: Path) -> None:
    generator = count.remote(tmp_path, 3)
    ray.get(generator.completed())
    refs = list(generator)
    for ref in refs:
        lose(ref)
    assert [first(ref) % 1000 for ref in refs] == [0, 1, 2]


def test_a_generator_that_yields_fewer_items_is_told_of(session: None, tmp_path: Path) -> None:
    @ray.remote
    def fewer(folder: Path) -> Iterator[Any]:
        for i in range(4 - mark(folder, "runs")):
            yield np.full(_SIZE, i)

    refs = list(fewer.remote(tmp_path))
    assert len(refs) == 3
    lose(refs[2])
    with pytest.raises(exceptions.ObjectReconstructionFailedError, match="fewer items") as info:
        ray.get(refs[2])
    assert info.value.object_ref_hex == refs[2].hex()
    lose(refs[0])
    assert first(refs[0]) == 0  # The others can be made again.
    assert first(refs[1]) == 1


def test_the_error_of_a_generator_that_fails_when_it_runs_again_is_told(
    session: None, tmp_path: Path
) -> None:
    @ray.remote
    def once(folder: Path) -> Iterator[Any]:
        run = mark(folder, "runs")
        yield np.full(_SIZE, run)
        if run > 1:
            raise ValueError("not twice")
        yield np.full(_SIZE, run)
        yield np.full(_SIZE, run)

    refs = list(once.remote(tmp_path))
    for ref in refs:
        lose(ref)
    for ref in refs[1:]:
        with pytest.raises(ValueError, match="not twice"):
            ray.get(ref)


def test_items_before_an_error_are_made_again(session: None, tmp_path: Path) -> None:
    @ray.remote
    def fails(folder: Path) -> Iterator[Any]:
        yield np.full(_SIZE, mark(folder, "runs"))
        raise KeyError("the end")

    item, error = fails.remote(tmp_path)
    with pytest.raises(KeyError):
        ray.get(error)
    lose(item)
    assert first(item) == 2
    with pytest.raises(KeyError):
        ray.get(error)


def test_an_item_that_is_small_this_time_is_taken(session: None, tmp_path: Path) -> None:
    @ray.remote
    def shrinks(folder: Path) -> Iterator[Any]:
        yield np.full(_SIZE if mark(folder, "runs") == 1 else 3, 7)

    [item] = shrinks.remote(tmp_path)
    lose(item)
    assert ray.get(item).shape == (3,)


def test_a_lost_item_of_a_chain_is_made_again_with_what_it_needs(
    session: None, tmp_path: Path
) -> None:
    @ray.remote
    def start(folder: Path) -> Any:
        return np.full(_SIZE, mark(folder, "start"))

    @ray.remote
    def scaled(folder: Path, array: Any) -> Iterator[Any]:
        mark(folder, "scaled")
        for i in range(3):
            yield array * 10**i

    @ray.remote
    def total(folder: Path, *arrays: Any) -> Any:
        mark(folder, "total")
        return sum(arrays)

    origin = start.remote(tmp_path)
    items = list(scaled.remote(tmp_path, origin))
    result = total.remote(tmp_path, *items)
    assert first(result) == 111
    names = [ref.hex() for ref in (origin, *items)]
    del origin, items
    gc.collect()
    leftovers.wait_until(
        lambda: not any(object_exists(name) for name in names), "only the result is left"
    )
    lose(result)
    assert first(result) == 222
    assert [marks(tmp_path, name) for name in ("start", "scaled", "total")] == [2, 2, 2]


def test_a_crash_in_the_middle_of_making_an_item_again_costs_one_more_run(
    session: None, tmp_path: Path
) -> None:
    @ray.remote(max_retries=3)
    def dies(folder: Path) -> Iterator[Any]:
        run = mark(folder, "runs")
        yield np.full(_SIZE, 1000 * run)
        if run == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield np.full(_SIZE, 1000 * run + 1)

    refs = list(dies.remote(tmp_path))
    lose(refs[0])
    lose(refs[1])
    assert ray.get(refs[1], timeout=60)[0] == 3001
    assert ray.get(refs[0], timeout=60)[0] in (2000, 4000)


def test_retries_are_an_upper_bound(session: None, tmp_path: Path) -> None:
    [one, two] = count.options(max_retries=1).remote(tmp_path, 2)
    lose(one)
    assert first(one) == 2000
    lose(one)
    lose(two)
    for ref in (one, two):
        with pytest.raises(exceptions.ObjectReconstructionFailedMaxAttemptsExceededError):
            ray.get(ref)
    [item] = count.options(max_retries=0).remote(tmp_path, 1)
    lose(item)
    with pytest.raises(exceptions.ObjectReconstructionFailedMaxAttemptsExceededError):
        ray.get(item)
    assert marks(tmp_path, "runs") == 3


def test_a_crash_without_retries_in_the_middle_is_told_of(session: None, tmp_path: Path) -> None:
    @ray.remote(max_retries=1)
    def dies(folder: Path) -> Iterator[Any]:
        if mark(folder, "runs") == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield np.zeros(_SIZE)

    [item] = dies.remote(tmp_path)
    lose(item)
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(item)


def test_a_borrower_finds_a_lost_item_and_the_owner_makes_it_again(
    session: None, tmp_path: Path
) -> None:
    @ray.remote
    def read(box: list[Any]) -> int:
        return int(ray.get(box[0])[0])

    refs = list(count.remote(tmp_path, 2))
    assert ray.get([read.remote([ref]) for ref in refs]) == [1000, 1001]
    lose(refs[1])
    assert ray.get([read.remote([refs[1]]) for _ in range(4)]) == [2001] * 4
    assert first(refs[1]) == 2001


def test_items_of_an_actor_are_not_made_again(session: None) -> None:
    @ray.remote
    class Counter:
        def count(self, n: int) -> Iterator[Any]:
            for i in range(n):
                yield np.full(_SIZE, i)

    counter = Counter.remote()
    [item] = counter.count.remote(1)
    lose(item)
    with pytest.raises(exceptions.ObjectReconstructionFailedError, match="method of an actor"):
        ray.get(item)


def test_items_of_a_cancelled_generator_are_not_made_again(session: None, tmp_path: Path) -> None:
    generator = count.options(_generator_backpressure_num_objects=1).remote(tmp_path, 100_000)
    item = next(generator)
    ray.cancel(generator)  # It may yield some more before it learns that.
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in generator:
            ray.get(ref)
    lose(item)
    with pytest.raises(exceptions.ObjectReconstructionFailedError, match="was cancelled"):
        ray.get(item)


def test_generators_beyond_the_cap_are_forgotten(
    no_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBULA_MAX_LINEAGE_BYTES", "3000")
    ray.init(num_cpus=2, object_store_memory=256 << 20)
    old = list(count.remote(tmp_path, 2))
    more = list(count.remote(tmp_path, 30))
    assert runtime_state()["kept_bytes"] <= 3000
    for ref in (old[0], more[-1]):
        lose(ref)
        with pytest.raises(exceptions.ObjectReconstructionFailedLineageEvictedError):
            ray.get(ref)
    lose(more[0])
    assert first(more[0]) % 1000 == 0
    ray.shutdown()


def test_nothing_is_kept_once_the_items_are_gone(session: None, tmp_path: Path) -> None:
    refs = list(count.remote(tmp_path, 3))
    generator = count.remote(tmp_path, 3)
    some = [next(generator)]
    del generator
    box = ray.put([refs[1]])
    for ref in (refs[0], refs[1], some[0]):
        lose(ref)
        first(ref)
    del refs, some, box, ref
    gc.collect()

    def is_empty() -> bool:
        state = runtime_state()
        return not (state["objects"] or state["kept_tasks"] or state["refs"] or state["parcels"])

    leftovers.wait_until(is_empty, "every table of the driver is empty")
