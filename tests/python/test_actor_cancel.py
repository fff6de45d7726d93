"""Cancelling calls of actors: what the method sees, what the caller gets, what becomes of children."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from actor_helpers import wait_until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def until_told(folder: str) -> str:
    """Runs until there is a file `stop`; says that it runs by a file `runs`."""
    Path(folder, "runs").touch()
    try:
        while not Path(folder, "stop").exists():
            time.sleep(0.005)
    except KeyboardInterrupt:
        Path(folder, "interrupted").touch()
        raise
    return "told"


class Parent:
    def ask(self, folder: str) -> Any:
        return ray.get(until_told.remote(folder))


class AsyncParent:
    async def ask(self, folder: str) -> Any:
        return await until_told.remote(folder)


def parent(kind: str) -> Any:
    if kind == "async":
        return ray.remote(AsyncParent).remote()
    return ray.remote(Parent).options(max_concurrency=2 if kind == "threads" else 1).remote()


@pytest.mark.parametrize("kind", ["sync", "threads", "async"])
def test_cancelling_a_call_cancels_the_tasks_that_it_submitted(tmp_path: Path, kind: str) -> None:
    actor = parent(kind)
    ref = actor.ask.remote(str(tmp_path))
    wait_until((tmp_path / "runs").exists)
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=60)
    wait_until((tmp_path / "interrupted").exists)


@pytest.mark.parametrize("kind", ["threads", "async"])
def test_tasks_of_other_calls_and_those_of_a_call_not_recursively_cancelled_go_on(
    tmp_path: Path, kind: str
) -> None:
    mine, others = tmp_path / "mine", tmp_path / "others"
    mine.mkdir()
    others.mkdir()
    actor = parent(kind)
    other = actor.ask.remote(str(others))
    ref = actor.ask.remote(str(mine))
    wait_until((mine / "runs").exists)
    wait_until((others / "runs").exists)
    ray.cancel(ref, recursive=False)
    if kind == "async":  # A thread waits for what it asked for.
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=60)
    (mine / "stop").touch()
    (others / "stop").touch()
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=60)
    assert ray.get(other, timeout=60) == "told"
    assert not (mine / "interrupted").exists()
    assert not (others / "interrupted").exists()


@ray.remote
class Stubborn:
    def __init__(self) -> None:
        self.seen = 0

    async def hold(self, folder: str) -> str:
        Path(folder, "runs").touch()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.seen += 1
        return "all the same"

    async def cancellations(self) -> int:
        return self.seen

    @ray.method(retry_exceptions=True, max_task_retries=5)
    async def again(self, folder: str) -> None:
        self.seen += 1
        Path(folder, "runs").touch()
        await until_told.remote(folder)


def test_what_a_coroutine_returns_after_its_cancellation_is_nobodys(tmp_path: Path) -> None:
    actor = Stubborn.remote()
    ref = actor.hold.remote(str(tmp_path))
    wait_until((tmp_path / "runs").exists)
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError) as caught:
        ray.get(ref, timeout=60)
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert ray.get(actor.cancellations.remote()) == 1


def test_a_cancelled_call_is_not_called_again_though_exceptions_are_retried(tmp_path: Path) -> None:
    actor = Stubborn.remote()
    ref = actor.again.remote(str(tmp_path))
    wait_until((tmp_path / "runs").exists)
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=60)
    assert ray.get(actor.cancellations.remote()) == 1


def test_force_is_refused_for_calls_and_nothing_else_changes(tmp_path: Path) -> None:
    actor = parent("sync")
    ref = actor.ask.remote(str(tmp_path))
    wait_until((tmp_path / "runs").exists)
    with pytest.raises(ValueError, match="force=True is not supported for actor tasks"):
        ray.cancel(ref, force=True)
    (tmp_path / "stop").touch()
    assert ray.get(ref, timeout=60) == "told"


@pytest.mark.mobula_only  # In Ray it may stay until the call before it is done.
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_call_that_waits_for_its_turn_is_cancelled_at_once(tmp_path: Path, kind: str) -> None:
    kinds = {"sync": Parent, "async": AsyncParent}
    actor = ray.remote(kinds[kind]).options(max_concurrency=1).remote()
    first = actor.ask.remote(str(tmp_path))
    wait_until((tmp_path / "runs").exists)
    second = actor.ask.remote(str(tmp_path / "absent"))
    ray.cancel(second)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(second, timeout=60)
    (tmp_path / "stop").touch()
    assert ray.get(first, timeout=60) == "told"
