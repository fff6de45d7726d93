"""Actors make actors: a supervisor has workers of its own, which end with it.

A number of supervisors each search a part of a range for primes and give parts of their part to
their workers. The driver knows the supervisors only. When it lets go of them, the workers, whose
handles nobody else has, go too.
"""

import itertools
import os

import mobula as ray

SUPERVISORS = 2
WORKERS_EACH = 3
LIMIT = 30_000


@ray.remote(num_cpus=0)
class Worker:
    def count_primes(self, start, stop):
        return sum(1 for n in range(max(2, start), stop) if is_prime(n))

    def pid(self):
        return os.getpid()


@ray.remote(num_cpus=0)
class Supervisor:
    def __init__(self, workers):
        self.workers = [Worker.remote() for _ in range(workers)]

    def count_primes(self, start, stop):
        bounds = split(start, stop, len(self.workers))
        return sum(
            ray.get(
                [
                    worker.count_primes.remote(*bound)
                    for worker, bound in zip(self.workers, bounds, strict=True)
                ]
            )
        )

    def pids(self):
        return [os.getpid(), *ray.get([worker.pid.remote() for worker in self.workers])]


def is_prime(n):
    return all(n % divisor for divisor in range(2, int(n**0.5) + 1))


def split(start, stop, parts):
    edges = [start + (stop - start) * i // parts for i in range(parts + 1)]
    return list(itertools.pairwise(edges))


def main():
    ray.init(num_cpus=2)
    supervisors = [Supervisor.remote(WORKERS_EACH) for _ in range(SUPERVISORS)]
    pids = [pid for part in ray.get([s.pids.remote() for s in supervisors]) for pid in part]
    print(f"{SUPERVISORS} supervisors with {WORKERS_EACH} workers each: {len(set(pids))} processes")
    assert len(set(pids)) == SUPERVISORS * (1 + WORKERS_EACH)

    bounds = split(0, LIMIT, SUPERVISORS)
    counts = [s.count_primes.remote(*b) for s, b in zip(supervisors, bounds, strict=True)]
    total = sum(ray.get(counts))
    print(f"primes below {LIMIT}: {total}")
    assert total == sum(1 for n in range(2, LIMIT) if is_prime(n))
    ray.shutdown()


if __name__ == "__main__":
    main()
