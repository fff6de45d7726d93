"""Values whose bytes are lost (losing.py), and what becomes of them."""

from __future__ import annotations

import gc
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

_ITEMS = 40_000  # 320 kB: in the store.


@pytest.fixture
def session(no_session: None) -> Iterator[None]:
    ray.init(num_cpus=2, object_store_memory=256 << 20)
    yield
    ray.shutdown()


def wait_until(condition: Any, what: str) -> None:
    leftovers.wait_until(condition, what)


@ray.remote
def make(folder: Path, name: str, *arguments: Any) -> Any:
    """A large array of how often this was called under this name, and the sums of the arguments."""
    with open(folder / name, "a") as file:
        file.write("x")
        runs = file.tell()
    return np.full(_ITEMS, runs + 1000 * sum(int(argument[0]) for argument in arguments))


def runs(folder: Path, name: str) -> int:
    return len((folder / name).read_text())


def test_a_lost_result_is_made_again_by_its_task(session: None, tmp_path: Path) -> None:
    ref = make.remote(tmp_path, "a")
    assert ray.get(ref)[0] == 1
    gc.collect()
    lose(ref)
    assert ray.get(ref)[0] == 2
    assert runs(tmp_path, "a") == 2
    assert ray.get(ref)[-1] == 2  # It stays.
    assert runs(tmp_path, "a") == 2


def test_a_lost_argument_is_made_again_for_the_task_that_needs_it(
    session: None, tmp_path: Path
) -> None:
    ref = make.remote(tmp_path, "a")
    ray.wait([ref])
    lose(ref)
    assert ray.get(make.remote(tmp_path, "b", ref))[0] == 2001
    assert runs(tmp_path, "a") == 2


def test_arguments_that_nobody_holds_any_more_are_made_again_first(
    session: None, tmp_path: Path
) -> None:
    first = make.remote(tmp_path, "a")
    second = make.remote(tmp_path, "b", first)
    third = make.remote(tmp_path, "c", second)
    assert ray.get(third)[0] == 1_001_001
    gone = [first.hex(), second.hex()]
    del first, second
    wait_until(
        lambda: not any(object_exists(one) for one in gone), "the values of the arguments go"
    )
    lose(third)
    assert ray.get(third)[0] == 2_002_002
    assert [runs(tmp_path, name) for name in "abc"] == [2, 2, 2]


def test_what_is_only_needed_by_kept_tasks_takes_no_memory(session: None, tmp_path: Path) -> None:
    ref = make.remote(tmp_path, "start")
    old = []
    for step in range(10):
        old.append(ref.hex())
        ref = make.remote(tmp_path, f"step{step}", ref)
    ray.wait([ref])
    wait_until(lambda: not any(object_exists(one) for one in old), "only the last one is left")
    lose(ref)
    assert ray.get(ref) is not None
    assert runs(tmp_path, "start") == 2


def test_a_ref_inside_of_an_argument_is_there_when_its_task_runs_again(
    session: None, tmp_path: Path
) -> None:
    @ray.remote
    def use(folder: Path, box: list[Any]) -> Any:
        with open(folder / "use", "a") as file:
            file.write("x")
        return ray.get(box[0]) + 1

    inner = make.remote(tmp_path, "inner")
    outer = use.remote(tmp_path, [inner])
    assert ray.get(outer)[0] == 2
    name = inner.hex()
    del inner
    gc.collect()
    wait_until(lambda: not object_exists(name), "the inner value goes")
    lose(outer)
    assert ray.get(outer)[0] == 3
    assert runs(tmp_path, "use") == 2


def test_one_of_several_results_is_lost(session: None, tmp_path: Path) -> None:
    @ray.remote(num_returns=3)
    def three(folder: Path) -> Any:
        with open(folder / "three", "a") as file:
            file.write("x")
            run = file.tell()
        return np.full(_ITEMS, run), run, np.full(_ITEMS, run + 10)

    one, small, other = three.remote(tmp_path)
    assert [ray.get(one)[0], ray.get(small), ray.get(other)[0]] == [1, 1, 11]
    gc.collect()
    lose(other)
    assert [ray.get(one)[0], ray.get(small), ray.get(other)[0]] == [1, 1, 12]
    lose(one)
    assert [ray.get(one)[0], ray.get(small), ray.get(other)[0]] == [3, 1, 12]


def test_a_borrower_finds_a_lost_value_and_the_owner_makes_it_again(
    session: None, tmp_path: Path
) -> None:
    @ray.remote
    def read(box: list[Any]) -> int:
        return int(ray.get(box[0])[0])

    ref = make.remote(tmp_path, "a")
    assert ray.get(read.remote([ref])) == 1
    lose(ref)
    assert ray.get([read.remote([ref]) for _ in range(4)]) == [2] * 4
    assert ray.get(ref)[0] == 2
    assert runs(tmp_path, "a") == 2


def test_a_task_of_a_worker_is_run_again_by_that_worker(session: None, tmp_path: Path) -> None:
    @ray.remote
    def parent(folder: Path) -> list[Any]:
        ref = make.remote(folder, "child")
        ray.wait([ref])
        return [ref]

    [ref] = ray.get(parent.remote(tmp_path))
    assert ray.get(ref)[0] == 1
    gc.collect()
    lose(ref)
    assert ray.get(ref, timeout=60)[0] == 2


def test_a_put_value_is_not_made_again(session: None) -> None:
    ref = ray.put(np.zeros(_ITEMS))
    lose(ref)
    with pytest.raises(
        exceptions.ObjectReconstructionFailedError, match=r"made by put\(\)"
    ) as info:
        ray.get(ref)
    assert info.value.object_ref_hex == ref.hex()
    assert info.value.reason == 27 and "put()" in info.value.reason_message
    with pytest.raises(exceptions.ObjectLostError):
        ray.get(ref)


def test_retries_are_an_upper_bound(session: None, tmp_path: Path) -> None:
    ref = make.options(max_retries=1).remote(tmp_path, "a")
    ray.wait([ref])
    lose(ref)
    assert ray.get(ref)[0] == 2
    gc.collect()
    lose(ref)
    with pytest.raises(exceptions.ObjectReconstructionFailedMaxAttemptsExceededError):
        ray.get(ref)
    assert runs(tmp_path, "a") == 2


def test_without_retries_nothing_is_made_again(session: None, tmp_path: Path) -> None:
    ref = make.options(max_retries=0).remote(tmp_path, "a")
    ray.wait([ref])
    lose(ref)
    with pytest.raises(exceptions.ObjectReconstructionFailedMaxAttemptsExceededError):
        ray.get(ref)
    assert runs(tmp_path, "a") == 1


def test_a_lost_put_argument_is_the_cause_that_is_told(session: None, tmp_path: Path) -> None:
    argument = ray.put(np.ones(_ITEMS))
    ref = make.remote(tmp_path, "a", argument)
    ray.wait([ref])
    name = argument.hex()
    del argument
    wait_until(lambda: not object_exists(name), "the argument goes")
    lose(ref)
    with pytest.raises(exceptions.ObjectReconstructionFailedError):
        ray.get(ref)


def test_a_task_that_fails_when_it_runs_again_tells_why(session: None, tmp_path: Path) -> None:
    @ray.remote
    def once(folder: Path) -> Any:
        if (folder / "ran").exists():
            raise ValueError("not twice")
        (folder / "ran").touch()
        return np.zeros(_ITEMS)

    ref = once.remote(tmp_path)
    ray.wait([ref])
    lose(ref)
    with pytest.raises(ValueError, match="not twice"):
        ray.get(ref)


def test_get_of_a_lost_value_times_out(session: None, tmp_path: Path) -> None:
    @ray.remote
    def slow(folder: Path) -> Any:
        first = not (folder / "ran").exists()
        (folder / "ran").touch()
        leftovers_end = folder / "go on"
        while not first and not leftovers_end.exists():
            pass
        return np.zeros(_ITEMS)

    ref = slow.remote(tmp_path)
    ray.wait([ref])
    lose(ref)
    with pytest.raises(exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.2)
    (tmp_path / "go on").touch()
    assert ray.get(ref)[0] == 0


def test_tasks_beyond_the_cap_are_forgotten(
    no_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBULA_MAX_LINEAGE_BYTES", "4000")
    ray.init(num_cpus=2, object_store_memory=256 << 20)
    refs = []
    for i in range(20):  # One after the other: the first is the oldest.
        refs.append(make.remote(tmp_path, str(i)))
        ray.wait(refs[-1:])
    assert runtime_state()["kept_bytes"] <= 4000
    lose(refs[0])
    with pytest.raises(exceptions.ObjectReconstructionFailedLineageEvictedError) as info:
        ray.get(refs[0])
    assert info.value.reason == 13 and "MOBULA_MAX_LINEAGE_BYTES" in info.value.reason_message
    lose(refs[-1])
    assert ray.get(refs[-1])[0] == 2


def test_nothing_is_kept_once_the_results_are_gone(session: None, tmp_path: Path) -> None:
    chain = [make.remote(tmp_path, "a")]
    for name in "bcd":
        chain.append(make.remote(tmp_path, name, chain[-1]))
    ray.get(chain[-1])
    box = ray.put([chain[0], chain[2]])
    lose(chain[-1])
    ray.get(chain[-1])
    del chain, box
    gc.collect()

    def is_empty() -> bool:
        state = runtime_state()
        return not (state["objects"] or state["kept_tasks"] or state["refs"] or state["parcels"])

    wait_until(is_empty, "every table of the driver is empty")
