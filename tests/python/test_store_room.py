"""More is wanted in memory at a time than the store holds: tasks wait for each other, and all end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import numpy as np
import pytest
from mobula import exceptions

pytestmark = pytest.mark.mobula_only

MIB = 1 << 20


@pytest.fixture(autouse=True)
def session(tmp_path: Path) -> Iterator[None]:
    ray.init(num_cpus=4, object_store_memory=100 * MIB, object_spilling_directory=str(tmp_path))
    yield
    ray.shutdown()


def values(count: int, size: int) -> list[Any]:
    return [ray.put(np.full(size, seed, dtype="u1")) for seed in range(count)]


def test_tasks_that_work_longer_than_the_store_waits_delay_others_and_nothing_more() -> None:
    refs = values(6, 30 * MIB)

    @ray.remote
    def work(array: np.ndarray[Any, Any]) -> int:
        time.sleep(7)
        return int(array[0])

    @ray.remote
    def fetch_and_work(inside: list[Any]) -> int:
        array = ray.get(inside[0])
        time.sleep(7)
        return int(array[-1])

    calls = [work.remote(ref) for ref in refs[:4]] + [fetch_and_work.remote([r]) for r in refs[4:]]
    assert ray.get(calls) == [0, 1, 2, 3, 4, 5]


def test_tasks_with_several_arguments_do_not_wait_for_each_other_for_ever() -> None:
    refs = values(8, 40 * MIB)

    @ray.remote
    def add(one: np.ndarray[Any, Any], *, two: np.ndarray[Any, Any]) -> int:
        return int(one[0]) + int(two[-1])

    for _ in range(2):
        calls = [add.remote(refs[i], two=refs[i + 1]) for i in range(0, 8, 2)]
        assert ray.get(calls) == [1, 5, 9, 13]


def test_arguments_that_do_not_fit_together_go_on_in_files() -> None:
    refs = values(3, 40 * MIB)

    @ray.remote
    def take(*arrays: np.ndarray[Any, Any]) -> int:
        return sum(int(array[-1]) for array in arrays)

    assert ray.get(take.remote(*refs)) == 3
    assert ray.get(take.remote(*refs[:2])) == 1


LONG_WAIT = """
import os, sys, time
import mobula as ray, numpy as np
looking, go_on, disk = sys.argv[1:]
ray.init(num_cpus=1, object_store_memory=100 << 20, object_spilling_directory=disk)

@ray.remote
def work(array):
    open(looking, "w").close()
    wait_for(go_on)

def wait_for(file):
    while not os.path.exists(file):
        time.sleep(0.05)

refs = [ray.put(np.ones(60 << 20, "u1"))]
working = work.remote(refs.pop())
wait_for(looking)
refs.append(ray.put(np.ones(60 << 20, "u1")))
print("done")
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Too small for the values of LONG_WAIT."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(place)], capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_users_are_told_what_a_long_wait_for_room_is_for(tmp_path: Path, small_disk: Path) -> None:
    go_on = tmp_path / "go on"
    with subprocess.Popen(
        [
            *(sys.executable, "-u", "-c", LONG_WAIT),
            *(str(tmp_path / "looking"), str(go_on), str(small_disk)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as driver:
        assert driver.stdout is not None
        try:
            for line in driver.stdout:
                if "waits for tasks that work" in line:
                    assert "looks at 60.0 MiB of it" in line
                    break
            else:
                raise AssertionError("the driver ended, or put, before anything was told")
            go_on.touch()
            assert "done" in driver.stdout.read()
        finally:
            driver.kill()


def test_get_gives_up_at_its_timeout_while_others_work_with_what_takes_the_room(
    tmp_path: Path,
) -> None:
    refs = values(5, 30 * MIB)

    @ray.remote
    def work(array: np.ndarray[Any, Any], number: int) -> int:
        (tmp_path / f"{number}").touch()
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        return int(array[0])

    calls = [work.remote(ref, number) for number, ref in enumerate(refs[:3])]
    leftovers.wait_until(
        lambda: all((tmp_path / f"{number}").exists() for number in range(3)), "all tasks work"
    )
    with pytest.raises(exceptions.GetTimeoutError):
        ray.get(refs[3:], timeout=0.5)
    (tmp_path / "go").touch()
    assert ray.get(calls) == [0, 1, 2]
    assert int(ray.get(refs[4], timeout=60)[-1]) == 4
