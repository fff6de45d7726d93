"""Pi by the Monte Carlo method: random points in a square, counted inside the circle.

Each task draws 3 million points, in plain Python, one task per CPU. A task
seeds its generator with its own number first, so the serial and the parallel
run draw the same points and their counts can be compared exactly.
"""

import logging
import math
import os
import random

import measure
import mobula as ray
from tqdm import tqdm

NUM_SAMPLING_TASKS = os.cpu_count()
NUM_SAMPLES_PER_TASK = 3_000_000
QUICK_NUM_SAMPLES_PER_TASK = 200_000


def sampling_task(num_samples: int, task_id: int, verbose=True) -> int:
    num_inside = 0
    for _ in range(num_samples):
        x, y = random.uniform(-1, 1), random.uniform(-1, 1)
        if math.hypot(x, y) <= 1:
            num_inside += 1
    if verbose:
        print(f"Task id: {task_id} | Samples in the circle: {num_inside}")
    return num_inside


def seeded_sampling_task(num_samples: int, task_id: int, verbose=True) -> int:
    random.seed(task_id)
    return sampling_task(num_samples, task_id, verbose)


@ray.remote
def sample_task_distributed(num_samples: int, task_id: int, verbose: bool) -> int:
    return seeded_sampling_task(num_samples, task_id, verbose)


@ray.remote
def warm_up():
    sampling_task(1_000, 0, verbose=False)
    return os.getpid()


def run_serial(num_samples: int, verbose: bool, measurement) -> list[int]:
    return [
        seeded_sampling_task(num_samples, task_id, verbose)
        for task_id in measurement.serially(range(NUM_SAMPLING_TASKS))
    ]


def run_distributed(num_samples: int, verbose: bool) -> list[int]:
    refs = [
        sample_task_distributed.remote(num_samples, i, verbose) for i in range(NUM_SAMPLING_TASKS)
    ]
    waiting = refs
    with tqdm(total=len(refs), desc="parallel", **measure.BAR) as bar:
        while waiting:
            done, waiting = ray.wait(waiting)
            bar.update(len(done))
    return ray.get(refs)


def calculate_pi(results: list[int], num_samples: int) -> float:
    return 4 * sum(results) / (num_samples * len(results))


def main():
    measurement = measure.Measurement("monte_carlo_pi", __doc__)
    num_samples = QUICK_NUM_SAMPLES_PER_TASK if measurement.quick else NUM_SAMPLES_PER_TASK
    measurement.say(f"{NUM_SAMPLING_TASKS} tasks of {num_samples:,} samples each")

    sampling_task(1_000, 0, verbose=False)
    with measurement.phase("init"):
        ray.init(logging_level=logging.ERROR)
    cpus = int(ray.cluster_resources()["CPU"])
    with measurement.phase("warm-up"):
        measurement.until_every_worker_answers(
            cpus, lambda: ray.get([warm_up.remote() for _ in range(cpus)])
        )

    for number in measurement.rounds():
        verbose = number == 1  # The rounds draw the same points: once is enough to read.
        with measurement.phase("serial"):
            serial = run_serial(num_samples, verbose, measurement)
        with measurement.phase("parallel"):
            distributed = run_distributed(num_samples, verbose)
        measurement.compare(serial == distributed)

    pi = calculate_pi(distributed, num_samples)
    measurement.say(f"pi is about {pi:.6f}")

    measurement.finish(
        tasks=NUM_SAMPLING_TASKS,
        cpus=cpus,
        function="sample_task_distributed",
        timeline=ray.timeline,
        details={"samples_per_task": num_samples, "pi": pi},
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
