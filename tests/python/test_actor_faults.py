"""Processes are killed at random moments while calls of actors flow."""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from actor_helpers import is_alive, wait_until
from conftest import start
from mobula import _core

SEED = int(os.environ.get("MOBULA_SEED", "0")) or random.randrange(1, 1 << 30)


class Journal:
    """Writes down what it executes, where it outlives the process."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def pid(self) -> int:
        return os.getpid()

    def note(self, caller: str, number: int) -> int:
        with open(f"{self.folder}/{caller}", "a") as file:
            file.write(f"{number}\n")
        return number


@ray.remote
class Caller:
    def __init__(self, journal: Any, name: str, retries: int) -> None:
        self.note = journal.note.options(max_task_retries=retries)
        self.name = name

    def pid(self) -> int:
        return os.getpid()

    def call(self, count: int) -> list[int | None]:
        refs = [self.note.remote(self.name, number) for number in range(count)]
        results: list[int | None] = []
        for ref in refs:
            try:
                results.append(ray.get(ref, timeout=60))
            except ray.exceptions.RayActorError:
                results.append(None)
        return results


def noted(folder: Path, caller: str) -> list[int]:
    try:
        return [int(line) for line in Path(folder, caller).read_text().split()]
    except FileNotFoundError:
        return []


def kill_now_and_then(chance: random.Random, pid_of: Any, until: Any) -> int:
    killed = 0
    while not until():
        time.sleep(chance.uniform(0.0, 0.05))
        pid = pid_of()
        if pid is not None and chance.random() < 0.5:
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
    return killed


def pid_of_journal(journal: Any) -> int | None:
    try:
        return int(ray.get(journal.pid.remote(), timeout=60))
    except ray.exceptions.RayActorError:
        return None


@pytest.mark.random
@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("retries", [0, -1])
def test_an_actor_that_is_killed_again_and_again_loses_no_call_silently(
    tmp_path: Path, retries: int
) -> None:
    print(f"MOBULA_SEED={SEED}")
    chance = random.Random(SEED)
    start(num_cpus=2)
    journal = ray.remote(Journal).options(max_restarts=-1).remote(str(tmp_path))
    callers = [Caller.remote(journal, f"caller{i}", retries) for i in range(3)]
    ray.get([caller.pid.remote() for caller in callers])
    for _ in range(3):
        for file in tmp_path.iterdir():
            file.unlink()
        pending = [caller.call.remote(2000) for caller in callers]
        kill_now_and_then(
            chance,
            lambda: pid_of_journal(journal),
            lambda: len(ray.wait(pending, num_returns=3, timeout=0)[0]) == 3,  # noqa: B023
        )
        for index, results in enumerate(ray.get(pending)):
            ran = noted(tmp_path, f"caller{index}")
            done = [number for number in results if number is not None]
            assert done == [number for number, result in enumerate(results) if result is not None]
            assert set(done) <= set(ran)
            if retries == 0:
                assert ran == sorted(set(ran)), "in order, and each at most once"
            else:
                assert done == list(range(2000)), "nothing is lost"
                first_runs = list(dict.fromkeys(ran))
                assert first_runs == sorted(first_runs)


@pytest.mark.random
@pytest.mark.usefixtures("no_session")
def test_callers_that_are_killed_leave_the_actor_to_the_others(tmp_path: Path) -> None:
    print(f"MOBULA_SEED={SEED}")
    chance = random.Random(SEED)
    start(num_cpus=2)
    journal = ray.remote(Journal).remote(str(tmp_path))
    pid = ray.get(journal.pid.remote())
    for round_ in range(5):
        victim = Caller.remote(journal, f"victim{round_}", 0)
        other = Caller.remote(journal, f"other{round_}", 0)
        victim_pid = ray.get(victim.pid.remote())
        lost, kept = victim.call.remote(3000), other.call.remote(3000)
        time.sleep(chance.uniform(0.0, 0.1))
        os.kill(victim_pid, signal.SIGKILL)
        assert ray.get(kept) == list(range(3000))
        ray.wait([lost])
        for name in (f"victim{round_}", f"other{round_}"):
            ran = noted(tmp_path, name)
            assert ran == list(range(len(ran)))
        del victim, other
    assert ray.get(journal.pid.remote()) == pid
    del journal
    gc.collect()
    wait_until(lambda: not is_alive(pid))


@pytest.mark.mobula_only
@pytest.mark.usefixtures("no_session")
def test_an_actor_comes_back_though_the_process_that_starts_workers_died(tmp_path: Path) -> None:
    start(num_cpus=1)
    journal = (
        ray.remote(Journal).options(max_restarts=-1, max_task_retries=-1).remote(str(tmp_path))
    )
    pid = ray.get(journal.pid.remote())
    kill_zygote()
    os.kill(pid, signal.SIGKILL)
    assert ray.get(journal.note.remote("me", 1)) == 1
    assert ray.get(journal.pid.remote()) != pid


def kill_zygote() -> None:
    daemon = _core.nodes()[0]["pid"]
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    zygotes = [pid for pid in pids if _parent(pid) == daemon and "zygote" in _title(pid)]
    assert zygotes
    for pid in zygotes:
        os.kill(pid, signal.SIGKILL)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
