"""Actors, their callers and the process that starts workers are killed at random moments while calls
flow, in many short rounds of a seed each: no call is lost silently, none runs more often than its
options allow, calls of one caller start in their order, and at the end every table is empty.

The seed is printed; MOBULA_SEED=<seed> replays the choices of the first round (not the moments).
MOBULA_ACTOR_ROUNDS is the number of rounds (default 12; 1000 take about half an hour).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import shutil
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import pytest
from mobula import _core, _state, _testing, util
from mobula.util.scheduling_strategies import PlacementGroupSchedulingStrategy

ROUNDS = int(os.environ.get("MOBULA_ACTOR_ROUNDS", "12"))
SEED = int(os.environ.get("MOBULA_SEED", "0")) or random.randrange(1, 1 << 30)
GET_SECONDS = 120
GONE = (ray.exceptions.RayActorError, ray.exceptions.ActorPlacementGroupRemoved)
TABLES = (
    "unfinished_tasks",
    "in_flight",
    "outbound",
    "inbound",
    "objects",
    "known_objects",
    "refs",
    "guards",
    "parcels",
)

pytestmark = [
    pytest.mark.mobula_only,
    pytest.mark.random,
    pytest.mark.timeout(300 + 5 * ROUNDS),
]


class _Journal:
    """Writes down what it executes, where it outlives the process."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.files: dict[str, int] = {}

    def write(self, caller: str, number: int) -> int:
        file = self.files.get(caller)
        if file is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            file = self.files[caller] = os.open(f"{self.folder}/{caller}", flags)
        os.write(file, b"%d\n" % number)
        return number


class Journal(_Journal):
    def pid(self) -> int:
        return os.getpid()

    def note(self, caller: str, number: int) -> int:
        return self.write(caller, number)


class AsyncJournal(_Journal):
    async def pid(self) -> int:
        return os.getpid()

    async def note(self, caller: str, number: int) -> int:
        self.write(caller, number)
        await asyncio.sleep(0)
        return number


def call_and_collect(note: Any, name: str, count: int) -> list[int | None]:
    """What each call returned; None: it raised an error that says that the actor is gone."""
    refs = [note.remote(name, number) for number in range(count)]
    results: list[int | None] = []
    for ref in refs:
        try:
            results.append(ray.get(ref, timeout=GET_SECONDS))
        except GONE:
            results.append(None)
    return results


@ray.remote(num_cpus=0)
class Caller:
    def __init__(self, journal: Any, retries: int) -> None:
        self.note = journal.note.options(max_task_retries=retries)

    def pid(self) -> int:
        return os.getpid()

    def call(self, name: str, count: int) -> list[int | None]:
        return call_and_collect(self.note, name, count)


@dataclass
class Round:
    seed: int
    kind: str
    restarts: int
    retries: int
    count: int
    kills: list[tuple[float, str]]
    # Where the actor and its callers are placed: in a group of bundles, or in none.
    in_group: bool = False
    # When that group is removed, in seconds after the last kill; None: when the round is over.
    removed_after: float | None = None

    @property
    def is_lost_on_purpose(self) -> bool:
        return self.removed_after is not None

    @staticmethod
    def of(seed: int) -> Round:
        chance = random.Random(seed)
        return Round(
            seed,
            chance.choice(["sync", "sync", "threads", "async"]),
            chance.choice([0, 1, 3, -1, -1]),
            chance.choice([0, 1, 3, -1]),
            chance.choice([20, 200, 1000]),
            [
                (chance.uniform(0.0, 0.06), chance.choice(["actor", "actor", "caller", "zygote"]))
                for _ in range(chance.randint(1, 3))
            ],
            chance.random() < 0.4,
            chance.choice([None, None, chance.uniform(0.0, 0.06)]),
        ).without_idle_removal()

    def without_idle_removal(self) -> Round:
        return self if self.in_group else replace(self, removed_after=None)


def zygotes() -> list[int]:
    (node,) = _core.nodes()
    found = []
    for task in Path(f"/proc/{node['pid']}/task").glob("*"):
        with contextlib.suppress(OSError):
            for pid in (task / "children").read_text().split():
                if b"zygote" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


def pid_of(actor: Any) -> int | None:
    try:
        return int(ray.get(actor.pid.remote(), timeout=GET_SECONDS))
    except GONE:
        return None


def kill(pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def play(this: Round, folder: Path) -> None:
    if not this.in_group:
        play_in(this, folder, None)
        return
    group = util.placement_group([{"CPU": 0.5}, {"CPU": 0.5}, {"CPU": 0.5}])
    try:
        assert group.wait(GET_SECONDS)
        play_in(this, folder, group)
    finally:
        util.remove_placement_group(group)


def play_in(this: Round, folder: Path, group: util.PlacementGroup | None) -> None:
    def bundle(index: int) -> dict[str, Any]:
        if group is None:
            return {"num_cpus": 0}
        where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
        return {"num_cpus": 0.5, "scheduling_strategy": where}

    made = ray.remote(AsyncJournal if this.kind == "async" else Journal).options(
        **bundle(0),
        max_restarts=this.restarts,
        max_concurrency={"sync": 1, "threads": 3, "async": 100}[this.kind],
    )
    journal = made.remote(str(folder))
    callers = [
        Caller.options(**bundle(1 + index)).remote(journal, this.retries) for index in range(2)
    ]
    victims = {"caller": pid_of(callers[0]), "actor": pid_of(journal)}
    ray.get(callers[1].pid.remote(), timeout=GET_SECONDS)
    pending = [
        caller.call.remote(f"caller{index}", this.count) for index, caller in enumerate(callers)
    ]
    own: list[list[int | None]] = []
    note = journal.note.options(max_task_retries=this.retries)
    thread = threading.Thread(
        target=lambda: own.append(call_and_collect(note, "driver", this.count))
    )
    thread.start()
    for pause, victim in this.kills:
        time.sleep(pause)
        if victim == "zygote":
            for pid in zygotes():
                kill(pid)
        else:
            kill(victims[victim])
            if victim == "actor":
                victims["actor"] = pid_of(journal)
    if group is not None and this.removed_after is not None:
        time.sleep(this.removed_after)
        util.remove_placement_group(group)
    thread.join()
    outcomes = {"driver": own[0]}
    for index, ref in enumerate(pending):
        try:
            outcomes[f"caller{index}"] = ray.get(ref, timeout=GET_SECONDS)
        except GONE:
            assert index == 0 or this.is_lost_on_purpose, "nobody has killed this caller"
    for name in ("driver", "caller0", "caller1"):
        check(this, name, ran_of(folder / name), outcomes.get(name))


def ran_of(file: Path) -> list[int]:
    try:
        return [int(line) for line in file.read_text().split()]
    except FileNotFoundError:
        return []


def check(this: Round, name: str, ran: list[int], results: list[int | None] | None) -> None:
    most = 1 + this.retries if this.retries >= 0 else len(ran) + 1
    for number in set(ran):
        assert ran.count(number) <= most, (this, name, number)
    if this.kind == "sync":
        first_runs = list(dict.fromkeys(ran))
        assert first_runs == sorted(first_runs), (this, name)
    if results is None:
        return
    assert len(results) == this.count
    for number, result in enumerate(results):
        assert result in (None, number), (this, name)
        assert result is None or number in ran, (this, name, number)
    if this.restarts == -1 and this.retries == -1 and not this.is_lost_on_purpose:
        assert None not in results, (this, name)


def actors_left() -> list[Any]:
    """Those in the daemon's table: of others it keeps a row, for people."""
    rows = _state.gather(tasks_max=0, ended_max=0).section("actors")
    return [row for row in rows if not row.get("forgotten")]


def tables_when_settled() -> dict[str, int]:
    """How much this process remembers, once no actor is left."""
    gc.collect()
    leftovers.wait_until(lambda: not actors_left(), "no actor is left")
    leftovers.wait_until(lambda: ray.available_resources().get("CPU") == 2, "all CPUs free")
    seen: list[dict[str, int]] = []

    def is_settled() -> bool:
        now = _testing.runtime_state()
        seen.append({name: now[name] for name in TABLES})
        return len(seen) > 25 and all(one == seen[-1] for one in seen[-25:])

    leftovers.wait_until(is_settled, "nothing changes any more")
    return seen[-1]


def test_whoever_of_actors_callers_and_zygote_dies_no_call_is_lost_silently(tmp_path: Path) -> None:
    print(f"MOBULA_SEED={SEED}")
    ray.shutdown()
    before = leftovers.take_picture()
    ray.init(num_cpus=2, object_store_memory=128 << 20)
    # What the first use makes for good, and nothing more, is there at the end.
    warm_up = tmp_path / "warm-up"
    warm_up.mkdir()
    play(Round(0, "sync", 0, 0, 10, []), warm_up)
    settled = tables_when_settled()
    for number in range(ROUNDS):
        this = Round.of(SEED + number)
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            play(this, folder)
        except BaseException:
            print(f"{this}: MOBULA_SEED={this.seed} replays it")
            raise
        shutil.rmtree(folder)
        if number % 20 == 19 or number == ROUNDS - 1:
            assert tables_when_settled() == settled, this
    ray.shutdown()
    leftovers.expect_nothing_new(before)
