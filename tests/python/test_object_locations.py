"""Where values are, as programs may ask."""

from __future__ import annotations

import time
from typing import Any

import mobula as ray
import numpy as np
import pytest
from mobula.experimental import get_local_object_locations, get_object_locations

LARGE = 100_000
pytestmark = pytest.mark.mobula_only


@ray.remote
def make(length: int) -> Any:
    return np.zeros(length)


@ray.remote
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@pytest.mark.parametrize("ask", [get_object_locations, get_local_object_locations])
def test_large_values_are_on_the_node_and_small_ones_in_processes(ask: Any) -> None:
    node = ray.get_runtime_context().get_node_id()
    put, small, large = ray.put(np.zeros(LARGE)), make.remote(10), make.remote(LARGE)
    pending = sleep.remote(600)
    ray.wait([small, large], num_returns=2)
    told = ask([put, small, large, pending])
    assert list(told) == [put, small, large, pending]
    assert told[put]["node_ids"] == told[large]["node_ids"] == [node]
    assert told[small]["node_ids"] == told[pending]["node_ids"] == []
    assert told[put]["object_size"] == pytest.approx(8 * LARGE, abs=1000)
    assert told[large]["object_size"] == pytest.approx(8 * LARGE, abs=1000)
    assert 80 <= told[small]["object_size"] < 1000
    assert told[pending]["object_size"] is None
    assert not any(one["did_spill"] for one in told.values())
    ray.cancel(pending, force=True)


def test_a_task_may_ask_for_refs_that_it_was_given() -> None:
    @ray.remote
    def ask(refs: list[Any]) -> list[Any]:
        return [one["object_size"] for one in get_object_locations(refs).values()]

    (size,) = ray.get(ask.remote([ray.put(np.zeros(LARGE))]))
    assert size == pytest.approx(8 * LARGE, abs=1000)


def test_what_is_no_list_of_refs_is_refused() -> None:
    ref = ray.put(1)
    assert get_object_locations([]) == {}
    assert list(get_object_locations([ref, ref])) == [ref]
    for wrong in (ref, [1], ["text"], [ref, None]):
        with pytest.raises(TypeError, match="list of ObjectRefs"):
            get_object_locations(wrong)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_session")
def test_values_on_disk_are_told() -> None:
    ray.init(num_cpus=1, object_store_memory=80 << 20)
    refs = [ray.put(np.ones(8 << 20, np.uint8)) for _ in range(20)]
    deadline = time.monotonic() + 60
    while not any(one["did_spill"] for one in get_object_locations(refs).values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    told = get_object_locations(refs)
    assert all(one["object_size"] > 8 << 20 for one in told.values())
    assert int(ray.get(refs[0])[-1]) == 1
