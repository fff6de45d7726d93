"""rl_games: environments that are Ray actors (vecenv_type "RAY"), by hand and under PPO."""

from __future__ import annotations

import tempfile

import numpy as np
import ray
from _checks import check, done
from rl_games.common import vecenv
from rl_games.common.algo_observer import AlgoObserver
from rl_games.torch_runner import Runner

ACTORS = 2  # Each is a process, which has to import torch first.


def settings() -> dict[str, object]:
    """PPO with a small network on CartPole, whose environments are Ray actors in rl_games."""
    mlp = {"units": [32, 32], "activation": "elu", "initializer": {"name": "default"}}
    space = {"discrete": {}}
    network = {"name": "actor_critic", "separate": False, "space": space, "mlp": mlp}
    config = {
        "name": "cartpole",
        "env_name": "CartPole-v1",
        "device": "cpu",
        "device_name": "cpu",
        "reward_shaper": {"scale_value": 0.1},
        "normalize_advantage": True,
        "normalize_input": True,
        "gamma": 0.98,
        "tau": 0.9,
        "learning_rate": 0.005,
        "lr_schedule": "None",
        "score_to_win": 10_000,
        "grad_norm": 1.0,
        "truncate_grads": True,
        "entropy_coef": 0.0,
        "ppo": True,
        "e_clip": 0.2,
        "clip_value": True,
        "critic_coef": 1,
        "num_actors": ACTORS,
        "horizon_length": 128,
        "minibatch_size": 128,
        "mini_epochs": 4,
        "max_epochs": 6,
        "save_frequency": 0,
        "save_best_after": 10_000,
        "train_dir": tempfile.mkdtemp(),
    }
    return {
        "params": {
            "seed": 3,
            "algo": {"name": "a2c_discrete"},
            "model": {"name": "discrete_a2c"},
            "network": network,
            "config": config,
        }
    }


class Scores(AlgoObserver):
    """Remembers the mean score after each epoch."""

    def __init__(self) -> None:
        self.means: list[float] = []

    def after_init(self, algo) -> None:
        self.algo = algo

    def after_print_stats(self, frame, epoch_num, total_time) -> None:
        if self.algo.game_rewards.current_size > 0:
            self.means.append(float(self.algo.game_rewards.get_mean()[0]))


def cart_poles() -> None:
    envs = vecenv.create_vec_env("CartPole-v1", ACTORS)
    check("the environment is told of", envs.get_env_info()["action_space"].n == 2)
    observed = envs.reset()
    check("what is observed is stacked", observed.shape == (ACTORS, 4))
    check("each has its own start", len(np.unique(observed[:, 0])) == ACTORS)
    length, ended = 0, np.zeros(ACTORS, bool)
    while not ended.all():
        observed, rewards, now, _ = envs.step(np.ones(ACTORS, int))
        ended |= now
        length += 1
    check("poles fall that are pushed to one side", 7 <= length <= 15 and rewards.sum() == ACTORS)
    for number in range(500):
        observed, *_ = envs.step(np.full(ACTORS, number % 2))
    check("many steps are taken", observed.dtype == np.float32 and observed.shape == (ACTORS, 4))


def learning() -> None:
    scores = Scores()
    runner = Runner(scores)
    runner.load(settings())
    runner.run({"train": True, "play": False})
    check("scores come from all epochs", len(scores.means) >= 5)
    check("poles stand for some steps", min(scores.means) > 7)


def main() -> None:
    ray.init(num_cpus=2 * ACTORS, object_store_memory=100_000_000)
    cart_poles()
    learning()
    done()


if __name__ == "__main__":
    main()
