"""Names of actors while they are made, found, let go of and killed from many threads at once."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections import Counter
from typing import Any

import mobula as ray
import pytest

pytestmark = [pytest.mark.usefixtures("shared_session")]

GET_SECONDS = 60
ROUNDS = 40
SEED = int(os.environ.get("MOBULA_SEED", "0")) or random.randrange(1, 1 << 30)


@ray.remote(num_cpus=0)
class Named:
    def pid(self) -> int:
        return os.getpid()


@pytest.mark.mobula_only  # In Ray some of these get an actor that ends.
@pytest.mark.random
def test_threads_that_race_for_names_while_actors_go_get_actors_or_their_end() -> None:
    print(f"MOBULA_SEED={SEED}")
    outcomes: Counter[str] = Counter()

    def race(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(ROUNDS):
            name = f"name{chance.randrange(3)}"
            try:
                actor = Named.options(
                    name=name,
                    get_if_exists=True,
                    lifetime=chance.choice([None, "detached"]),
                ).remote()
                what = chance.choice(["call", "kill", "find", "drop", "drop"])
                if what == "call":
                    ray.get(actor.pid.remote(), timeout=GET_SECONDS)
                elif what == "kill":
                    ray.kill(actor)
                elif what == "find":
                    ray.get_actor(name)
                outcomes[what] += 1
                del actor
            except ray.exceptions.ActorDiedError:
                outcomes["died"] += 1
            except ValueError as error:
                # Looked up by name while another thread killed it. Making one never says this.
                assert "Failed to look up actor" in str(error)
                outcomes["gone"] += 1
            except BaseException as error:
                outcomes[repr(error)] += 1
                raise

    threads = [threading.Thread(target=race, args=(SEED + number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {"call", "kill", "find", "drop", "died", "gone"}, outcomes
    assert sum(outcomes.values()) == 6 * ROUNDS
    for number in range(3):
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(f"name{number}"))


def test_a_name_can_be_used_again_at_once_after_kill() -> None:
    pids: set[Any] = set()
    for _ in range(5):
        actor = Named.options(name="again").remote()
        pids.add(ray.get(actor.pid.remote(), timeout=GET_SECONDS))
        ray.kill(actor)
    assert len(pids) == 5


@pytest.mark.mobula_only  # Ray may still know the first one.
def test_a_name_can_be_used_again_once_the_actor_has_no_handle() -> None:
    from mobula.util import list_named_actors

    pids = []
    for _ in range(5):
        actor = Named.options(name="let go", get_if_exists=True).remote()
        pids.append(ray.get(actor.pid.remote(), timeout=GET_SECONDS))
        del actor
        while "let go" in list_named_actors():
            pass
    assert len(set(pids)) == 5
