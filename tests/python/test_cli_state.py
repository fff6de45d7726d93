"""`mobula list`, `get`, `summary`, `explain`, `timeline` and `logs`, of another process's session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import pytest
from conftest import start
from mobula._commands._state_output import to_yaml
from mobula._commands.list import parse_filter

pytestmark = pytest.mark.mobula_only

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@ray.remote
def until(path: str) -> int:
    import time

    print("it runs")
    while not os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


@ray.remote
def quick(value: int = 0) -> int:
    return value


@pytest.fixture
def busy(no_session: None, tmp_path: Path) -> Iterator[Path]:
    """A session with tasks that have ended, run and wait; they go on when the file is there."""
    start(address="local", num_cpus=2)
    gate = tmp_path / "gate"
    ray.get([quick.options(name="done").remote() for _ in range(5)])
    runs = until.options(name="runs").remote(str(gate))
    waits = quick.options(name="waits").remote(runs)
    never = quick.options(name="never", num_cpus=50).remote()
    from mobula.util import state

    leftovers.wait_until(
        lambda: state.list_tasks(filters=[("name", "=", "runs"), ("state", "=", "RUNNING")]),
        "it runs",
    )
    yield gate
    ray.cancel(never)
    gate.touch()
    ray.get(waits)


@pytest.fixture
def mobula(busy: Path) -> Command:
    directory = ray.init(ignore_reinit_error=True).address_info["session_dir"]

    def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "mobula", *words],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "MOBULA_ADDRESS": directory},
        )
        assert result.returncode == status, result.stdout + result.stderr
        return result

    return run


def rows(text: str) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = json.loads(text)
    return parsed


def test_status_shows_jobs_workers_and_tasks(mobula: Command) -> None:
    told = json.loads(mobula("status", "--json", "--address", "auto").stdout)[0]
    (job,) = told["jobs"]
    assert job["job_id"] == "00000001"
    assert job["workers"] == sum(told["workers"].values()) > 0
    assert told["tasks"]["RUNNING"] == 1
    shown = mobula("status").stdout
    assert "PROGRAM" in shown
    assert "1 RUNNING" in shown


def test_tasks_of_another_process_are_listed(mobula: Command) -> None:
    table = mobula("list", "tasks").stdout.splitlines()
    assert table[0].split()[:3] == ["TASK_ID", "NAME", "STATE"]
    assert len(table) == 1 + 8
    told = rows(mobula("list", "tasks", "--format", "json").stdout)
    by_name = {row["name"]: row["state"] for row in told}
    assert by_name == {
        "done": "FINISHED",
        "runs": "RUNNING",
        "waits": "PENDING_ARGS_AVAIL",
        "never": "PENDING_NODE_ASSIGNMENT",
    }
    chosen = mobula("list", "tasks", "-f", "state!=FINISHED", "--filter=name=runs", "--format=json")
    (row,) = rows(chosen.stdout)
    detail = mobula("get", "tasks", row["task_id"]).stdout
    assert "required_resources: " in detail
    limited = mobula("list", "tasks", "--limit", "2")
    assert len(limited.stdout.splitlines()) == 3
    assert "2 of 8" in limited.stderr


def test_other_kinds_are_listed(mobula: Command) -> None:
    workers = rows(mobula("list", "workers", "--format", "json").stdout)
    assert str(os.getpid()) in str([row["pid"] for row in workers])
    (job,) = rows(mobula("list", "jobs", "--format", "json").stdout)
    assert job["status"] == "RUNNING"
    assert "RUNNING" in mobula("list", "jobs").stdout
    assert "CPU" in mobula("list", "nodes").stdout
    (node,) = rows(mobula("list", "nodes", "--format", "json").stdout)
    assert node["node_id"] in mobula("get", "nodes", node["node_id"]).stdout
    assert mobula("list", "runtime-envs").stdout


def test_wrong_questions_are_answered_with_what_is_right(mobula: Command) -> None:
    assert "supported" in mobula("list", "tasks", "-f", "colour=red", status=1).stderr
    assert "KEY=VALUE" in mobula("list", "tasks", "-f", "colour", status=1).stderr
    assert "10000" in mobula("list", "tasks", "--limit", "20000", status=1).stderr
    assert "tasks" in mobula("list", "unicorns", status=2).stderr
    assert "0000" in mobula("get", "tasks", "0000", status=1).stderr
    assert "no log file" in mobula("logs", "nothing*", status=1).stderr


def test_the_summary(mobula: Command) -> None:
    table = mobula("summary", "tasks").stdout
    (line,) = [line for line in table.splitlines() if line.startswith("done ")]
    assert line.split() == ["done", "NORMAL_TASK", "5", "FINISHED"]
    told = json.loads(mobula("summary", "tasks", "--format", "json").stdout)
    assert told["cluster"]["total_tasks"] == 8


def test_explanations(mobula: Command) -> None:
    said = mobula("explain").stdout
    assert "never" in said and "no node can ever run it" in said
    assert "waits for arguments" in said
    assert "no node can ever run it" in mobula("explain", "never").stdout
    assert "There is no task" in mobula("explain", "unicorn").stdout


def test_the_timeline_of_a_running_job(mobula: Command, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    assert "6 tasks" in mobula("timeline", "-o", str(file)).stdout
    events = json.loads(file.read_text())
    tasks = [event for event in events if event["ph"] == "X"]
    assert sorted(event["name"] for event in tasks) == ["done"] * 5 + ["runs"]
    (runs,) = [event for event in tasks if event["name"] == "runs"]
    assert runs["args"]["running"] is True
    assert json.loads(mobula("timeline", "-o", "-").stdout)


def test_logs(mobula: Command) -> None:
    names = mobula("logs").stdout.split()
    assert "daemon.log" in names
    assert "event=started" in mobula("logs", "daemon.log").stdout
    (row,) = rows(mobula("list", "tasks", "-f", "name=runs", "--format=json").stdout)
    told: list[str] = []

    def has_told() -> bool:
        result = subprocess.run(
            [sys.executable, "-m", "mobula", "logs", "worker", "--pid", str(row["worker_pid"])],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "MOBULA_ADDRESS": ray.init(ignore_reinit_error=True).address_info["session_dir"],
            },
        )
        told.append(result.stdout + result.stderr)
        return "it runs" in told[-1]

    leftovers.wait_until(has_told, "the worker's output is there")
    assert "it runs" in mobula("logs", "task", row["task_id"]).stdout


def test_filters_are_read_as_they_are_written() -> None:
    assert parse_filter("state=RUNNING") == ("state", "=", "RUNNING")
    assert parse_filter("state!=RUNNING") == ("state", "!=", "RUNNING")
    assert parse_filter("name=a=b") == ("name", "=", "a=b")
    for wrong in ("state", "=x", "!=x", ""):
        with pytest.raises(ValueError):
            parse_filter(wrong)


def test_yaml_is_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    written = [
        {"name": "a: b", "n": 1, "nested": {"CPU": 1.5}, "none": None, "text": 'q"\n', "l": []},
        {"name": "é", "n": -2.5, "nested": {}, "none": True, "text": "- x", "l": [1, "2"]},
    ]
    assert yaml.safe_load(to_yaml(written)) == written
    assert yaml.safe_load(to_yaml([])) == []
