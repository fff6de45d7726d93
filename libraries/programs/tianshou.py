"""Tianshou: environments that are Ray actors (RayVectorEnv), stepped by hand and by a collector."""

from __future__ import annotations

import gymnasium
import numpy as np
import ray
from _checks import check, done, raises
from tianshou.algorithm.algorithm_base import RandomActionPolicy
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, RayVectorEnv

ENVIRONMENTS = 2  # Each is a process, which has to import torch first.


class Walk(gymnasium.Env):
    """A position on a line: 1 is a step to the right, there is a wall at 0. It ends at its length."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.position = 0
        self.start = 0
        self.ground = "firm"
        self.observation_space = gymnasium.spaces.Box(-100.0, 100.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.start = int(self.np_random.integers(3))
        self.position = self.start
        return self._seen(), {"length": self.length}

    def step(self, action):
        if self.ground == "none":
            raise RuntimeError("there is no ground")
        self.position = max(0, self.position + (1 if action == 1 else -1))
        ended = self.position >= self.length
        return self._seen(), float(ended), ended, False, {"position": self.position}

    def _seen(self):
        return np.array([self.position, self.length], np.float32)

    def render(self):
        return f"at {self.position}"


def made():
    # Each lambda has a length of its own.
    return [lambda length=length: Walk(length) for length in range(4, 4 + ENVIRONMENTS)]


def play(envs, steps=40):
    """What some steps give, without the ids of environments that asynchronous ones add."""
    random = np.random.default_rng(5)
    observed, _ = envs.reset(seed=3)
    seen = [observed]
    for _ in range(steps):
        actions = random.integers(0, 2, ENVIRONMENTS)
        observed, rewards, terminated, truncated, _ = envs.step(actions)
        seen += [observed, rewards, terminated, truncated]
        if terminated.any():
            ended = np.flatnonzero(terminated)
            observed, _ = envs.reset(ended)
            seen.append(observed)
    return seen


def attributes(envs: RayVectorEnv) -> None:
    check("environments can be counted", len(envs) == ENVIRONMENTS)
    check("attributes are read", list(envs.get_env_attr("length")) == [4, 5])
    envs.set_env_attr("length", 9)
    check("attributes are set", list(envs.get_env_attr("length")) == [9] * ENVIRONMENTS)
    check(
        "spaces are those of the environments", next(iter(envs.get_env_attr("action_space"))).n == 2
    )
    envs.reset(seed=0)
    texts = [f"at {seen[0]:.0f}" for seen in envs.reset()[0]]
    check("environments are rendered", list(envs.render()) == texts)
    check("environments are seeded", len(envs.seed(1)) == ENVIRONMENTS)
    for length, one in zip((4, 5), envs.workers, strict=True):
        one.set_env_attr("length", length)
    check("each is set on its own", list(envs.get_env_attr("length")) == [4, 5])


def asynchronous() -> None:
    envs = RayVectorEnv(made(), wait_num=1)
    envs.reset(seed=0)
    waiting = np.arange(ENVIRONMENTS)
    seen = {int(one): 0 for one in waiting}
    while min(seen.values()) < 5:
        _, _, terminated, _, infos = envs.step(np.zeros(len(waiting), int), waiting)
        waiting = np.array([info["env_id"] for info in infos])
        for one in waiting:
            seen[int(one)] += 1
    check("those that are ready do not wait for the others", min(seen.values()) >= 5)
    check("going left ends nothing", not terminated.any())


def collected(envs: RayVectorEnv) -> None:
    policy = RandomActionPolicy(gymnasium.spaces.Discrete(2))
    buffer = VectorReplayBuffer(3000, ENVIRONMENTS)
    collector = Collector[CollectStats](policy, envs, buffer)
    collector.reset()
    stats = collector.collect(n_step=300)
    check("a collector takes steps", stats.n_collected_steps == 300 and len(buffer) == 300)
    batch, _ = buffer.sample(50)
    check("what it took is what the environments say", bool((batch.obs[:, 1] >= 4).all()))
    stats = collector.collect(n_episode=ENVIRONMENTS)
    check("a collector takes episodes", stats.n_collected_episodes == ENVIRONMENTS)


def main() -> None:
    ray.init(num_cpus=2, object_store_memory=100_000_000)
    envs = RayVectorEnv(made())
    here, there = play(DummyVectorEnv(made())), play(envs)
    same = len(here) == len(there) and all(map(np.array_equal, here, there))
    check("they do as environments of this process do", same)
    attributes(envs)
    collected(envs)
    envs.reset()
    begun = envs.step(np.ones(2, int))[0][0, 0]
    envs.set_env_attr("length", 10_000)
    for _ in range(1000):
        observed, *_ = envs.step(np.ones(2, int))
    check("a thousand steps are taken", observed[0, 0] == begun + 1000)
    envs.set_env_attr("ground", "none")
    check("an error arrives", lambda: raises(RuntimeError, envs.step, np.zeros(2, int)))
    envs.close()
    check("a closed one says so", envs.is_closed)
    asynchronous()
    done()


if __name__ == "__main__":
    main()
