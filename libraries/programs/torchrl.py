"""TorchRL: collectors and a replay buffer in Ray actors, the registry of services."""

from __future__ import annotations

from functools import partial

import ray
import torch
from _checks import check, done, raises
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.collectors.distributed import RayCollector
from torchrl.data import LazyTensorStorage, RayReplayBuffer, RoundRobinWriter
from torchrl.envs.libs.gym import GymEnv
from torchrl.services import RayService

RESOURCES = {"num_cpus": 1, "num_gpus": 0}
FRAMES = 50  # Of each batch.


def replay_buffer() -> None:
    buffer = RayReplayBuffer(
        storage=partial(LazyTensorStorage, 100),
        writer=RoundRobinWriter,
        batch_size=16,
        remote_config={"num_cpus": 0},
    )
    values = torch.arange(60)
    buffer.extend(TensorDict({"value": values, "square": values**2}, batch_size=[60]))
    check("what was put in is counted", len(buffer) == 60)
    sample = buffer.sample()
    check("a sample has its size", sample.batch_size == torch.Size([16]))
    check("its rows belong together", bool((sample["square"] == sample["value"] ** 2).all()))
    buffer.extend(TensorDict({"value": values + 100, "square": values}, batch_size=[60]))
    check("old rows make room", len(buffer) == 100 and int(buffer[0]["value"]) == 140)
    buffer[1] = TensorDict({"value": torch.tensor(7), "square": torch.tensor(49)}, batch_size=[])
    check("a row is replaced", int(buffer[1]["square"]) == 49)
    check("an error arrives", lambda: raises(Exception, buffer.__getitem__, 1000))
    large = TensorDict({"value": torch.arange(8), "square": torch.zeros(8).long()}, batch_size=[8])
    for _ in range(200):
        buffer.extend(large)
    check("many small ones are taken", len(buffer) == 100)
    buffer.close()
    check("a closed one is gone", not buffer.is_alive)


def policy() -> TensorDictModule:
    torch.manual_seed(0)
    return TensorDictModule(nn.Linear(3, 1), in_keys=["observation"], out_keys=["action"])


def collectors() -> None:
    collector = RayCollector(
        create_env_fn=[partial(GymEnv, "Pendulum-v1", device="cpu")] * 2,
        policy=policy(),
        collector_class=Collector,
        collector_kwargs={"device": "cpu", "storing_device": "cpu"},
        num_collectors=2,
        remote_configs=RESOURCES,
        frames_per_batch=2 * FRAMES,
        total_frames=6 * FRAMES,
        sync=True,
        update_after_each_batch=True,
    )
    check("there are two of them", collector.num_workers == 2)
    collector.set_seed(1)
    counts, followed = [], []
    for batch in collector:
        counts.append(batch.numel())
        with torch.no_grad():
            expected = collector.local_policy()(batch.select("observation").clone())
        followed.append(torch.allclose(expected["action"], batch["action"], atol=1e-4))
        with torch.no_grad():
            for weight in collector.local_policy().parameters():
                weight.mul_(0.5)
    check("all frames come", counts == [2 * FRAMES] * 3)
    check("they act as the policy says", followed[0])
    check("new weights reach them", all(followed))
    collector.shutdown(shutdown_ray=False)


class Words:
    def __init__(self) -> None:
        self.words: dict[str, int] = {}

    def number(self, word: str) -> int:
        return self.words.setdefault(word, len(self.words))


@ray.remote(num_cpus=0)
def look_up(word: str) -> int:
    words = RayService(namespace="torchrl_services")["words"]
    return ray.get(words.number.remote(word))


def services() -> None:
    registry = RayService()
    words = registry.register("words", Words, num_cpus=0)
    check("services are listed", registry.list() == ["words"] and "words" in registry)
    check("a service answers", ray.get(words.number.remote("a")) == 0)
    check("tasks find it", ray.get([look_up.remote("a"), look_up.remote("b")]) == [0, 1])
    check("a name is taken once", lambda: raises(Exception, registry.register, "words", Words))
    registry.reset()
    check("after a reset there is none", registry.list() == [])


def main() -> None:
    ray.init(num_cpus=4, object_store_memory=100_000_000, namespace="torchrl_services")
    replay_buffer()
    collectors()
    services()
    done()


if __name__ == "__main__":
    main()
