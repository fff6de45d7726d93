"""examples/tour/cpus.py: which part of the CPUs other programs used."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOUR = Path(__file__).resolve().parents[2] / "examples" / "tour"
BURN = """
import time
while time.process_time() < {seconds}:
    pass
print("burnt", flush=True)
input()
"""


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tour_cpus", TOUR / "cpus.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


cpus = load()


def process(pid: int, parent: int, *, used: tuple[int, int, int, int], name: str = "x") -> str:
    """A line of /proc/PID/stat: user and system ticks, then those of children waited for."""
    return f"{pid} ({name}) S {parent} " + "0 " * 9 + " ".join(map(str, used)) + " 20 0 1 0\n"


def our_seconds() -> float:
    """What this process used, and its children that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def test_waiting_for_the_disk_is_idle_and_stolen_time_is_busy() -> None:
    stat = "cpu  100 10 50 1000 200 3 7 30 90 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert cpus.ticks_of_the_machine(stat) == (1400, 200)


def test_the_tree_holds_all_descendants_and_nobody_else() -> None:
    lines = [
        process(1, 0, used=(1000, 0, 0, 0)),
        process(10, 1, used=(1, 2, 3, 4)),
        process(11, 10, used=(10, 0, 0, 0)),
        process(12, 11, used=(0, 100, 0, 0), name="of a child (1) 2"),
        process(20, 1, used=(1000, 0, 0, 0)),
    ]
    assert cpus.ticks_of_a_tree(10, lines) == 120
    assert cpus.ticks_of_a_tree(10, reversed(lines)) == 120


@pytest.mark.parametrize(
    ("busy", "ours", "share"),
    [(150, 50, 0.5), (50, 50, 0.0), (49, 50, 0.0), (200, 0, 1.0), (300, 0, 1.0)],
)
def test_what_is_busy_and_not_ours_is_others(busy: int, ours: int, share: float) -> None:
    before = cpus.Reading(1000, 500, 70)
    assert cpus.others_share(before, cpus.Reading(1200, 500 + busy, 70 + ours)) == share


def test_no_time_is_no_share() -> None:
    reading = cpus.read()
    assert cpus.others_share(reading, reading) == 0.0


def test_what_a_child_burns_is_ours_while_it_lives_and_after_it() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    before = cpus.read()
    with subprocess.Popen(
        [sys.executable, "-c", BURN.format(seconds=0.5)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "burnt\n"
        alive = cpus.read()
        child.communicate("\n")
    after = cpus.read()
    assert alive.ours - before.ours >= 0.45 * ticks
    assert after.ours >= alive.ours - 1
    assert alive.busy - before.busy >= 0.4 * ticks


def test_what_somebody_else_burns_is_not_ours() -> None:
    # A process whose parent has ended belongs to nobody below us.
    orphan = BURN.format(seconds=0.3).replace("input()", "")
    launcher = (
        "import subprocess, sys; "
        f"print(subprocess.Popen([sys.executable, '-c', {orphan!r}], stdout=sys.stderr).pid)"
    )
    before, began = cpus.read(), our_seconds()
    done = subprocess.run(
        [sys.executable, "-c", launcher], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == "burnt\n"  # Its end closes the pipe that run() reads.
    after, ours_s = cpus.read(), our_seconds() - began
    ticks = os.sysconf("SC_CLK_TCK")
    assert after.ours - before.ours <= ours_s * ticks + 5
    assert after.busy - before.busy >= 0.25 * ticks
