"""label_selector, fallback_strategy and the strategies by node, on one node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import mobula as ray
import pytest
from conftest import AGAINST_RAY
from mobula.util import scheduling_strategies as strategies


@ray.remote
def one() -> int:
    return 1


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    ray.shutdown()
    ray.init(num_cpus=2, labels={"region": "eu", "zone": "a1", "empty": ""})
    yield
    ray.shutdown()


def runs(**options: Any) -> bool:
    expected = options.pop("expected", True)
    ref = one.options(**options).remote()
    ready, _ = ray.wait([ref], timeout=10 if expected else 0.3)
    if not ready:
        ray.cancel(ref)
        return False
    return bool(ray.get(ref) == 1)


@pytest.mark.parametrize(
    "selector",
    [
        {"region": "eu"},
        {"region": "!us"},
        {"region": "in(us,eu)"},
        pytest.param({"region": "in(us, eu)"}, marks=pytest.mark.mobula_only),
        {"zone": "!in(b1,b2)", "region": "eu"},
        {"unknown": "!x"},
        {"unknown": "!in(x)"},
        {"example.com/unknown": "!x"},
        {"empty": ""},
        {},
    ],
)
def test_what_this_node_meets_runs(selector: dict[str, str]) -> None:
    assert runs(label_selector=selector)


@pytest.mark.parametrize(
    "selector",
    [
        {"region": "us"},
        {"region": "!eu"},
        {"region": "in(us)"},
        {"region": "!in(us,eu)"},
        {"region": ""},
        {"unknown": "x"},
        {"region": "eu", "zone": "a2"},
    ],
)
def test_what_it_does_not_meet_waits(selector: dict[str, str]) -> None:
    ref = one.options(label_selector=selector).remote()
    assert ray.wait([ref], timeout=0.3)[0] == []
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=10)


@pytest.mark.parametrize(
    "selector",
    [
        *({"a b": "c"}, {"": "x"}, {"-a": "b"}, {"a" * 64: "b"}, {"a/b/c": "x"}),
        *({"a": "b c"}, {"a": "x" * 64}, {"a": "!"}, {"a": "!!b"}, {"a": "b,c"}, {"a": " b"}),
        *({"a": "in(b"}, {"a": "in()"}, {"a": "!in()"}, {"a": "in(b,)"}, {"a": "in(!b)"}),
        *({"a": "in(b)c"}, {"a": "IN(b)"}, {"a": "not in(b)"}, {"a": "b\n"}),
    ],
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


def test_without_a_selector_any_node_fits_before_the_fallbacks() -> None:
    assert runs(fallback_strategy=[{"label_selector": {"region": "us"}}])
    assert runs(label_selector={"region": "us"}, fallback_strategy=[{"label_selector": {}}])
    assert runs(fallback_strategy=[])


def test_no_fallback_that_fits() -> None:
    other = [{"label_selector": {"region": "asia"}}, {"label_selector": {"zone": "b"}}]
    assert not runs(expected=False, label_selector={"region": "us"}, fallback_strategy=other)
    assert not runs(expected=False, label_selector={"region": "us"}, fallback_strategy=[])


@pytest.mark.parametrize(
    "fallback",
    [
        *(3, {}, {"num_cpus": 1}, {"label_selector": {}, "memory": 1}),
        *({"label_selector": 3}, {"label_selector": {"region": "in("}}),
    ],
)
def test_wrong_fallbacks_are_refused(fallback: Any) -> None:
    with pytest.raises(ValueError):
        one.options(fallback_strategy=[fallback]).remote()


def test_affinity_to_this_node() -> None:
    node = ray.get_runtime_context().get_node_id()
    assert runs(scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(node, soft=False))
    with pytest.raises(ValueError):
        strategies.NodeAffinitySchedulingStrategy(node, soft=False, _spill_on_unavailable=True)
    for wrong in ("no hex", "", "z" * len(node), "0x" + node[2:]):
        with pytest.raises(ValueError):
            strategies.NodeAffinitySchedulingStrategy(wrong, soft=False)


def test_affinity_to_a_node_that_does_not_exist() -> None:
    node = ray.get_runtime_context().get_node_id()
    other = "ab" * (len(node) // 2)
    assert runs(scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(other, soft=True))
    hard = one.options(
        name="hard",
        scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(other, soft=False),
    )
    for _ in range(2):
        with pytest.raises(ray.exceptions.TaskUnschedulableError, match="soft=False"):
            ray.get(hard.remote(), timeout=30)


def test_an_actor_bound_to_a_node_that_does_not_exist_says_just_that(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Bound:
        def call(self) -> None: ...

    here = ray.get_runtime_context().get_node_id()
    other = "ab" * (len(here) // 2)
    strategy = strategies.NodeAffinitySchedulingStrategy(other, soft=False)
    actor = ray.remote(Bound).options(scheduling_strategy=strategy).remote()
    with pytest.raises(ray.exceptions.ActorUnschedulableError) as caught:
        ray.get(actor.call.remote(), timeout=30)
    if not AGAINST_RAY:
        assert str(caught.value) == (
            "The actor is not schedulable: NodeAffinitySchedulingStrategy with soft=False names the "
            f"node {other}, which does not exist. There is {here}."
        )
        assert "stays pending" not in "".join(capfd.readouterr())


def test_a_generator_that_can_never_run_fails_as_its_items_do() -> None:
    @ray.remote
    def items() -> Iterator[int]:
        yield 1

    node = "ab" * (len(ray.get_runtime_context().get_node_id()) // 2)
    affinity = strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    generator = items.options(scheduling_strategy=affinity).remote()
    with pytest.raises(ray.exceptions.TaskUnschedulableError):
        ray.get(next(generator), timeout=30)
    assert list(generator) == []


def test_a_strategy_and_a_selector_must_both_fit() -> None:
    eu = strategies.NodeLabelSchedulingStrategy({"region": strategies.In("eu")})
    us = strategies.NodeLabelSchedulingStrategy({"region": strategies.In("us")})
    assert runs(scheduling_strategy=eu, label_selector={"zone": "a1"})
    assert not runs(expected=False, scheduling_strategy=eu, label_selector={"zone": "b"})
    assert not runs(expected=False, scheduling_strategy=us, label_selector={"zone": "a1"})


def test_conditions_must_be_conditions() -> None:
    for wrong in ((), (3,), (["a"],)):
        for operator in (strategies.In, strategies.NotIn):
            with pytest.raises(ValueError):
                operator(*wrong)
    for hard in (3, [], {}, {"a": 3}, {3: strategies.In("a")}):
        with pytest.raises(ValueError):
            strategies.NodeLabelSchedulingStrategy(hard)  # type: ignore[arg-type]


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
        one.options(scheduling_strategy="NOWHERE").remote()


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
