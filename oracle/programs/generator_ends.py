"""How streaming generators end: completed(), errors, dropping, cancelling, dying, retrying."""

from __future__ import annotations

import gc
import os
import pickle

from oracle.cases import Gate, Tally, attempt, case, ray, run


@ray.remote
def count_to(n):
    # Not `yield from range(n)`: Ray fails there, see `yield_from_something_that_is_no_generator`.
    yield from (number for number in range(n))


@ray.remote
def fail_after(n, kind=ValueError):
    yield from (number for number in range(n))
    raise kind("broken")


@ray.remote
def add(value, other=1):
    return value + other


def values(generator):
    return [ray.get(ref) for ref in generator]


@case
def completed_gives_a_ref():
    generator = count_to.remote(2)
    done = generator.completed()
    return type(done).__name__, attempt(ray.get, done, timeout=10)


@case
def completed_is_ready_only_at_the_end():
    gate = Gate()

    @ray.remote
    def stop_in_the_middle():
        yield 1
        gate.wait()

    generator = stop_in_the_middle.remote()
    next(generator)
    before = len(ray.wait([generator.completed()], timeout=0.2)[0])
    gate.open()
    return before, len(ray.wait([generator.completed()], timeout=10)[0])


@case
def completed_of_a_generator_that_failed():
    generator = fail_after.remote(1)
    return attempt(ray.get, generator.completed(), timeout=10)


@case
def is_finished():
    generator = count_to.remote(1)
    before = attempt(generator.is_finished)
    values(generator)
    return before, attempt(generator.is_finished)


@case
def next_ready():
    generator = count_to.remote(1)
    ray.wait([generator], timeout=10)
    return attempt(generator.next_ready)


@case
def the_id_of_the_task():
    generator = count_to.remote(1)
    ref = next(generator)
    return ref.task_id() == generator.task_id() if hasattr(generator, "task_id") else "no task_id"


@case(differs="names its task")
def the_repr():
    return repr(count_to.remote(1)).split(" object at ")[0].split(".")[-1]


@case
def a_generator_cannot_be_pickled():
    return attempt(pickle.dumps, count_to.remote(1))


@case
def a_generator_as_an_argument():
    return attempt(add.remote, count_to.remote(1))


@case
def a_generator_inside_of_an_argument():
    return attempt(add.remote, [count_to.remote(1)])


@case
def a_generator_as_a_put_value():
    return attempt(ray.put, count_to.remote(1))


@case
def returning_a_generator_of_another_task():
    @ray.remote(max_retries=0)
    def outer():
        return count_to.remote(2)

    return attempt(ray.get, outer.remote(), timeout=15)


@case
def iterating_inside_of_a_task():
    @ray.remote
    def outer():
        return values(count_to.remote(4))

    return ray.get(outer.remote())


@case
def refs_of_a_generator_as_arguments():
    return ray.get([add.remote(ref) for ref in count_to.remote(3)])


@case
def refs_outlive_the_generator():
    generator = count_to.remote(2)
    refs = [next(generator), next(generator)]
    del generator
    gc.collect()
    return ray.get(refs)


@case
def dropping_a_generator_stops_nothing_bad():
    generator = count_to.remote(100)
    next(generator)
    del generator
    gc.collect()
    return ray.get(add.remote(1))


@case
def a_dropped_generator_is_cancelled_or_runs_on():
    gate, started, over = Gate(), Gate(), Gate()

    @ray.remote
    def long():
        started.open()
        yield 1
        gate.wait()
        yield 2
        over.open()

    generator = long.remote()
    started.wait()
    next(generator)
    del generator
    gc.collect()
    gate.open()
    return attempt(over.wait, 10)


@case
def a_dropped_unbounded_generator_stops():
    gone = Gate()

    @ray.remote
    def forever():
        try:
            number = 0
            while True:
                yield number
                number += 1
                if number > 20_000:
                    return
        finally:
            gone.open()

    generator = forever.remote()
    next(generator)
    del generator
    gc.collect()
    return attempt(gone.wait, 15)


@case
def cancelling_a_generator():
    gate, started = Gate(), Gate()

    @ray.remote
    def long():
        yield 1
        started.open()
        gate.wait()
        yield 2

    generator = long.remote()
    first = ray.get(next(generator))
    started.wait()
    ray.cancel(generator)
    found = [attempt(lambda: attempt(ray.get, next(generator), timeout=10)) for _ in range(3)]
    return first, found


@case
def cancelling_a_generator_by_force():
    gate, started = Gate(), Gate()

    @ray.remote
    def long():
        yield 1
        started.open()
        gate.wait()
        yield 2

    generator = long.remote()
    first = ray.get(next(generator))
    started.wait()
    ray.cancel(generator, force=True)
    found = [attempt(lambda: attempt(ray.get, next(generator), timeout=10)) for _ in range(3)]
    return first, found


@case
def cancelling_a_pending_generator():
    gate, started = Gate(), Gate()

    @ray.remote(num_cpus=4)
    def hold():
        started.open()
        gate.wait()

    held = hold.remote()
    started.wait()
    generator = count_to.remote(3)
    ray.cancel(generator)
    found = [attempt(lambda: attempt(ray.get, next(generator), timeout=10)) for _ in range(2)]
    gate.open()
    ray.get(held)
    return found


@case
def cancelling_a_finished_generator():
    generator = count_to.remote(2)
    ray.get(generator.completed())
    ray.cancel(generator)
    return values(generator)


@case
def completed_of_a_cancelled_generator():
    gate, started = Gate(), Gate()

    @ray.remote
    def long():
        yield 1
        started.open()
        gate.wait()

    generator = long.remote()
    started.wait()
    ray.cancel(generator)
    return attempt(ray.get, generator.completed(), timeout=10)


@case
def cancelling_a_generator_by_one_of_its_refs():
    gate, started = Gate(), Gate()

    @ray.remote
    def long():
        yield 1
        started.open()
        gate.wait()
        yield 2

    generator = long.remote()
    first = next(generator)
    started.wait()
    answer = attempt(ray.cancel, first)
    return answer, attempt(ray.get, first), attempt(lambda: attempt(ray.get, next(generator)))


@case
def a_worker_that_dies_in_the_middle():
    @ray.remote(max_retries=0)
    def die():
        yield 1
        os._exit(1)

    generator = die.remote()
    return [attempt(lambda: attempt(ray.get, next(generator), timeout=15)) for _ in range(3)]


@case
def a_generator_that_is_retried_starts_again():
    tally = Tally()

    @ray.remote(max_retries=1)
    def die_once():
        call = tally.add()
        yield 1
        yield 2
        if call == 1:
            os._exit(1)
        yield 3

    return values(die_once.remote()), tally.count()


@case
def a_generator_with_retry_exceptions():
    tally = Tally()

    @ray.remote(max_retries=1, retry_exceptions=True)
    def fail_once():
        call = tally.add()
        yield call
        if call == 1:
            raise ValueError("first")
        yield 2

    return values(fail_once.remote()), tally.count()


if __name__ == "__main__":
    run()
