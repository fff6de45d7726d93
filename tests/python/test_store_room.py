"""More is wanted in memory at a time than the store holds: tasks wait for each other, and all end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mobula as ray
import numpy as np
import pytest
from mobula import exceptions

pytestmark = pytest.mark.mobula_only

MIB = 1 << 20


@pytest.fixture(autouse=True)
def session(tmp_path: Path) -> Iterator[None]:
    ray.init(num_cpus=4, object_store_memory=100 * MIB, object_spilling_directory=str(tmp_path))
    yield
    ray.shutdown()


def values(count: int, size: int) -> list[Any]:
    return [ray.put(np.full(size, seed, dtype="u1")) for seed in range(count)]


def test_tasks_that_work_longer_than_the_store_waits_delay_others_and_nothing_more() -> None:
    refs = values(6, 30 * MIB)

    @ray.remote
    def work(array: np.ndarray[Any, Any]) -> int:
        time.sleep(7)
        return int(array[0])

    @ray.remote
    def fetch_and_work(inside: list[Any]) -> int:
        array = ray.get(inside[0])
        time.sleep(7)
        return int(array[-1])

    calls = [work.remote(ref) for ref in refs[:4]] + [fetch_and_work.remote([r]) for r in refs[4:]]
    assert ray.get(calls) == [0, 1, 2, 3, 4, 5]


def test_tasks_with_several_arguments_do_not_wait_for_each_other_for_ever() -> None:
    refs = values(8, 40 * MIB)

    @ray.remote
    def add(one: np.ndarray[Any, Any], *, two: np.ndarray[Any, Any]) -> int:
        return int(one[0]) + int(two[-1])

    for _ in range(2):
        calls = [add.remote(refs[i], two=refs[i + 1]) for i in range(0, 8, 2)]
        assert ray.get(calls) == [1, 5, 9, 13]


def test_arguments_that_do_not_fit_together_are_an_error() -> None:
    refs = values(3, 40 * MIB)

    @ray.remote
    def take(*arrays: np.ndarray[Any, Any]) -> int:
        return len(arrays)

    with pytest.raises(exceptions.ObjectStoreFullError, match="looks at"):
        ray.get(take.remote(*refs))
    assert ray.get(take.remote(*refs[:2])) == 2
