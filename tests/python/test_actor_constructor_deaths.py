"""Actors that die in their constructor and may come back: calls wait for the first instance."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from meeting import calls, count_call, wait_for

pytestmark = pytest.mark.usefixtures("shared_session")


class Plain:
    """Dies in its first `deaths` constructors; each waits for the file `gate`, if there is one."""

    def __init__(self, file: str, deaths: int, how: str = "exit", gate: str = "") -> None:
        made = count_call(file)
        if gate:
            wait_for(gate)
        if made > deaths:
            return
        if how == "exit":
            os._exit(1)
        if how == "sys.exit":
            sys.exit(1)
        raise ValueError("no")

    def value(self, argument: str = "made") -> str:
        return argument

    def pid(self) -> int:
        return os.getpid()


class Async(Plain):
    async def later(self) -> str:
        return "made"


Actor = ray.remote(max_restarts=3)(Plain)


@ray.remote
def call(handle: Any) -> Any:
    return ray.get(handle.value.remote())


@ray.remote
def after(gate: str) -> str:
    wait_for(gate)
    return "argument"


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "made")


@pytest.fixture
def gate(tmp_path: Path) -> str:
    return str(tmp_path / "gate")


@pytest.mark.parametrize("how", ["exit", "sys.exit"])
@pytest.mark.mobula_only  # Ray does so if the death is quick.
def test_calls_made_before_wait_for_an_instance(file: str, how: str) -> None:
    actor = Actor.remote(file, 2, how)
    assert ray.get([actor.value.remote() for _ in range(3)]) == ["made"] * 3
    assert calls(file) == 3


@pytest.mark.mobula_only
def test_calls_made_between_two_constructors_wait(file: str, gate: str) -> None:
    actor = Actor.remote(file, 2, gate=gate)
    refs = [actor.value.remote()]
    Path(gate).touch()
    while calls(file) < 3:
        refs.append(actor.value.remote())
        ray.wait(refs[-1:], timeout=0.05)
    assert set(ray.get(refs)) == {"made"}


@pytest.mark.mobula_only
def test_a_call_whose_argument_comes_later_waits(file: str, gate: str) -> None:
    actor = Actor.remote(file, 2)
    ref = actor.value.remote(after.remote(gate))
    while calls(file) < 2:
        assert not ray.wait([ref], timeout=0.02)[0]
    Path(gate).touch()
    assert ray.get(ref) == "argument"


def test_another_process_that_has_a_handle_waits(file: str) -> None:
    assert ray.get(call.remote(Actor.remote(file, 2))) == "made"


def test_several_callers_wait(file: str) -> None:
    actor = Actor.remote(file, 2)
    assert ray.get([call.options(num_cpus=0.1).remote(actor) for _ in range(3)]) == ["made"] * 3


def test_calls_of_an_async_actor_wait(file: str) -> None:
    assert (
        ray.get(ray.remote(Async).options(max_restarts=2).remote(file, 2).later.remote()) == "made"
    )


def test_calls_of_an_actor_with_threads_wait(file: str) -> None:
    actor = Actor.options(max_concurrency=3).remote(file, 2)
    assert ray.get([actor.value.remote() for _ in range(3)]) == ["made"] * 3


def test_calls_of_a_concurrency_group_wait(file: str) -> None:
    kind = ray.remote(max_restarts=3, concurrency_groups={"io": 2})(Plain)
    actor = kind.remote(file, 2)
    assert ray.get(actor.value.options(concurrency_group="io").remote()) == "made"


def test_calls_of_a_detached_actor_wait(file: str) -> None:
    actor = Actor.options(name="dies_twice", lifetime="detached").remote(file, 2)
    assert ray.get(ray.get_actor("dies_twice").value.remote()) == "made"
    ray.kill(actor)


def test_calls_of_an_actor_in_a_placement_group_wait(file: str) -> None:
    group = ray.util.placement_group([{"CPU": 1}])
    strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group)
    actor = Actor.options(num_cpus=1, scheduling_strategy=strategy).remote(file, 2)
    assert ray.get(actor.value.remote()) == "made"
    ray.util.remove_placement_group(group)


def test_calls_wait_while_the_node_has_no_room_for_an_instance(file: str) -> None:
    holder = (
        ray.remote(Plain).options(num_cpus=0, resources={"slot": 1}).remote(file + ".holder", 0)
    )
    assert ray.get(holder.value.remote()) == "made"
    actor = Actor.options(num_cpus=0, resources={"slot": 1}).remote(file, 2)
    ref = actor.value.remote()
    assert not ray.wait([ref], timeout=0.05)[0]
    ray.kill(holder)
    assert ray.get(ref) == "made"
    ray.kill(actor)


def test_a_kill_in_the_first_constructor_that_allows_restarts_is_waited_out(
    file: str, gate: str
) -> None:
    actor = Actor.remote(file, 0, gate=gate)
    ref = actor.value.remote()
    assert wait_for(file)
    ray.kill(actor, no_restart=False)
    Path(gate).touch()
    assert ray.get(ref) == "made"
    assert calls(file) == 2


def test_a_kill_in_the_first_constructor_is_the_end(file: str, gate: str) -> None:
    actor = Actor.remote(file, 0, gate=gate)
    ref = actor.value.remote()
    assert wait_for(file)
    ray.kill(actor)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(ref)


def test_an_error_in_the_constructor_is_the_end_whatever_restarts_are_left(file: str) -> None:
    with pytest.raises(ray.exceptions.ActorDiedError, match="ValueError: no"):
        ray.get(Actor.remote(file, 1, "raise").value.remote())
    assert calls(file) == 1


def test_too_many_deaths_in_the_constructor_are_the_end(file: str) -> None:
    actor = Actor.options(max_restarts=1).remote(file, 9)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.value.remote())
    assert calls(file) == 2


def test_a_call_that_waits_can_be_cancelled(file: str, gate: str) -> None:
    actor = Actor.remote(file, 1, gate=gate)
    ref = actor.value.remote()
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref)
    Path(gate).touch()
    assert ray.get(actor.value.remote()) == "made"


def test_an_instance_that_was_there_is_unavailable_while_the_next_is_made(
    file: str, gate: str
) -> None:
    actor = Actor.remote(file, 0, gate=gate)
    Path(gate).touch()
    ray.get(actor.value.remote())
    Path(gate).unlink()
    ray.kill(actor, no_restart=False)
    with pytest.raises(ray.exceptions.ActorUnavailableError):
        ray.get(actor.value.remote())
    kept = actor.value.options(max_task_retries=1).remote("waits")
    Path(gate).touch()
    assert ray.get(kept) == "waits"
