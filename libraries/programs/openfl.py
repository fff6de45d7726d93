"""OpenFL's workflow interface: collaborators in Ray actors (LocalRuntime(backend="ray"))."""

from __future__ import annotations

import os

import numpy as np
import ray
from _checks import check, done
from openfl.experimental.workflow.interface import Aggregator, Collaborator, FLSpec
from openfl.experimental.workflow.placement import aggregator, collaborator
from openfl.experimental.workflow.runtime import LocalRuntime

COLLABORATORS = 4
ROUNDS = 3


def private_data(number: int) -> dict[str, np.ndarray]:
    return {"data": np.random.default_rng(number).normal(number, 1.0, 1000)}


class Means(FLSpec):
    """The mean of what all have: nobody sees what another has."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.mean = 0.0
        self.round = 0
        self.processes = []

    @aggregator
    def start(self):
        self.collaborators = self.runtime.collaborators
        self.begun_in = os.getpid()
        self.next(self.look, foreach="collaborators")

    @collaborator
    def look(self):
        self.part = float(self.data.mean())
        self.process = os.getpid()
        self.next(self.narrow)

    @collaborator
    def narrow(self):
        self.part = 0.5 * self.part + 0.5 * self.mean
        self.next(self.join)

    @aggregator
    def join(self, inputs):
        self.mean = float(np.mean([one.part for one in inputs]))
        self.processes = sorted({one.process for one in inputs})
        self.leaked = any(hasattr(one, "data") for one in inputs)
        self.round += 1
        if self.round < ROUNDS:
            self.next(self.look, foreach="collaborators")
        else:
            self.next(self.end)

    @aggregator
    def end(self):
        self.finished = True


def runtime(backend: str, **options) -> LocalRuntime:
    # OpenFL wants as many CPUs as all of them ask for.
    collaborators = [
        Collaborator(
            name=f"Hospital {number}",
            private_attributes_callable=private_data,
            number=number,
            num_cpus=0.5,
        )
        for number in range(COLLABORATORS)
    ]
    return LocalRuntime(
        aggregator=Aggregator(name="agg", num_cpus=0),
        collaborators=collaborators,
        backend=backend,
        **options,
    )


def run(backend: str, **options) -> Means:
    flow = Means()
    flow.runtime = runtime(backend, **options)
    flow.run()
    return flow


def main() -> None:
    ray.init(num_cpus=2, object_store_memory=100_000_000)
    here = run("single_process")
    one = run("ray", num_actors=1)
    two = run("ray", num_actors=2)
    check("a flow of one process ends", here.finished and here.processes == [os.getpid()])
    check("with Ray it has the same result", abs(one.mean - here.mean) < 1e-12)
    check("and with two actors", abs(two.mean - here.mean) < 1e-12)
    check("all collaborators share one actor", len(one.processes) == 1)
    check("or two", len(two.processes) == 2)
    check("actors are other processes", os.getpid() not in one.processes + two.processes)
    check("private data stay where they are", not (one.leaked or two.leaked))
    check("all rounds are done", two.round == ROUNDS and two.finished)
    done()


if __name__ == "__main__":
    main()
