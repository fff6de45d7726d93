"""label_selector, fallback_strategy and the strategies by node, on one node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import mobula as ray
import pytest
from mobula.util import scheduling_strategies as strategies


@ray.remote
def one() -> int:
    return 1


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    ray.shutdown()
    ray.init(num_cpus=2, labels={"region": "eu", "zone": "a1"})
    yield
    ray.shutdown()


def runs(**options: Any) -> bool:
    ref = one.options(**options).remote()
    ready, _ = ray.wait([ref], timeout=10 if options.pop("expected", True) else 0.3)
    if not ready:
        ray.cancel(ref)
        return False
    return bool(ray.get(ref) == 1)


@pytest.mark.parametrize(
    "selector",
    [
        {"region": "eu"},
        {"region": "!us"},
        {"region": "in(us, eu)"},
        {"zone": "!in(b1,b2)", "region": "eu"},
        {"unknown": "!x"},
    ],
)
def test_what_this_node_meets_runs(selector: dict[str, str]) -> None:
    assert runs(label_selector=selector)


@pytest.mark.parametrize(
    "selector", [{"region": "us"}, {"region": "!eu"}, {"region": "in(us)"}, {"unknown": "x"}]
)
def test_what_it_does_not_meet_waits(selector: dict[str, str]) -> None:
    ref = one.options(label_selector=selector).remote()
    assert ray.wait([ref], timeout=0.3)[0] == []
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=10)


@pytest.mark.parametrize(
    "selector", [{"a": "in(b"}, {"a b": "c"}, {"": "x"}, {"a": "b c"}, {"-a": "b"}, {"a": "x" * 64}]
)
def test_wrong_syntax_is_refused(selector: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="nvalid label"):
        one.options(label_selector=selector)


@pytest.mark.parametrize("selector", [{"a": 1}, {1: "a"}, ["a"], "a=b"])
def test_what_is_not_text_is_refused(selector: Any) -> None:
    with pytest.raises(TypeError):
        one.options(label_selector=selector)


def test_the_first_fallback_that_fits_is_taken() -> None:
    assert runs(
        label_selector={"region": "us"},
        fallback_strategy=[
            {"label_selector": {"region": "asia"}},
            {"label_selector": {"region": "eu"}},
        ],
    )


def test_affinity_to_this_node() -> None:
    node = ray.get_runtime_context().get_node_id()
    assert runs(scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(node, soft=False))
    other = strategies.NodeAffinitySchedulingStrategy("ab" * 4, soft=True)
    assert runs(scheduling_strategy=other)
    with pytest.raises(ValueError):
        strategies.NodeAffinitySchedulingStrategy("no hex", soft=False)


def test_conditions_on_labels() -> None:
    met = strategies.NodeLabelSchedulingStrategy(
        {"region": strategies.In("eu"), "gpu": strategies.DoesNotExist()}
    )
    assert runs(scheduling_strategy=met)
    assert runs(
        scheduling_strategy=strategies.NodeLabelSchedulingStrategy(
            {"region": strategies.Exists()}, soft={"zone": strategies.In("b")}
        )
    )
    unmet = strategies.NodeLabelSchedulingStrategy({"region": strategies.NotIn("eu")})
    ref = one.options(scheduling_strategy=unmet).remote()
    assert ray.wait([ref], timeout=0.3)[0] == []
    ray.cancel(ref)
    with pytest.raises(ValueError):
        strategies.NodeLabelSchedulingStrategy({"region": "eu"})


def test_other_strategies_are_refused() -> None:
    with pytest.raises(TypeError):
        one.options(scheduling_strategy=3)
    with pytest.raises(ValueError):
        one.options(scheduling_strategy="NOWHERE")


def test_tasks_of_tasks_know_the_labels() -> None:
    @ray.remote
    def outer() -> int:
        return int(ray.get(one.options(label_selector={"region": "eu"}).remote()))

    assert ray.get(outer.remote(), timeout=30) == 1


@pytest.mark.mobula_only
def test_what_cannot_run_may_fail_instead(run_script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBULA_INFEASIBLE", "error")
    text = """
import mobula as ray
ray.init(num_cpus=1, log_to_driver=False)

@ray.remote(num_cpus=8)
def large():
    pass

@ray.remote
def parent():
    try:
        ray.get(large.remote())
    except ray.exceptions.TaskUnschedulableError as error:
        return "child: " + str(error)

for _ in range(2):
    try:
        ray.get(large.remote())
    except ray.exceptions.TaskUnschedulableError as error:
        print("CPU" in str(error))
print("CPU" in ray.get(parent.remote()))
"""
    assert run_script(text).stdout.split() == ["True"] * 3
    assert os.environ["MOBULA_INFEASIBLE"] == "error"
