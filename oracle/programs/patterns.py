"""Programs as people write them: trees, pipelines, backpressure, retries, mistakes."""

from __future__ import annotations

import collections
import dataclasses
import functools

import numpy as np

from oracle.cases import Gate, Tally, attempt, case, ray, run

SETTINGS = {"level": 0}


@ray.remote
def add(*numbers):
    return sum(numbers)


@case
def tree_reduce():
    refs = [ray.put(i) for i in range(16)]
    while len(refs) > 1:
        refs = [add.remote(*refs[i : i + 2]) for i in range(0, len(refs), 2)]
    return ray.get(refs[0])


@case
def map_and_reduce_by_key():
    @ray.remote(num_returns=3)
    def partition(words):
        parts = [[], [], []]
        for word in words:
            parts[len(word) % 3].append(word)
        return parts

    @ray.remote
    def count(*parts):
        return dict(sorted(collections.Counter(word for part in parts for word in part).items()))

    texts = ["a bb ccc a", "bb bb dddd", "ccc a"]
    mapped = [partition.remote(text.split()) for text in texts]
    return ray.get([count.remote(*[parts[i] for parts in mapped]) for i in range(3)])


@case
def at_most_four_in_flight():
    @ray.remote
    def square(x):
        return x * x

    running, results, most = [], [], 0
    for i in range(40):
        if len(running) == 4:
            ready, running = ray.wait(running, num_returns=1)
            results += ray.get(ready)
        running.append(square.remote(i))
        most = max(most, len(running))
    results += ray.get(running)
    return sorted(results) == [i * i for i in range(40)], most


@case
def a_pipeline_of_tasks_over_arrays():
    @ray.remote
    def make(seed):
        return np.random.default_rng(seed).random(50_000)

    @ray.remote
    def scale(array, by):
        return array * by

    @ray.remote
    def total(*arrays):
        return round(float(sum(array.sum() for array in arrays)), 6)

    return ray.get(total.remote(*[scale.remote(make.remote(seed), 2) for seed in range(4)]))


@case
def an_array_from_the_store_cannot_be_written():
    array = ray.get(ray.put(np.zeros(100_000)))
    return array.flags.writeable, attempt(array.__setitem__, 0, 1.0)


@case
def a_task_cannot_write_into_its_array():
    @ray.remote(max_retries=0)
    def write(array):
        array[0] = 1

    return attempt(ray.get, write.remote(np.zeros(100_000)))


@case
def quicksort_by_tasks():
    @ray.remote
    def sort(values, depth):
        if depth == 0 or len(values) < 2:
            return sorted(values)
        pivot, *rest = values
        low = sort.remote([v for v in rest if v < pivot], depth - 1)
        high = sort.remote([v for v in rest if v >= pivot], depth - 1)
        return [*ray.get(low), pivot, *ray.get(high)]

    values = [(i * 37) % 101 for i in range(101)]
    return ray.get(sort.remote(values, 3)) == sorted(values)


@case
def partial_functions_and_lambdas_as_arguments():
    @ray.remote
    def apply(function, value):
        return function(value)

    return ray.get(
        [apply.remote(functools.partial(pow, 2), 5), apply.remote(lambda x: [x, x], "a")]
    )


@case
def a_dataclass_goes_there_and_back():
    @dataclasses.dataclass
    class Point:
        x: int
        y: int = 2

    @ray.remote
    def mirror(point):
        return Point(point.y, point.x)

    point = ray.get(mirror.remote(Point(1)))
    return point == Point(2, 1), isinstance(point, Point)


@case
def a_global_is_read_when_the_function_is_first_sent():
    @ray.remote
    def read():
        return SETTINGS["level"]

    SETTINGS["level"] = 1
    first = ray.get(read.remote())
    SETTINGS["level"] = 2
    return first, ray.get(read.remote())


@case
def a_global_changed_by_a_task_stays_as_it_is_here():
    @ray.remote
    def change():
        SETTINGS["other"] = 1
        return len(SETTINGS)

    before = len(SETTINGS)
    ray.get(change.remote())
    return len(SETTINGS) == before


@case
def a_retry_until_it_works():
    tally = Tally()

    @ray.remote(max_retries=5, retry_exceptions=[ConnectionError])
    def flaky():
        if tally.add() < 3:
            raise ConnectionError("again")
        return tally.count()

    return ray.get(flaky.remote())


@case
def the_first_of_several_wins_and_the_rest_are_cancelled():
    gates = [Gate() for _ in range(3)]

    @ray.remote(max_retries=0)
    def race(gate, number):
        gate.wait()
        return number

    refs = [race.remote(gate, i) for i, gate in enumerate(gates)]
    gates[1].open()
    ready, rest = ray.wait(refs)
    for ref in rest:
        ray.cancel(ref)
    # Whether a task had started when it was cancelled is open.
    cancelled = ["TaskCancelledError" in attempt(ray.get, ref) for ref in rest]
    return ray.get(ready), cancelled


@case
def an_error_in_one_of_many_is_raised_by_get_and_the_others_are_there():
    @ray.remote(max_retries=0)
    def check(x):
        if x == 3:
            raise ValueError(f"bad {x}")
        return x

    refs = [check.remote(i) for i in range(6)]
    return attempt(ray.get, refs), [attempt(ray.get, ref) for ref in refs]


@case
def refs_as_keys_and_in_sets():
    refs = [ray.put(i) for i in range(3)]
    names = {ref: i for i, ref in enumerate(refs)}
    ready, _ = ray.wait(refs, num_returns=3)
    return sorted(names[ref] for ref in ready), len({*refs, *ready})


@case
def a_ref_passed_on_through_three_tasks():
    @ray.remote
    def wrap(inside, depth):
        return inside if depth == 0 else wrap.remote(inside, depth - 1)

    value = ray.get(wrap.remote([ray.put("deep")], 3))
    hops = 0
    while not isinstance(value, list):
        value = ray.get(value)
        hops += 1
    return hops, ray.get(value[0])


@case
def a_generator_feeds_tasks():
    @ray.remote
    def chunks():
        for i in range(5):
            yield list(range(i))

    return sorted(ray.get([add.remote(*ray.get(ref)) for ref in chunks.remote()]))


@case
def options_twice_and_a_call_without_them():
    @ray.remote(num_returns=2)
    def pair():
        return 1, 2

    one = pair.options(num_returns=1)
    return ray.get(one.remote()), ray.get(pair.remote()), ray.get(one.options(name="x").remote())


if __name__ == "__main__":
    run()
