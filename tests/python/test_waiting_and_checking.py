"""mobula.util: results as they come, serializers, what cannot be serialized."""

from __future__ import annotations

import io
import itertools
import os
import threading
from pathlib import Path
from typing import Any

import mobula as ray
import numpy as np
import pytest
from mobula import util

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def double(value: int) -> int:
    return 2 * value


@ray.remote
def hold(path: str) -> str:
    while not os.path.exists(path):
        pass
    return "held"


def test_as_completed_gives_the_first_first(tmp_path: Path) -> None:
    slow = hold.remote(str(tmp_path / "go"))
    values = util.as_completed([slow, double.remote(1), double.remote(2)])
    assert {next(values), next(values)} == {2, 4}
    (tmp_path / "go").touch()
    assert list(values) == ["held"]


def test_as_completed_gives_refs_if_asked() -> None:
    refs = [double.remote(i) for i in range(25)]
    assert set(util.as_completed(refs, yield_obj_refs=True, chunk_size=4)) == set(refs)


def test_as_completed_raises_at_its_turn() -> None:
    @ray.remote
    def fails() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        list(util.as_completed([fails.remote()]))


@pytest.mark.parametrize("wrong", [{"chunk_size": 0}, {"unknown": 1}])
def test_as_completed_checks_what_it_is_given(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        util.as_completed([double.remote(1)], **wrong)


def test_map_unordered_gives_all() -> None:
    assert sorted(util.map_unordered(double, range(250))) == [2 * i for i in range(250)]


def test_map_unordered_reads_no_more_than_it_may(tmp_path: Path) -> None:
    taken: list[int] = []

    def endless() -> Any:
        for i in itertools.count():
            taken.append(i)
            yield i

    values = util.map_unordered(double, endless(), backpressure_size=5, chunk_size=1)
    first = [next(values) for _ in range(10)]
    assert len(first) == 10 and len(taken) <= 10 + 5


def test_map_unordered_checks_what_it_is_given() -> None:
    with pytest.raises(ValueError):
        util.map_unordered(double, [1], backpressure_size=0)
    with pytest.raises(TypeError):
        util.map_unordered(len, [1])


def test_a_serializer_of_the_users_own() -> None:
    class Guarded:
        def __init__(self, value: int) -> None:
            self.value = value
            self.lock = threading.Lock()

    with pytest.raises(TypeError):
        ray.put(Guarded(1))
    util.register_serializer(Guarded, serializer=lambda g: g.value, deserializer=Guarded)
    try:
        assert ray.get(ray.put(Guarded(7))).value == 7

        @ray.remote
        def look(guarded: Any) -> int:
            return int(guarded.value)

        assert ray.get(look.remote(Guarded(8))) == 8
    finally:
        util.deregister_serializer(Guarded)
    with pytest.raises(TypeError):
        ray.put(Guarded(1))
    util.deregister_serializer(Guarded)


def test_what_cannot_be_serialized_is_found() -> None:
    lock = threading.Lock()

    def uses_it() -> Any:
        return lock

    said = io.StringIO()
    fine, nothing = util.inspect_serializability([1, 2], print_file=said)
    assert fine and nothing == set()
    assert "Checking Serializability of [1, 2]" in said.getvalue()
    fine, failures = util.inspect_serializability(uses_it, name="uses_it", print_file=said)
    assert not fine
    assert [(f.obj, f.path, f.parent) for f in failures] == [(lock, ("uses_it", "lock"), uses_it)]
    assert "!!! FAIL serialization: cannot pickle '_thread.lock' object" in said.getvalue()
    _, failures = util.inspect_serializability(lock, print_file=said)
    assert [(f.obj, f.path, f.parent) for f in failures] == [(lock, (), None)]


def test_log_once() -> None:
    assert util.log_once("a key of this test")
    assert not util.log_once("a key of this test")


def test_a_function_that_drags_in_too_much_is_refused() -> None:
    ballast = np.zeros(13_000_000)

    @ray.remote
    def heavy() -> float:
        return float(ballast.sum())

    with pytest.raises(ValueError, match="ballast"):
        heavy.remote()


def test_remote_with_arguments_as_containers() -> None:
    @ray.remote
    def join(a: str, *, b: str) -> str:
        return a + b

    assert ray.get(join._remote(("x",), {"b": "y"})) == "xy"
    assert ray.get(join._remote(args=["x"], kwargs={"b": "y"}, num_cpus=0.5)) == "xy"
    first, second = (
        double.options(num_cpus=1)._remote(args=(1,), num_returns=2, max_retries=0),
        double._remote((3,)),
    )
    assert len(first) == 2 and ray.get(second) == 6
