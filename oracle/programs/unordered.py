"""ray.util.as_completed and ray.util.map_unordered."""

from __future__ import annotations

import threading

from oracle.cases import Gate, attempt, case, ray, run


@ray.remote
def double(value):
    return value * 2


@ray.remote
def fail(value):
    raise ValueError(value)


@ray.remote
def wait_for(gate, value):
    gate.wait()
    return value


@case
def as_completed_gives_all_values():
    return sorted(ray.util.as_completed([double.remote(i) for i in range(25)]))


@case
def as_completed_is_an_iterator():
    found = ray.util.as_completed([double.remote(1)])
    return type(found).__name__, iter(found) is found


@case
def as_completed_gives_what_is_ready_first():
    gate = Gate()
    late = wait_for.remote(gate, "late")
    found = ray.util.as_completed([late, double.remote(1)], chunk_size=1)
    first = next(found)
    gate.open()
    return first, next(found)


@case
def as_completed_with_refs():
    refs = [double.remote(i) for i in range(3)]
    return set(ray.util.as_completed(refs, yield_obj_refs=True)) == set(refs)


@case
def as_completed_of_nothing():
    return attempt(lambda: list(ray.util.as_completed([])))


@case
def as_completed_with_an_error():
    return attempt(lambda: list(ray.util.as_completed([fail.remote(1)])))


@case(differs="takes any iterable of refs")
def as_completed_of_other_things():
    return {
        "numbers": attempt(lambda: list(ray.util.as_completed([1, 2]))),
        "one ref": attempt(lambda: list(ray.util.as_completed(double.remote(1)))),
        "tuple": attempt(lambda: list(ray.util.as_completed((double.remote(1),)))),
        "generator": attempt(
            lambda: list(ray.util.as_completed(double.remote(i) for i in range(2)))
        ),
    }


@case
def as_completed_with_odd_sizes():
    def use(size):
        return sorted(ray.util.as_completed([double.remote(i) for i in range(3)], chunk_size=size))

    return {size: attempt(use, size) for size in (1, 2, 3, 100, 0, -1)}


@case
def as_completed_with_duplicates():
    ref = double.remote(1)
    return attempt(lambda: list(ray.util.as_completed([ref, ref])))


@case
def as_completed_waits_again_after_the_timeout_of_wait():
    gate = Gate()
    threading.Timer(0.3, gate.open).start()
    return list(ray.util.as_completed([wait_for.remote(gate, 1)], timeout=0.05))


@case
def as_completed_with_an_unknown_option():
    return attempt(lambda: list(ray.util.as_completed([double.remote(1)], wrong=1)))


@case
def as_completed_takes_options_by_keyword_only():
    return attempt(lambda: list(ray.util.as_completed([double.remote(1)], 1)))


@case
def map_unordered_gives_all_values():
    return sorted(ray.util.map_unordered(double, range(25)))


@case
def map_unordered_is_lazy_about_its_items():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    found = ray.util.map_unordered(double, items(), backpressure_size=4, chunk_size=2)
    next(found)
    return len(taken) < 100


@case
def map_unordered_with_refs():
    refs = list(ray.util.map_unordered(double, range(3), yield_obj_refs=True))
    return [type(ref).__name__ for ref in refs], sorted(ray.get(refs))


@case
def map_unordered_of_nothing():
    return attempt(lambda: list(ray.util.map_unordered(double, [])))


@case
def map_unordered_with_an_error():
    return attempt(lambda: list(ray.util.map_unordered(fail, [1])))


@case
def map_unordered_with_odd_sizes():
    def use(**options):
        return sorted(ray.util.map_unordered(double, range(5), **options))

    return {
        "small": attempt(use, backpressure_size=1, chunk_size=1),
        "chunk above backpressure": attempt(use, backpressure_size=2, chunk_size=3),
        "zero": attempt(use, backpressure_size=0),
        "negative": attempt(use, backpressure_size=-1),
        "no chunk": attempt(use, chunk_size=0),
    }


@case(differs="a TypeError that says what is wrong")
def map_unordered_of_a_plain_function():
    return attempt(lambda: list(ray.util.map_unordered(len, ["a"])))


@case
def map_unordered_with_options_of_the_function():
    return sorted(ray.util.map_unordered(double.options(num_cpus=2), range(3)))


if __name__ == "__main__":
    run()
