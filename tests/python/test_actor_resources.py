"""What actors wait for and what they hold, on a node with one CPU that is held."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import pytest
from actor_helpers import wait_until
from conftest import AGAINST_RAY, start
from meeting import wait_for


@pytest.fixture(scope="module")
def one_cpu() -> Iterator[None]:
    ray.shutdown()
    before = leftovers.take_picture()
    start(num_cpus=1, num_gpus=1, resources={"slot": 1})
    yield
    ray.shutdown()
    if not AGAINST_RAY:
        leftovers.expect_nothing_new(before)


pytestmark = pytest.mark.usefixtures("one_cpu")


class Plain:
    def __init__(self, waits: bool = False) -> None:
        if waits:
            ray.get(nothing.remote())

    def resources(self) -> dict[str, float]:
        return dict(ray.get_runtime_context().get_assigned_resources())


@ray.remote
def nothing() -> None:
    pass


Actor = ray.remote(Plain)


@pytest.fixture
def holder() -> Iterator[Any]:
    """An actor that holds the CPU."""
    actor = Actor.options(num_cpus=1).remote()
    assert ray.get(actor.resources.remote()) == {"CPU": 1.0}
    yield actor
    ray.kill(actor)
    wait_until(lambda: ray.available_resources().get("CPU") == 1)


STARTS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "nothing": ({}, {}),
    "no CPU": ({"num_cpus": 0}, {}),
    "memory": ({"memory": 1_000_000}, {"memory": 1_000_000.0}),
    "a GPU and no CPU": ({"num_cpus": 0, "num_gpus": 1}, {"GPU": 1.0}),
    "a resource and no CPU": ({"num_cpus": 0, "resources": {"slot": 1}}, {"slot": 1.0}),
    "to be spread": ({"scheduling_strategy": "SPREAD"}, {}),
    "restarts": ({"max_restarts": 1}, {}),
    "threads": ({"max_concurrency": 4}, {}),
}


@pytest.mark.parametrize("what", STARTS)
def test_an_actor_that_keeps_no_cpu_starts_while_all_are_held(holder: Any, what: str) -> None:
    options, held = STARTS[what]
    actor = Actor.options(**options).remote() if options else Actor.remote()
    assert ray.get(actor.resources.remote(), timeout=60) == held
    ray.kill(actor)
    wait_until(lambda: ray.available_resources().get("slot") == 1)
    wait_until(lambda: ray.available_resources().get("GPU") == 1)


@pytest.mark.parametrize(
    "options",
    [{"num_cpus": 1}, {"num_cpus": 0.5}, {"num_gpus": 1}, {"resources": {"slot": 1}}],
    ids=str,
)
def test_an_actor_that_keeps_a_cpu_waits_for_one(options: dict[str, Any]) -> None:
    holder = Actor.options(num_cpus=1).remote()
    ray.get(holder.resources.remote())
    actor = Actor.options(**options).remote()
    ref = actor.resources.remote()
    assert not ray.wait([ref], timeout=0.2)[0]
    ray.kill(holder)
    assert ray.get(ref)["CPU"] == options.get("num_cpus", 1)
    ray.kill(actor)
    wait_until(lambda: ray.available_resources().get("CPU") == 1)
    wait_until(lambda: ray.available_resources().get("GPU") == 1)


def test_a_detached_actor_starts_while_all_cpus_are_held(holder: Any) -> None:
    actor = Actor.options(name="detached", lifetime="detached").remote()
    assert ray.get(actor.resources.remote(), timeout=60) == {}
    ray.kill(actor)


def test_a_task_that_holds_the_cpu_makes_an_actor_and_does_not_wait_for_it(tmp_path: Path) -> None:
    class Touches:
        def __init__(self, file: str) -> None:
            Path(file).touch()

        def ready(self) -> bool:
            return True

    @ray.remote
    def makes(file: str) -> Any:
        handle = ray.remote(Touches).remote(file)
        return wait_for(file), handle  # It waits, but Mobula does not know that.

    made, handle = ray.get(makes.remote(str(tmp_path / "made")), timeout=60)
    assert made and ray.get(handle.ready.remote())


def test_a_task_that_holds_the_cpu_goes_on_while_an_actor_is_made(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    task = ray.remote(wait_for).remote(gate)
    actor = Actor.remote()
    assert ray.get(actor.resources.remote(), timeout=60) == {}
    Path(gate).touch()
    assert ray.get(task)


def test_a_constructor_holds_no_cpu_that_others_want(tmp_path: Path) -> None:
    class Waits:
        def __init__(self, gate: str) -> None:
            Path(gate + ".started").touch()
            wait_for(gate)

        def ready(self) -> bool:
            return True

    gate = str(tmp_path / "gate")
    actor = ray.remote(Waits).remote(gate)
    assert wait_for(gate + ".started")
    wait_until(lambda: ray.available_resources().get("CPU") == 1)
    assert ray.get(nothing.remote(), timeout=60) is None
    Path(gate).touch()
    assert ray.get(actor.ready.remote())


def test_a_constructor_waits_for_a_task_that_needs_the_cpu() -> None:
    assert ray.get(Actor.remote(True).resources.remote(), timeout=60) == {}


@pytest.mark.mobula_only  # In Ray it waits for ever.
def test_a_constructor_that_has_the_cpu_lends_it_to_the_task_it_waits_for() -> None:
    actor = Actor.options(num_cpus=1).remote(True)
    assert ray.get(actor.resources.remote(), timeout=60) == {"CPU": 1.0}


def test_many_actors_that_keep_no_cpu_start_while_it_is_held(holder: Any) -> None:
    actors = [Actor.remote() for _ in range(5)]
    assert ray.get([actor.resources.remote() for actor in actors], timeout=60) == [{}] * 5


def test_an_actor_comes_back_while_the_cpu_is_held(holder: Any) -> None:
    actor = Actor.options(max_restarts=1, max_task_retries=-1).remote()
    ray.get(actor.resources.remote())
    ray.kill(actor, no_restart=False)
    assert ray.get(actor.resources.remote(), timeout=60) == {}


def test_an_actor_that_keeps_no_cpu_starts_in_a_bundle_that_is_full() -> None:
    group = ray.util.placement_group([{"CPU": 1}])
    ray.get(group.ready())
    strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)
    inside = Actor.options(scheduling_strategy=strategy)
    holder = inside.options(num_cpus=1).remote()
    assert ray.get(holder.resources.remote()) == {"CPU": 1.0}
    assert ray.get(inside.remote().resources.remote(), timeout=60) == {}
    assert ray.get(Actor.remote().resources.remote(), timeout=60) == {}
    ray.util.remove_placement_group(group)
    wait_until(lambda: ray.available_resources().get("CPU") == 1)


def test_an_actor_is_not_made_in_a_bundle_without_a_cpu() -> None:
    group = ray.util.placement_group([{"slot": 1}])
    strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)
    with pytest.raises(ValueError, match="requires 1 CPU for creation"):
        Actor.options(scheduling_strategy=strategy).remote()
    ray.util.remove_placement_group(group)


PROGRAM = """
import mobula as ray
@ray.remote
class Actor:
    def ready(self): return True
ray.init(num_cpus=0)
print(ray.get(Actor.options(num_cpus=0).remote().ready.remote()))
waits = Actor.remote().ready.remote()
print(ray.wait([waits], timeout=0.5)[0])
"""


def test_on_a_node_without_cpus_an_actor_waits_unless_it_asks_for_none(
    run_script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert run_script(PROGRAM).stdout.splitlines() == ["True", "[]"]
