"""An actor is a class whose state lives in one process, used from anywhere by its handle."""

import os

import mobula as ray


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def increment(self, by=1):
        self.value += by
        return self.value

    def where(self):
        return os.getpid()


@ray.remote
def count_to(counter, n):
    # A task was given the handle; its calls go to the same object.
    return ray.get([counter.increment.remote() for _ in range(n)])[-1]


def main():
    ray.init(num_cpus=2)
    counter = Counter.remote(10)
    print("first call:", ray.get(counter.increment.remote()))

    ray.get([count_to.remote(counter, 100) for _ in range(5)])
    total = ray.get(counter.increment.remote(by=0))
    print("after five tasks of 100 calls each:", total)
    assert total == 511
    assert ray.get(counter.where.remote()) != os.getpid()
    ray.shutdown()


if __name__ == "__main__":
    main()
