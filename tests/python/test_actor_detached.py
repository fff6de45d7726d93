"""Detached actors on a standing daemon: their environments, their restarts without any driver, and
drivers that race for a name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from actor_helpers import is_alive, wait_until

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("no_session")]

HEAD = """
import os, time, mobula as ray
ray.init(address="auto", namespace="here")
"""

MAKE = """
@ray.remote
class Kept:
    def __init__(self):
        self.begun = os.environ.get("KEPT")
    def look(self):
        return self.begun, os.environ.get("KEPT"), os.getpid()
"""


@pytest.fixture
def standing() -> Iterator[dict[str, str]]:
    """The environment of drivers that find a daemon of their own."""
    folder = tempfile.mkdtemp(prefix="mobula-test-")
    environment = {**os.environ, "TMPDIR": folder}
    mobula = [sys.executable, "-m", "mobula"]
    command = [*mobula, "start", "--num-cpus", "2", "--temp-dir", folder]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    yield environment
    subprocess.run([*mobula, "stop"], env=environment, check=True, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_detached_actor_keeps_its_environment_and_comes_back_in_it_without_its_driver(
    run_script: Any, standing: dict[str, str]
) -> None:
    made = run_script(
        HEAD
        + MAKE
        + """
kept = Kept.options(
    name="kept", lifetime="detached", max_restarts=1, runtime_env={"env_vars": {"KEPT": "yes"}}
).remote()
print(*ray.get(kept.look.remote()))
""",
        env=standing,
    )
    begun, now, pid = made.stdout.split()
    assert (begun, now) == ("yes", "yes")
    os.kill(int(pid), 9)
    wait_until(lambda: not is_alive(int(pid)))
    looked = run_script(
        HEAD
        + """
kept = ray.get_actor("kept")
while True:
    try:
        print(*ray.get(kept.look.remote()))
        break
    except ray.exceptions.ActorUnavailableError:
        time.sleep(0.01)
ray.kill(kept)
""",
        env=standing,
    )
    begun, now, second = looked.stdout.split()
    assert (begun, now) == ("yes", "yes")
    assert second != pid
    wait_until(lambda: not is_alive(int(second)))


def test_of_drivers_that_race_for_a_name_one_makes_the_actor_and_all_get_it(
    standing: dict[str, str],
) -> None:
    script = (
        HEAD
        + MAKE
        + """
kept = Kept.options(name="one", lifetime="detached", get_if_exists=True, num_cpus=0).remote()
print(ray.get(kept.look.remote())[2])
"""
    )
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=standing, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    pids = {driver.communicate(timeout=120)[0].strip() for driver in drivers}
    assert all(driver.returncode == 0 for driver in drivers)
    assert len(pids) == 1
    assert is_alive(int(pids.pop()))
