"""Flower: clients simulated by Ray actors (run_simulation, and the older start_simulation)."""

from __future__ import annotations

import flwr
import numpy as np
from _checks import check, done
from flwr.client import ClientApp, NumPyClient
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation

CLIENTS = 6
ROUNDS = 3
TRUE = np.array([2.0, -1.0, 0.5])


class Regression(NumPyClient):
    """Least squares by gradient descent, on data that only this client has."""

    def __init__(self, number: int) -> None:
        random = np.random.default_rng(number)
        self.number = number
        self.inputs = random.normal(size=(20 + 10 * number, 3))
        self.outputs = self.inputs @ TRUE

    def get_parameters(self, config):
        return [np.zeros(3)]

    def fit(self, parameters, config):
        weights = parameters[0]
        for _ in range(30):
            gradient = self.inputs.T @ (self.inputs @ weights - self.outputs) / len(self.inputs)
            weights = weights - 0.1 * gradient
        return [weights], len(self.inputs), {"number": self.number}

    def evaluate(self, parameters, config):
        if config.get("fail") == self.number:
            raise RuntimeError("this client is away")
        loss = float(np.mean((self.inputs @ parameters[0] - self.outputs) ** 2))
        return loss, len(self.inputs), {"number": self.number}


def client_fn(context: Context):
    return Regression(int(context.node_config["partition-id"])).to_client()


class Keeping(FedAvg):
    """Remembers what came from the clients."""

    def __init__(self, **options) -> None:
        super().__init__(
            min_fit_clients=CLIENTS,
            min_available_clients=CLIENTS,
            min_evaluate_clients=CLIENTS,
            initial_parameters=ndarrays_to_parameters([np.zeros(3)]),
            **options,
        )
        self.fitted: list[set[int]] = []
        self.losses: list[float] = []
        self.failed: list[int] = []
        self.weights = np.zeros(3)

    def aggregate_fit(self, server_round, results, failures):
        self.fitted.append({int(result.metrics["number"]) for _, result in results})
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        self.weights = flwr.common.parameters_to_ndarrays(parameters)[0]
        return parameters, metrics

    def aggregate_evaluate(self, server_round, results, failures):
        self.failed.append(len(failures))
        loss, metrics = super().aggregate_evaluate(server_round, results, failures)
        self.losses.append(loss)
        return loss, metrics


def simulate(strategy: Keeping, resources: dict[str, float]) -> None:
    def server_fn(context: Context):
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=ROUNDS))

    run_simulation(
        server_app=ServerApp(server_fn=server_fn),
        client_app=ClientApp(client_fn=client_fn),
        num_supernodes=CLIENTS,
        backend_config={
            "init_args": {"num_cpus": 2, "object_store_memory": 100_000_000},
            "client_resources": resources,
        },
    )


def main() -> None:
    strategy = Keeping()
    simulate(strategy, {"num_cpus": 1, "num_gpus": 0.0})
    check("all rounds are done", len(strategy.fitted) == len(strategy.losses) == ROUNDS)
    check("all clients take part in each", strategy.fitted == [set(range(CLIENTS))] * ROUNDS)
    check("losses fall", strategy.losses[0] > strategy.losses[-1])
    check("the weights are found", bool(np.allclose(strategy.weights, TRUE, atol=0.05)))

    strategy = Keeping(on_evaluate_config_fn=lambda number: {"fail": 4})
    simulate(strategy, {"num_cpus": 2, "num_gpus": 0.0})
    check("a second simulation starts after the first", strategy.fitted[0] == set(range(CLIENTS)))
    check("a client that fails is one failure", strategy.failed == [1] * ROUNDS)

    strategy = Keeping()
    history = flwr.simulation.start_simulation(
        client_fn=client_fn,
        num_clients=CLIENTS,
        config=ServerConfig(num_rounds=2),
        strategy=strategy,
        ray_init_args={"num_cpus": 2, "include_dashboard": False},
        client_resources={"num_cpus": 1, "num_gpus": 0.0},
    )
    check("start_simulation does its rounds", len(history.losses_distributed) == 2)
    check("its clients take part", strategy.fitted == [set(range(CLIENTS))] * 2)
    done()


if __name__ == "__main__":
    main()
