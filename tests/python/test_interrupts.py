"""Ctrl-C reaches a driver wherever it waits, and the session goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import asyncio, sys, time
import mobula as ray
import numpy as np

ray.init(num_cpus=1, object_store_memory=80 * 2**20, logging_level="error")

@ray.remote
def slow():
    time.sleep(1000)

@ray.remote
def quick():
    return 1

@ray.remote
def slow_items():
    time.sleep(1000)
    yield 1

async def awaits():
    await running

def puts():
    while True:
        held.append(ray.get(ray.put(np.ones(20 * 2**20, dtype=np.uint8))))

def submits():
    while True:
        quick.remote()

held = []
running = slow.remote()
places = {
    "get": lambda: ray.get(running),
    "get with a timeout": lambda: ray.get(running, timeout=1000),
    "get of many": lambda: ray.get([quick.remote() for _ in range(100)]),
    "wait": lambda: ray.wait([running]),
    "put into a full store": puts,
    "await": lambda: asyncio.run(awaits()),
    "future": lambda: running.future().result(),
    "the items of a generator": lambda: next(slow_items.remote()),
    "as_completed": lambda: next(iter(ray.util.as_completed([running]))),
    "submitting": submits,
}
try:
    print("waits", flush=True)
    places[sys.argv[1]]()
except KeyboardInterrupt:
    print("interrupted", flush=True)
held.clear()
ray.cancel(running, force=True)
try:
    ray.get(running)
except ray.exceptions.TaskCancelledError:
    print(ray.get(quick.options(num_cpus=0).remote()), flush=True)
"""


@pytest.mark.mobula_only
@pytest.mark.parametrize(
    "place",
    [
        "get",
        "get with a timeout",
        "get of many",
        "wait",
        "put into a full store",
        "await",
        "future",
        "the items of a generator",
        "as_completed",
        "submitting",
    ],
)
def test_ctrl_c_ends_the_waiting_and_nothing_else(place: str) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, place],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "waits\n"
        sleeps_now(driver.pid)
        os.kill(driver.pid, signal.SIGINT)
        out, err = driver.communicate(timeout=60)
    finally:
        driver.kill()
        driver.wait()
    assert out.splitlines() == ["interrupted", "1"], err
    assert driver.returncode == 0


def sleeps_now(pid: int) -> None:
    """Returns when the main thread of the process has been seen asleep a few times in a row, or busy
    for a while: it waits, or it works in a loop."""
    asleep = 0
    deadline = time.monotonic() + 3
    while asleep < 5 and time.monotonic() < deadline:
        with open(f"/proc/{pid}/task/{pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
        asleep = asleep + 1 if state == "S" else 0
        time.sleep(0.02)
