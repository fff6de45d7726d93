"""What a future that is pending costs: the process's memory, not only what Python allocates."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.mobula_only

PROGRAM = """
import concurrent.futures, gc, json, os, sys, tempfile, time, tracemalloc
import mobula as ray

@ray.remote
def hold(path):
    while not os.path.exists(path):
        time.sleep(0.01)

@ray.remote
def same(value):
    return value

COUNT = 50_000

def private_bytes():
    gc.collect()
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))

def grown(fill):
    before = private_bytes()
    kept = fill()
    return (private_bytes() - before) / COUNT, kept

ray.init(num_cpus=1, log_to_driver=False)
path = os.path.join(tempfile.mkdtemp(), "go")
held = hold.remote(path)
slots = [None] * (2 * COUNT)  # So that no list grows meanwhile.

def pending():
    for i in range(COUNT):
        slots[i] = same.remote(1).future()

def plain():
    for i in range(COUNT, 2 * COUNT):
        slots[i] = concurrent.futures.Future()

same.remote(1).future()
ours, _ = grown(pending)
theirs, _ = grown(plain)
assert not any(future.done() for future in slots[:COUNT])
open(path, "w").close()
assert all(future.result(60) == 1 for future in slots[:COUNT])
print(json.dumps({"ours": ours, "theirs": theirs}))
ray.shutdown()
"""


def test_a_pending_future_costs_little_more_than_one_of_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, check=True, timeout=120
    )
    costs = json.loads(done.stdout)
    # With its task, its ref and the object behind that.
    assert 0 < costs["ours"] <= costs["theirs"] + 600, costs
