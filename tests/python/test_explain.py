"""Why a task waits, said in sentences."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import conftest
import leftovers
import mobula as ray
import pytest
from mobula.util import state

pytestmark = [pytest.mark.mobula_only]


@pytest.fixture
def session(no_session: None) -> Iterator[None]:
    conftest.start(num_cpus=2, resources={"slot": 1})
    yield


@ray.remote
def until(path: str, *_: Any) -> int:
    import time

    while not os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


@ray.remote
def quick(*_: Any) -> None: ...


def expect(task: Any, *words: str) -> str:
    """Waits until the explanation has all the words."""
    said = ""

    def says() -> bool:
        nonlocal said
        said = state.explain(task)
        return all(word in said for word in words)

    try:
        leftovers.wait_until(says, f"it says {words}", 10)
    except AssertionError:
        raise AssertionError(f"it does not say {words}, but:\n{said}") from None
    return said


def test_an_environment_that_is_set_up_is_what_a_task_waits_for(
    session: None, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = tmp_path / "python.sh"
    script.write_text(f"""#!/bin/sh
while [ ! -e {gate} ]; do sleep 0.01; done
exec "{sys.executable}" "$@"
""")
    script.chmod(0o755)
    slow = quick.options(name="slow", runtime_env={"py_executable": str(script)}).remote()
    expect("slow", "its runtime environment is being set up", "python.sh")
    listed = state.list_runtime_envs()
    assert [row.success for row in listed] == [None]
    gate.touch()
    ray.get(slow)


def wait_until_running(name: str, count: int) -> None:
    def running() -> int:
        return len(state.list_tasks(filters=[("name", "=", name), ("state", "=", "RUNNING")]))

    leftovers.wait_until(lambda: running() == count, f"{count} {name} run")


def test_a_task_that_waits_for_arguments_names_them(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    first = until.options(name="first").remote(gate)
    second = quick.options(name="second").remote(first)
    third = quick.options(name="third").remote(second)
    wait_until_running("first", 1)
    said = expect(second, "waits for arguments", "first", "runs in process")
    assert str(first.task_id()) in said
    expect(third, "second", "which waits for first", "runs in process")
    Path(gate).touch()
    ray.get(third)
    expect(third, "does not wait", "FINISHED")


def test_a_task_without_resources_names_who_holds_them(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    holder = until.options(name="holder", resources={"slot": 1}).remote(gate)
    wait_until_running("holder", 1)
    waits = quick.options(name="waits", resources={"slot": 0.5}).remote()
    said = expect(waits, "asks for {CPU: 1, slot: 0.5}", "free are {slot: 0} of {slot: 1}")
    assert "are held by process" in said
    assert "which runs holder since" in said
    Path(gate).touch()
    ray.get([holder, waits])


def test_what_no_node_can_run_is_said_so(session: None, capfd: pytest.CaptureFixture[str]) -> None:
    huge = quick.options(name="huge", num_cpus=64, resources={"unheard": 1}).remote()
    said = expect(huge, "no node can ever run it", "CPU: 64")
    assert "{CPU: 2, unheard: 0}" in said
    ray.cancel(huge)


def test_many_tasks_are_told_of_together(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    running = [until.remote(gate) for _ in range(2)]
    wait_until_running("until", 2)
    queued = [quick.remote() for _ in range(1000)]
    said = expect(None, "1000 tasks quick", "asks for {CPU: 1}; free are {CPU: 0} of {CPU: 2}")
    assert said.count("quick") < 10
    assert "until" in said
    Path(gate).touch()
    ray.get(running + queued)
    expect(None, "No task waits.")


def test_a_blocked_parent_names_its_children(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    @ray.remote
    def parent() -> int:
        return ray.get(until.options(name="child").remote(gate))

    ref = parent.remote()
    wait_until_running("child", 1)
    expect(ref, "waits in get", "child", "runs in process")
    Path(gate).touch()
    ray.get(ref)


def test_an_owner_that_is_stopped_is_named(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    @ray.remote
    def owner() -> Any:
        refs = [until.options(name="own").remote(gate), quick.options(num_cpus=50).remote()]
        return ray.get(refs[0])

    ref = owner.remote()
    wait_until_running("own", 1)
    task = state.get_task(ref)
    assert task is not None
    assert task.worker_pid is not None
    leftovers.stop_process(task.worker_pid)
    try:
        expect(None, f"Process {task.worker_pid} has 2 tasks of its own, but cannot be asked")
    finally:
        os.kill(task.worker_pid, signal.SIGCONT)
    Path(gate).touch()
    ray.get(ref)


def test_by_name_by_id_and_not_at_all(session: None) -> None:
    ref = quick.options(name="known").remote()
    ray.get(ref)
    expect("known", "does not wait: it is FINISHED")
    expect(str(ref.task_id()), "known")
    expect(ref, "known")
    assert state.explain("unheard of") == "There is no task 'unheard of'."
