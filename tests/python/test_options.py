"""What `remote` and `.options` accept and refuse. Needs no session."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import cloudpickle
import mobula as ray
import pytest


def plain(x: int, y: int = 1) -> int:
    """Adds."""
    return x + y


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"no_such": 1}, ValueError),
        ({"max_restarts": 1}, ValueError),  # Of actors.
        ({"num_cpus": "1"}, TypeError),
        ({"num_cpus": -1}, ValueError),
        ({"num_cpus": 0.00001}, ValueError),
        ({"num_gpus": -0.5}, ValueError),
        ({"memory": -1}, ValueError),
        ({"resources": ["slot"]}, TypeError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"resources": {"GPU": 1}}, ValueError),
        ({"resources": {"slot": -1}}, ValueError),
        ({"resources": {"slot": "x"}}, TypeError),
        ({"resources": {"slot": 0.00001}}, ValueError),
        ({"num_returns": -1}, ValueError),
        ({"num_returns": 1.5}, TypeError),
        ({"num_returns": "all"}, TypeError),
        ({"num_returns": "streaming"}, ValueError),
        ({"num_returns": "dynamic"}, ValueError),
        ({"max_retries": -2}, ValueError),
        ({"max_retries": 1.5}, TypeError),
        ({"max_calls": -1}, ValueError),
        ({"retry_exceptions": 3}, TypeError),
        ({"retry_exceptions": [int]}, ValueError),
        ({"name": 3}, TypeError),
        ({"runtime_env": 3}, TypeError),
        ({"scheduling_strategy": 3}, TypeError),
        ({"accelerator_type": 3}, TypeError),
        ({"label_selector": 3}, TypeError),
        ({"object_store_memory": 1}, ValueError),
        ({"_generator_backpressure_num_objects": 0}, ValueError),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ray.remote(**options)(plain)
    if "max_calls" not in options:
        with pytest.raises(error):
            ray.remote(plain).options(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": None},
        {"num_cpus": 0},
        {"num_cpus": 0.0001},
        {"num_cpus": 2.5, "num_gpus": 0.25},
        {"num_gpus": 3},
        {"resources": {"slot": 0.5, "other": 3}},
        {"resources": None},
        {"memory": 1e6},
        {"num_returns": 0},
        {"num_returns": None},
        {"max_retries": -1},
        {"max_retries": 0},
        {"retry_exceptions": True},
        {"retry_exceptions": [ValueError, OSError]},
        {"name": "shown"},
        {"scheduling_strategy": "SPREAD"},
        {"scheduling_strategy": "DEFAULT"},
        {"enable_task_events": False},
        {"runtime_env": None},
    ],
)
def test_what_is_accepted(options: dict[str, Any]) -> None:
    assert hasattr(ray.remote(**options)(plain), "remote")
    assert hasattr(ray.remote(plain).options(**options), "remote")


def test_an_unknown_option_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"no_such.*num_cpus.*num_returns"):
        ray.remote(plain).options(no_such=1)


def test_max_calls_is_not_for_options() -> None:
    with pytest.raises(ValueError, match="max_calls"):
        ray.remote(plain).options(max_calls=1)


@pytest.mark.parametrize("arguments", [(), (1,), (plain, plain), ("plain",)])
def test_a_misused_decorator_says_how_to_use_it(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(AssertionError, match=r"@ray\.remote|@remote"):
        ray.remote(*arguments)


def test_a_builtin_is_refused() -> None:
    with pytest.raises(TypeError):
        ray.remote(len)


def test_an_async_function_is_refused() -> None:
    async def later() -> None:
        pass

    with pytest.raises(ValueError, match=r"asyncio\.run"):
        ray.remote(later)


def test_calling_a_remote_function_directly_gives_advice() -> None:
    function = ray.remote(plain)
    with pytest.raises(TypeError, match=r"plain\.remote\(\)"):
        function(1)


@pytest.mark.mobula_only
def test_metadata_is_kept() -> None:
    function = ray.remote(num_cpus=1)(plain)
    assert function.__name__ == "plain"
    assert function.__qualname__ == "plain"
    assert function.__module__ == plain.__module__
    assert function.__doc__ == "Adds."
    assert inspect.signature(function) == inspect.signature(plain)
    assert inspect.unwrap(function) is plain
    assert "plain" in repr(function)


@pytest.mark.mobula_only
def test_a_remote_function_is_itself_after_a_round_trip() -> None:
    function = ray.remote(plain)
    assert pickle.loads(cloudpickle.dumps(function)) is function


@pytest.mark.mobula_only
def test_several_gpus_are_whole_ones() -> None:
    with pytest.raises(ValueError, match=r"2\.5"):
        ray.remote(num_gpus=2.5)(plain)
