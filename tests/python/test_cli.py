"""The command `mobula`: a session that programs share, as its user sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

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


def test_of_several_starts_at_once_one_succeeds(mobula: Command) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "mobula", "start", "--num-cpus=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    outcomes = [(process.communicate(timeout=120), process.returncode) for process in started]
    assert sorted(status for _, status in outcomes) == [0, 1, 1, 1, 1]
    assert all("session mobula-node-" in error for (_, error), status in outcomes if status)
    assert len(json.loads(mobula("status", "--json").stdout)) == 1


DRIVER = """
import sys, time
import mobula as ray
ray.init()

@ray.remote(num_cpus=0, max_retries=0)
def hang():
    time.sleep(1000)

ref = hang.remote()
print("ready", flush=True)
try:
    ray.get(ref)
except ray.exceptions.RayError as error:
    print(type(error).__name__, error)
"""


def test_stop_tells_the_drivers_why(
    mobula: Command, start_script: Callable[..., subprocess.Popen[str]]
) -> None:
    mobula("start", "--num-cpus=2")
    drivers = [start_script(DRIVER) for _ in range(2)]
    for driver in drivers:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
    assert "Stopped the session" in mobula("stop").stdout
    for driver in drivers:
        out, error = driver.communicate(timeout=60)
        assert "told to end (SIGTERM)" in out, error
        assert driver.returncode == 0
    assert "no Mobula session is running" in mobula("status", status=1).stderr


@pytest.mark.parametrize("words", [("--force",), ("--grace-period", "0.1")])
def test_a_stopped_daemon_is_killed_when_its_time_is_over(
    mobula: Command, words: tuple[str, ...]
) -> None:
    mobula("start", "--num-cpus=1")
    (state,) = json.loads(mobula("status", "--json").stdout)
    os.kill(state["pid"], signal.SIGSTOP)
    assert "Killed the session" in mobula("stop", *words).stdout
    assert not os.path.exists(state["address"].removeprefix("unix:"))


def test_a_daemon_that_does_not_answer_is_shown_as_such(mobula: Command) -> None:
    mobula("start", "--num-cpus=1")
    (state,) = json.loads(mobula("status", "--json").stdout)
    os.kill(state["pid"], signal.SIGSTOP)
    try:
        assert "does not answer" in mobula("status", status=1).stdout
    finally:
        os.kill(state["pid"], signal.SIGCONT)
    mobula("status")


@pytest.fixture
def blocking(mobula: Command) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "mobula", "start", "--num-cpus=1", "--block"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "Ctrl-C" not in process.stdout.readline():
        pass
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_session_in_the_foreground(
    mobula: Command, blocking: subprocess.Popen[str], number: int
) -> None:
    blocking.send_signal(number)
    out, _ = blocking.communicate(timeout=60)
    assert "has ended" in out
    assert blocking.returncode == 0
    mobula("status", status=1)


def test_a_foreground_session_that_dies_is_a_failure(
    mobula: Command, blocking: subprocess.Popen[str]
) -> None:
    (state,) = json.loads(mobula("status", "--json").stdout)
    os.kill(state["pid"], signal.SIGKILL)
    _, error = blocking.communicate(timeout=60)
    assert "SIGKILL" in error
    assert blocking.returncode == 1


def test_the_session_outlives_the_shell_that_started_it(mobula: Command) -> None:
    command = f"{sys.executable} -m mobula start --num-cpus=1; kill -HUP $$"
    subprocess.run(["setsid", "sh", "-c", command], capture_output=True, timeout=120)
    (state,) = json.loads(mobula("status", "--json").stdout)
    assert os.getsid(state["pid"]) == state["pid"]
    assert os.readlink(f"/proc/{state['pid']}/cwd") == "/"


def test_a_temp_dir_holds_the_session_and_stop_finds_it(mobula: Command, tmp_path: Path) -> None:
    mobula("start", "--num-cpus=1", f"--temp-dir={tmp_path}/deep/er")
    context = ray.init()
    assert context.address_info["session_dir"].startswith(str(tmp_path))
    ray.shutdown()
    mobula("stop")
    assert list((tmp_path / "deep/er").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--resources=5",), "--resources must be a JSON object"),
        (("--resources={",), "--resources must be a JSON object"),
        (('--resources={"CPU": 1}',), "num_cpus"),
        (("--num-cpus=-1",), "negative"),
        (("--labels=nonsense",), "--labels"),
        (("--object-store-memory=1",), "minimum allowed"),
        (("--address=127.0.0.1:6379",), "not supported yet"),
    ],
)
def test_wrong_options_are_refused(mobula: Command, words: tuple[str, ...], says: str) -> None:
    assert says in mobula("start", *words, status=1).stderr
    mobula("status", status=1)


def test_a_program_that_says_import_ray_finds_it_by_rays_variable(mobula: Command) -> None:
    mobula("start", "--num-cpus=1")
    (state,) = json.loads(mobula("status", "--json").stdout)
    code = "import ray; print(ray.init().address_info['address'])"
    for variable in ("RAY_ADDRESS", "MOBULA_ADDRESS"):
        done = subprocess.run(
            [sys.executable, "-m", "mobula.ray", "-c", code],
            env={**os.environ, variable: state["address"]},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout.strip() == state["address"], done.stderr


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
