"""What libraries that run on Ray ask of a session besides tasks and actors: resources that name a node,
the group of the caller by the word "default", long lists."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import mobula as ray
import pytest
from mobula.util.placement_group import placement_group, remove_placement_group
from mobula.util.scheduling_strategies import PlacementGroupSchedulingStrategy

RunScript = Callable[..., subprocess.CompletedProcess[str]]
HEAD = "node:__internal_head__"


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    options: dict[str, Any] = {"num_cpus": 2, "include_dashboard": False}
    with ray.init(**options):
        yield


@ray.remote(num_cpus=0)
def in_group() -> bool:
    return ray.util.get_current_placement_group() is not None


@ray.remote
class Member:
    def in_group(self) -> bool:
        return ray.util.get_current_placement_group() is not None


def node_resource() -> str:
    return "node:" + ray.nodes()[0]["NodeManagerAddress"]


# ---- resources that name a node ----------------------------------------------------------------


def test_each_node_has_one_of_a_resource_with_its_address() -> None:
    names = {name for name in ray.cluster_resources() if name.startswith("node:")}
    assert names == {node_resource(), HEAD}
    assert node_resource() == "node:" + ray.util.get_node_ip_address()
    for found in (ray.cluster_resources(), ray.available_resources(), ray.nodes()[0]["Resources"]):
        assert (found[node_resource()], found[HEAD]) == (1, 1)
    assert ray._private.state.node_ids() == [node_resource()]


@pytest.mark.parametrize("name", ["address", "head"])
def test_tasks_actors_and_groups_are_pinned_to_a_node_by_it(name: str) -> None:
    pin = {node_resource() if name == "address" else HEAD: 0.001}

    @ray.remote
    def assigned() -> Any:
        return ray.get_runtime_context().get_assigned_resources()

    ref = assigned.options(num_cpus=0, resources=pin).remote()
    assert ray.get(ref, timeout=60) == pin
    actor = Member.options(num_cpus=0, resources=pin).remote()
    assert ray.get(actor.in_group.remote(), timeout=60) is False
    ray.kill(actor)
    group = placement_group([{"CPU": 1, **pin}])
    assert group.wait(60)
    remove_placement_group(group)


def test_more_of_a_node_than_there_is_waits() -> None:
    many = [in_group.options(resources={node_resource(): 0.001}).remote() for _ in range(100)]
    assert ray.get(many, timeout=60) == [False] * 100
    hopeless = in_group.options(resources={node_resource(): 2}).remote()
    other = in_group.options(resources={"node:192.0.2.77": 0.001}).remote()
    assert ray.wait([hopeless, other], timeout=0.1)[0] == []
    for ref in (hopeless, other):
        ray.cancel(ref)


@pytest.mark.mobula_only
def test_the_resource_of_the_head_is_reserved(run_script: RunScript) -> None:
    code = f"""
import mobula
try:
    mobula.init(num_cpus=1, resources={{{HEAD!r}: 2}})
except ValueError as error:
    print(error)
mobula.init(num_cpus=1, resources={{"node:127.0.0.1": 7, "node:other": 2}})
print(mobula.cluster_resources()["node:127.0.0.1"], mobula.cluster_resources()["node:other"])
"""
    assert run_script(code).stdout.splitlines() == [
        f"{HEAD} is a reserved resource name, use another name instead.",
        "1.0 2.0",
    ]


# ---- the group of the caller -------------------------------------------------------------------


def default(index: int = -1, captures: bool | None = None) -> PlacementGroupSchedulingStrategy:
    return PlacementGroupSchedulingStrategy("default", index, captures)


def outcomes(*options: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for one in options:
        try:
            found.append(ray.get(in_group.options(**one).remote()))
        except ValueError as error:
            found.append(str(error))
    return found


NOT_SET = "If placement group is not set, the value of bundle index must be -1."
WAYS: list[dict[str, Any]] = [
    {"scheduling_strategy": default()},
    {"scheduling_strategy": default(captures=False)},
    {"scheduling_strategy": default(captures=True)},
    {"scheduling_strategy": default(1)},
    {"placement_group_bundle_index": 1},
    {"placement_group_capture_child_tasks": False},
    {"placement_group_capture_child_tasks": True},
    {"scheduling_strategy": PlacementGroupSchedulingStrategy(None)},
    {},
]


def test_a_strategy_takes_the_word_default() -> None:
    assert default().placement_group == "default"
    assert outcomes(*WAYS) == [False, False, False, NOT_SET, NOT_SET, False, False, False, False]
    member = Member.options(num_cpus=0, scheduling_strategy=default()).remote()
    assert ray.get(member.in_group.remote(), timeout=60) is False


def test_default_is_the_group_of_the_caller_if_it_captures() -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 1}])

    @ray.remote(num_cpus=0)
    def ask() -> list[Any]:
        member = Member.options(num_cpus=0, scheduling_strategy=default(0)).remote()
        try:
            actor = ray.get(member.in_group.remote())
        except ValueError as error:
            actor = str(error)
        return [*outcomes(*WAYS), actor]

    def asked(captures: bool) -> list[Any]:
        strategy = PlacementGroupSchedulingStrategy(group, -1, captures)
        found: list[Any] = ray.get(ask.options(scheduling_strategy=strategy).remote(), timeout=60)
        return found

    assert asked(True) == [True, False, True, True, True, False, True, False, True, True]
    remove_placement_group(group)


def test_default_is_no_group_if_the_caller_captures_nothing() -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 1}])

    @ray.remote(num_cpus=0)
    def ask() -> list[Any]:
        return outcomes(*WAYS)

    strategy = PlacementGroupSchedulingStrategy(group, -1, False)
    assert ray.get(ask.options(scheduling_strategy=strategy).remote(), timeout=60) == [
        False,
        False,
        True,
        NOT_SET,
        NOT_SET,
        False,
        True,
        False,
        False,
    ]
    remove_placement_group(group)


@pytest.mark.mobula_only
def test_other_words_are_no_group() -> None:
    for wrong in ("other", "", 1, b"default"):
        with pytest.raises(TypeError, match="PlacementGroup"):
            PlacementGroupSchedulingStrategy(wrong)


def test_the_table_of_one_group_by_its_id() -> None:
    group = placement_group([{"CPU": 1}])
    assert group.wait(60)
    state = ray._private.state.state
    row = state.placement_group_table(group.id)
    assert row == state.placement_group_table()[group.id.hex()]
    assert row["bundles_to_node_id"] == {0: ray.nodes()[0]["NodeID"]}
    remove_placement_group(group)


# ---- long lists --------------------------------------------------------------------------------


@pytest.mark.mobula_only
@pytest.mark.parametrize(
    ("variable", "as_ray", "limit"),
    [
        ("RAY_MAX_LIMIT_FROM_API_SERVER", True, 40000),
        ("MOBULA_MAX_LIMIT_FROM_API_SERVER", True, 40000),
        ("MOBULA_MAX_LIMIT_FROM_API_SERVER", False, 40000),
        ("RAY_MAX_LIMIT_FROM_API_SERVER", False, 10000),
        ("RAY_MAX_LIMIT_FROM_DATA_SOURCE", True, 10000),
    ],
)
def test_the_limit_of_the_state_api_can_be_raised(
    monkeypatch: pytest.MonkeyPatch, variable: str, as_ray: bool, limit: int
) -> None:
    from mobula.util import state

    monkeypatch.setenv("MOBULA_AS_RAY", "1" if as_ray else "0")
    monkeypatch.setenv(variable, "40000")
    assert state.list_actors(limit=limit) is not None
    with pytest.raises(state.exception.RayStateApiException, match=f"from 0 to {limit}"):
        state.list_actors(limit=limit + 1)


@pytest.mark.mobula_only
def test_a_limit_that_is_no_number_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from mobula.util import state

    for odd in ("", "many", "-1", "1e9", "²"):
        monkeypatch.setenv("MOBULA_MAX_LIMIT_FROM_API_SERVER", odd)
        assert state.list_actors(limit=10000) is not None
        with pytest.raises(state.exception.RayStateApiException):
            state.list_actors(limit=10001)


@pytest.mark.mobula_only
def test_more_is_listed_of_what_the_node_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    from mobula.util import state

    count = 11_000
    ray.get([in_group.remote() for _ in range(count)])
    wanted = [("name", "=", "in_group")]
    assert len(state.list_tasks(filters=wanted, limit=10_000)) == 10_000
    for name in ("API_SERVER", "DATA_SOURCE"):
        monkeypatch.setenv(f"MOBULA_MAX_LIMIT_FROM_{name}", "40000")
    assert len(state.list_tasks(filters=wanted, limit=40_000)) >= count
    monkeypatch.setenv("MOBULA_MAX_LIMIT_FROM_DATA_SOURCE", "10")
    assert len(state.list_tasks(filters=wanted, limit=40_000)) == 10
