"""Fibonacci numbers: the same Python function, called in a loop and run as tasks.

Each call builds a list of 100,000 numbers of up to 20,899 digits, some 430 MB.
There is one call per CPU, as in the first example of the tour.
"""

import logging
import os

import measure
import mobula as ray
from tqdm import tqdm

SEQUENCE_SIZE = 100_000
QUICK_SEQUENCE_SIZE = 10_000
NUM_TASKS = os.cpu_count()
ROUNDS = 5  # They are short, and their times differ a lot: see docs/tour.md.


def generate_fibonacci(sequence_size):
    """Returns how many numbers were made, and the last one: a length alone would prove little."""
    fibonacci = []
    for i in range(sequence_size):
        if i < 2:
            fibonacci.append(i)
            continue
        fibonacci.append(fibonacci[i - 1] + fibonacci[i - 2])
    return len(fibonacci), fibonacci[-1]


@ray.remote
def generate_fibonacci_distributed(sequence_size):
    return generate_fibonacci(sequence_size)


@ray.remote
def warm_up():
    generate_fibonacci(1_000)
    return os.getpid()


def run_local(sequence_size, measurement):
    return [generate_fibonacci(sequence_size) for _ in measurement.serially(range(NUM_TASKS))]


def run_remote(sequence_size):
    refs = [generate_fibonacci_distributed.remote(sequence_size) for _ in range(NUM_TASKS)]
    waiting = refs
    with tqdm(total=len(refs), desc="parallel", **measure.BAR) as bar:
        while waiting:
            done, waiting = ray.wait(waiting)
            bar.update(len(done))
    return ray.get(refs)


def main():
    measurement = measure.Measurement("fibonacci", __doc__)
    sequence_size = QUICK_SEQUENCE_SIZE if measurement.quick else SEQUENCE_SIZE
    measurement.say(f"{NUM_TASKS} tasks of {sequence_size:,} numbers each")

    generate_fibonacci(1_000)
    with measurement.phase("init"):
        ray.init(logging_level=logging.ERROR)
    cpus = int(ray.cluster_resources()["CPU"])
    with measurement.phase("warm-up"):
        measurement.until_every_worker_answers(
            cpus, lambda: ray.get([warm_up.remote() for _ in range(cpus)])
        )

    for _ in measurement.rounds(ROUNDS):
        with measurement.phase("serial"):
            local = run_local(sequence_size, measurement)
        with measurement.phase("parallel"):
            remote = run_remote(sequence_size)
        measurement.compare(local == remote)

    measurement.finish(
        tasks=NUM_TASKS,
        cpus=cpus,
        function="generate_fibonacci_distributed",
        timeline=ray.timeline,
        details={"sequence_size": sequence_size},
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
