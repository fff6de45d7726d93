"""dask graphs on Mobula."""

from __future__ import annotations

import os
from typing import Any

import mobula as ray
import pytest

dask = pytest.importorskip("dask")

from mobula.util.dask import (  # noqa: E402
    RayDaskCallback,
    disable_dask_on_ray,
    enable_dask_on_ray,
    ray_dask_get,
    ray_dask_get_sync,
    ray_dask_persist,
)

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]


@dask.delayed
def increment(x: int) -> int:
    return x + 1


@dask.delayed
def add(x: int, y: int) -> int:
    return x + y


@dask.delayed
def pid() -> int:
    return os.getpid()


@dask.delayed
def fail() -> None:
    raise KeyError("missing")


def test_nodes_run_in_workers() -> None:
    assert pid().compute(scheduler=ray_dask_get) != os.getpid()
    assert pid().compute(scheduler=ray_dask_get_sync) == os.getpid()


def test_a_graph_gives_what_dask_itself_gives() -> None:
    graph = add(increment(1), increment(increment(2)))
    total = dask.delayed(sum)([increment(i) for i in range(100)])
    with enable_dask_on_ray():
        assert dask.compute(graph, total, 5) == (6, 5050, 5)


def test_an_error_is_the_one_that_was_raised() -> None:
    with enable_dask_on_ray(), pytest.raises(KeyError, match="missing"):
        increment(fail()).compute()


def test_a_key_that_many_use_and_an_alias_are_computed_once() -> None:
    graph = {"a": 1, "b": (increment_plainly, "a"), "c": "b", "d": (sum, ["a", "b", "c"])}
    assert ray_dask_get(graph, ["d", ["c", "a"]]) == [5, [2, 1]]


def increment_plainly(x: int) -> int:
    return x + 1


def test_what_is_persisted_is_refs() -> None:
    graph = {"a": (increment_plainly, 1), "b": (increment_plainly, "a")}
    ref = ray_dask_get(graph, "b", ray_persist=True)
    assert isinstance(ref, ray.ObjectRef)
    assert ray.get(ref) == 3


def test_enabling_and_disabling_is_a_setting() -> None:
    enable_dask_on_ray()
    try:
        assert dask.config.get("scheduler") is ray_dask_get
    finally:
        disable_dask_on_ray()
    assert dask.config.get("scheduler") is None


def test_a_data_frame_is_grouped_merged_and_sorted() -> None:
    pandas = pytest.importorskip("pandas")
    frames = pytest.importorskip("dask.dataframe")
    plain = pandas.DataFrame({"key": [i % 7 for i in range(1000)], "value": range(1000)})
    parts = frames.from_pandas(plain, npartitions=5)
    with enable_dask_on_ray():
        assert parts.groupby("key").value.mean().compute().equals(plain.groupby("key").value.mean())
        assert len(parts.merge(parts, on="key").compute()) == len(plain.merge(plain, on="key"))
        assert list(parts.sort_values("key").key.compute()) == sorted(plain.key)


@ray.remote(num_cpus=0)
class Notes:
    def __init__(self) -> None:
        self.all: list[Any] = []

    def add(self, note: Any) -> None:
        self.all.append(note)

    def read(self) -> list[Any]:
        return self.all


class Told(RayDaskCallback):
    def __init__(self, notes: Any) -> None:
        super().__init__()
        self.notes = notes
        self.here: list[Any] = []

    def _ray_presubmit(self, task: Any, key: Any, deps: Any) -> Any:
        self.here.append(("submit", key, len(deps)))
        return 100 if key == "cached" else None

    def _ray_postsubmit(self, task: Any, key: Any, deps: Any, object_ref: Any) -> None:
        self.here.append(("submitted", key, isinstance(object_ref, ray.ObjectRef)))

    def _ray_pretask(self, key: Any, object_refs: Any) -> int:
        return os.getpid()

    def _ray_posttask(self, key: Any, result: Any, pre_state: Any) -> None:
        ray.get(self.notes.add.remote((key, result, pre_state == os.getpid())))

    def _ray_postsubmit_all(self, object_refs: Any, dsk: Any) -> None:
        self.here.append(("all", len(object_refs)))

    def _ray_finish(self, result: Any) -> None:
        self.here.append(("finish", result))


def test_callbacks_are_told_of_what_is_submitted_run_and_done() -> None:
    notes = Notes.remote()
    graph = {"cached": (increment_plainly, 1), "b": (increment_plainly, "cached")}
    told = Told(notes)
    with told:
        assert ray_dask_get(graph, ["b"]) == [101]
    assert told.here == [
        ("submit", "cached", 0),
        ("submit", "b", 1),
        ("submitted", "b", True),
        ("all", 1),
        ("finish", [101]),
    ]
    assert ray.get(notes.read.remote()) == [("b", 101, True)]
    assert ray_dask_get(graph, ["b"]) == [3]
    assert len(told.here) == 5
    given: list[Any] = []
    finish = RayDaskCallback(ray_finish=given.append)
    assert ray_dask_get(graph, "b", ray_callbacks=[finish]) == 3
    assert given == [3]
    with pytest.raises(TypeError, match="ray_finnish"):
        RayDaskCallback(ray_finnish=given.append)


def test_persisted_values_are_computed_on_by_their_refs() -> None:
    with enable_dask_on_ray(use_shuffle_optimization=False):
        (kept,) = ray_dask_persist(increment(1))
        assert any(isinstance(value, ray.ObjectRef) for value in kept.dask.values()) or any(
            isinstance(getattr(value, "value", None), ray.ObjectRef) for value in kept.dask.values()
        )
        assert increment(kept).compute() == 3
