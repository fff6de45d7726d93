"""A worker that writes nonsense into the memory that it shares: only that worker dies."""

from __future__ import annotations

import os
import random
from typing import Any

import leftovers
import mobula as ray
import pytest
from mobula import exceptions

pytestmark = [pytest.mark.mobula_only, pytest.mark.random]

ROUNDS = int(os.environ.get("MOBULA_CHAOS_ROUNDS", "4")) * 5


def damage(seed: int, region: str, how: str) -> None:
    """Runs in a worker: overwrites what it shares with its caller ("mobula-channel"), or with the
    daemon ("mobula-home"), while it is used."""
    import ctypes
    import random
    import time

    choose = random.Random(seed)
    with open("/proc/self/maps") as maps:
        lines = maps.readlines()
    for line in lines:
        if f"/memfd:{region}" not in line or "rw-s" not in line:
            continue
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        for _ in range(200):
            if how == "start":  # Ring headers and first frames.
                offset = choose.randrange(4096 * 4)
            elif how == "anywhere":
                offset = choose.randrange(end - start - 64)
            else:  # The second ring of a channel.
                offset = (end - start) // 2 + choose.randrange(4096)
            size = choose.choice([1, 4, 8, 64])
            ctypes.memmove(start + offset, choose.randbytes(size), size)
    for _ in range(20):
        time.sleep(0.001)


@ray.remote(max_retries=0)
def hostile(seed: int, region: str, how: str) -> str:
    before = ray.put(bytes(1 << 20))  # It has a segment.
    damage(seed, region, how)
    ray.put([ray.put(1), before, ray.put(bytes(1 << 20))])  # It speaks to the daemon.
    return "survived"


@ray.remote(max_retries=-1)
def good(i: int) -> int:
    return i


@ray.remote(max_retries=-1)
def good_nested(i: int) -> Any:
    return ray.get([good.remote(i), good.remote(i + 1)])


@pytest.mark.parametrize(
    "region",
    ["mobula-channel", "mobula-home", "mobula-bell", "mobula-daemon-bell", "mobula-segment"],
)
def test_only_the_worker_that_writes_nonsense_dies(region: str, capfd: Any) -> None:
    ray.shutdown()
    before = leftovers.take_picture()
    seed = int(os.environ.get("MOBULA_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}: MOBULA_SEED={seed} replays it")
    choose = random.Random(seed)
    ray.init(num_cpus=3)
    fates = {"survived": 0, "died": 0}
    for _ in range(ROUNDS):
        how = choose.choice(["start", "anywhere", "middle"])
        bad = hostile.remote(choose.randrange(1 << 32), region, how)
        refs = [good.remote(i) for i in range(200)]
        nested = [good_nested.remote(i) for i in range(10)]
        assert ray.get(refs, timeout=60) == list(range(200))
        assert ray.get(nested, timeout=60) == [[i, i + 1] for i in range(10)]
        # If the damage hit nothing that is looked at it may survive; if it hit the bells, nobody is
        # told of its result.
        ready, _ = ray.wait([bad], timeout=5)
        try:
            if not ready:
                ray.cancel(bad, force=True)
            assert ray.get(bad, timeout=60) == "survived"
            fates["survived"] += 1
        except (exceptions.WorkerCrashedError, exceptions.TaskCancelledError):
            fates["died"] += 1
    print(fates)
    assert ray.get([good.remote(i) for i in range(100)]) == list(range(100))
    ray.shutdown()
    leftovers.expect_nothing_new(before)


@ray.remote
class Counter:
    def add(self, i: int) -> int:
        return i

    def damage(self, seed: int, region: str, how: str) -> str:
        damage(seed, region, how)
        return "survived"


@ray.remote(concurrency_groups={"sums": 2})
class GroupedCounter:
    @ray.method(concurrency_group="sums")
    def add(self, i: int) -> int:
        return i

    def damage(self, seed: int, region: str, how: str) -> str:
        damage(seed, region, how)
        return "survived"


@ray.remote
class Caller:
    def __init__(self, counter: Any) -> None:
        self.counter = counter

    def add_twenty(self) -> list[int]:
        return ray.get([self.counter.add.remote(i) for i in range(20)])

    def damage(self, seed: int, region: str, how: str) -> str:
        damage(seed, region, how)
        return "survived"


def answer_or_error(ref: Any) -> Any:
    try:
        return ray.get(ref, timeout=60)
    except exceptions.GetTimeoutError:
        raise
    except Exception as error:  # What was written over may be no value any more.
        return error


# None: another one each time. The other wrote over the lease of a call, which then nobody ran.
@pytest.mark.parametrize("known_seed", [None, 2651457631824776326])
def test_every_call_is_answered_when_an_actor_writes_nonsense(
    known_seed: int | None, capfd: Any
) -> None:
    """One that is called, or one that calls it. Each call ends with an answer or an error. What passes
    through memory that was written over may arrive changed; the other answers are right."""
    ray.shutdown()
    before = leftovers.take_picture()
    seed = known_seed or int(os.environ.get("MOBULA_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}: MOBULA_SEED={seed} replays it")
    choose = random.Random(seed)
    ray.init(num_cpus=4)
    for _ in range(ROUNDS // 2):
        counter = choose.choice([Counter, GroupedCounter]).remote()
        caller = Caller.remote(counter)
        region = choose.choice(["mobula-channel", "mobula-channel", "mobula-home", "mobula-bell"])
        how = choose.choice(["start", "anywhere", "middle"])
        hostile_one = choose.choice([counter, caller])
        adds = [counter.add.remote(i) for i in range(10)]
        others = [
            caller.add_twenty.remote(),
            hostile_one.damage.remote(choose.randrange(1 << 32), region, how),
        ]
        adds += [counter.add.remote(i) for i in range(10, 20)]
        others.append(caller.add_twenty.remote())
        for i, ref in enumerate(adds):
            answer = answer_or_error(ref)
            is_death = isinstance(answer, exceptions.RayActorError)
            assert answer == i or is_death or hostile_one is counter
        for ref in others:
            answer_or_error(ref)
        del hostile_one, counter, caller, adds, others, ref, answer
    ray.shutdown()
    leftovers.expect_nothing_new(before)
