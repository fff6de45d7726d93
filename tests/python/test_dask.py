"""dask graphs on Mobula."""

from __future__ import annotations

import os

import mobula as ray
import pytest

dask = pytest.importorskip("dask")

from mobula.util.dask import (  # noqa: E402
    disable_dask_on_ray,
    enable_dask_on_ray,
    ray_dask_get,
    ray_dask_get_sync,
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
