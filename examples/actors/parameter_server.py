"""Workers train on their own data and share one model through an actor.

The model is a linear one, so that the result can be compared with the exact solution. In each round
every worker takes the weights, computes the gradient on its shard, and the server applies their mean:
synchronous data-parallel training. Then the same without rounds: each worker sends its gradient as
soon as it has one, and takes the newest weights.
"""

import mobula as ray
import numpy as np

FEATURES = 20
ROWS_PER_SHARD = 2_000
WORKERS = 4
ROUNDS = 60
LEARNING_RATE = 0.3
# What the asynchronous run may differ from the exact solution: its gradients come late.
TOLERANCE = 0.05


@ray.remote(num_cpus=0)
class ParameterServer:
    def __init__(self, size, learning_rate):
        self.weights = np.zeros(size)
        self.learning_rate = learning_rate

    def apply(self, *gradients):
        # An array that arrives is read-only and may be in use elsewhere: make a new one.
        self.weights = self.weights - self.learning_rate * np.mean(gradients, axis=0)
        return self.weights

    def get_weights(self):
        return self.weights


@ray.remote(num_cpus=0.5)
class Worker:
    def __init__(self, shard, truth):
        random = np.random.default_rng(shard)
        self.inputs = random.normal(size=(ROWS_PER_SHARD, FEATURES))
        self.targets = self.inputs @ truth + 0.01 * random.normal(size=ROWS_PER_SHARD)

    def gradient(self, weights):
        error = self.inputs @ weights - self.targets
        return self.inputs.T @ error / len(error)


def train_in_rounds(workers):
    server = ParameterServer.remote(FEATURES, LEARNING_RATE)
    weights = server.get_weights.remote()
    for _ in range(ROUNDS):
        # Refs are passed on as they are: nothing comes here, and no round waits for this loop.
        gradients = [worker.gradient.remote(weights) for worker in workers]
        weights = server.apply.remote(*gradients)
    return ray.get(weights)


def train_without_rounds(workers):
    server = ParameterServer.remote(FEATURES, LEARNING_RATE / WORKERS)
    busy = {worker.gradient.remote(server.get_weights.remote()): worker for worker in workers}
    for _ in range(ROUNDS * WORKERS):
        (ready,), _ = ray.wait(list(busy))
        worker = busy.pop(ready)
        busy[worker.gradient.remote(server.apply.remote(ready))] = worker
    return ray.get(server.get_weights.remote())


def main():
    ray.init(num_cpus=2)
    truth = np.linspace(-1, 1, FEATURES)
    workers = [Worker.remote(shard, truth) for shard in range(WORKERS)]

    for train in (train_in_rounds, train_without_rounds):
        error = float(np.abs(train(workers) - truth).max())
        print(f"{train.__name__}: largest error of a weight {error:.4f}")
        assert error < TOLERANCE
    ray.shutdown()


if __name__ == "__main__":
    main()
