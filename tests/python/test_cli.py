"""The command `mobula`: a session that programs share, as its user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import leftovers
import mobula as ray
import pytest
from conftest import start

pytestmark = pytest.mark.mobula_only

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def mobula() -> Iterator[Command]:
    """Runs `mobula` with these words. Nothing of a session is left at the end."""
    ray.shutdown()
    before = leftovers.take_picture()

    def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "mobula", *words], capture_output=True, text=True, timeout=120
        )
        assert result.returncode == status, result.stdout + result.stderr
        return result

    yield run
    ray.shutdown()
    run("stop", "--force")
    leftovers.expect_nothing_new(before)


@ray.remote
def pid_of_worker() -> int:
    return os.getpid()


def test_a_program_joins_the_session_of_start(mobula: Command) -> None:
    out = mobula(
        "start", "--head", "--num-cpus=3", '--resources={"slot": 2}', "--labels=zone=a"
    ).stdout
    context = ray.init()
    assert context.address_info["address"] in out
    assert ray.cluster_resources()["CPU"] == 3
    assert ray.cluster_resources()["slot"] == 2
    assert ray.nodes()[0]["Labels"]["zone"] == "a"
    assert ray.get(pid_of_worker.remote()) != os.getpid()
    ray.shutdown()
    assert context.address_info["address"] in mobula("status").stdout


def test_start_twice_is_refused_and_changes_nothing(mobula: Command) -> None:
    mobula("start", "--num-cpus=1")
    before = json.loads(mobula("status", "--json").stdout)
    refusal = mobula("start", status=1)
    assert before[0]["name"] in refusal.stderr and "mobula stop" in refusal.stderr
    after = json.loads(mobula("status", "--json").stdout)
    assert [s["pid"] for s in after] == [s["pid"] for s in before]


def test_stop_leaves_the_sessions_of_programs_alone(mobula: Command) -> None:
    start(address="local")
    assert "No session to stop." in mobula("stop").stdout
    assert ray.get(pid_of_worker.remote()) != os.getpid()
    (state,) = json.loads(mobula("status", "--json").stdout)
    assert state["kind"] == "private"
    assert state["total"]["CPU"] == 2


def test_status_without_a_session_says_so(mobula: Command) -> None:
    assert "no Mobula session is running" in mobula("status", status=1).stderr


def test_help_names_every_command(mobula: Command) -> None:
    text = mobula("--help").stdout
    for command in ("start", "stop", "status", "version"):
        assert f"\n    {command} " in text
        assert "usage: mobula" in mobula(command, "--help").stdout or command == "version"
    assert "usage: mobula" in mobula(status=2).stdout
    mobula("no-such-command", status=2)
