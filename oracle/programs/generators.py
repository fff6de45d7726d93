"""Streaming generators: what they give, iterating, waiting, passing them on."""

from __future__ import annotations

import asyncio

from oracle.cases import Gate, attempt, case, raised, ray, run


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
def what_a_generator_task_returns():
    return type(count_to.remote(2)).__name__


@case
def the_type_is_public():
    generator = count_to.remote(2)
    return isinstance(generator, ray.ObjectRefGenerator), hasattr(ray, "DynamicObjectRefGenerator")


@case
def the_public_names_of_the_type():
    return sorted(name for name in dir(ray.ObjectRefGenerator) if not name.startswith("_"))


@case
def the_protocols_of_the_type():
    names = [
        "__iter__",
        "__next__",
        "__aiter__",
        "__anext__",
        "__len__",
        "send",
        "throw",
        "close",
        "__await__",
    ]
    return {name: hasattr(ray.ObjectRefGenerator, name) for name in names}


@case
def it_yields_refs_in_order():
    refs = list(count_to.remote(5))
    return [type(ref).__name__ for ref in refs], ray.get(refs)


@case
def the_values_in_order():
    return values(count_to.remote(5))


@case
def an_empty_generator():
    return values(count_to.remote(0))


@case
def iter_of_it_is_itself():
    generator = count_to.remote(1)
    return iter(generator) is generator


@case
def a_second_loop_over_it_finds_nothing():
    generator = count_to.remote(3)
    return values(generator), values(generator)


@case
def next_after_the_end():
    generator = count_to.remote(1)
    next(generator)
    return attempt(next, generator), attempt(next, generator)


@case
def next_with_a_default():
    generator = count_to.remote(0)
    return next(generator, "none")


@case
def the_first_value_comes_before_the_task_ends():
    gate = Gate()

    @ray.remote
    def stop_in_the_middle():
        yield 1
        gate.wait()
        yield 2

    generator = stop_in_the_middle.remote()
    first = ray.get(next(generator))
    gate.open()
    return first, ray.get(next(generator))


@case
def the_refs_of_an_error_in_the_middle():
    generator = fail_after.remote(2)
    found = [attempt(ray.get, next(generator)) for _ in range(3)]
    return found, attempt(next, generator), attempt(next, generator)


@case(says=["broken"])
def message_of_an_error_in_the_middle():
    values(fail_after.remote(2))


@case
def an_error_before_the_first_value():
    generator = fail_after.remote(0)
    first = attempt(lambda: attempt(ray.get, next(generator)))
    return first, attempt(next, generator)


@case
def an_error_when_the_function_is_called():
    @ray.remote
    def one_argument(value):
        yield value

    return attempt(one_argument.remote)


@case
def a_failed_argument():
    @ray.remote
    def fail():
        raise ValueError("argument")

    generator = count_to.remote(fail.remote())
    first = attempt(lambda: attempt(ray.get, next(generator)))
    return first, attempt(next, generator)


@case
def stop_iteration_raised_by_the_body():
    @ray.remote
    def stop():
        yield 1
        raise StopIteration

    generator = stop.remote()
    return [attempt(ray.get, ref) for ref in generator]


@case
def the_return_value_of_the_generator_is_lost():
    @ray.remote
    def with_return():
        yield 1
        return 2

    return values(with_return.remote())


@case(differs="Ray sends an object of its own into the generator, which only a generator can take")
def yield_from_something_that_is_no_generator():
    @ray.remote(max_retries=0)
    def delegate():
        yield from range(3)

    return [attempt(ray.get, ref) for ref in delegate.remote()]


@case
def yield_from_a_generator():
    @ray.remote(max_retries=0)
    def delegate():
        yield from (number for number in range(3))

    return [attempt(ray.get, ref) for ref in delegate.remote()]


@case(differs="Ray sends statistics of its own into the body; in Mobula it is None, as in a loop")
def what_yield_evaluates_to():
    @ray.remote(max_retries=0)
    def ask():
        sent = yield 1
        yield type(sent).__name__

    return [attempt(ray.get, ref) for ref in ask.remote()]


@case
def send_throw_and_close():
    generator = count_to.remote(3)
    return (
        attempt(generator.send, None),
        attempt(generator.send, 1),
        attempt(generator.throw, ValueError("thrown")),
        attempt(generator.close),
    )


@case
def asend_athrow_and_aclose():
    generator = count_to.remote(3)

    async def use():
        found = []
        for call in (
            lambda: generator.asend(None),
            lambda: generator.asend(1),
            lambda: generator.athrow(ValueError("thrown")),
            generator.aclose,
        ):
            try:
                found.append(await call())
            except BaseException as error:
                found.append(raised(error))
        return found

    return asyncio.run(use())


@case
def yielding_none():
    @ray.remote
    def nothing():
        yield
        yield None

    return values(nothing.remote())


@case
def yielding_a_ref():
    @ray.remote
    def refs():
        yield add.remote(1)

    inner = ray.get(next(refs.remote()))
    return type(inner).__name__, ray.get(inner)


@case
def yielding_something_that_cannot_be_pickled():
    import threading

    @ray.remote(max_retries=0)
    def lock():
        yield 1
        yield threading.Lock()
        yield 3

    generator = lock.remote()
    found = []
    for _ in range(4):
        found.append(attempt(lambda: attempt(ray.get, next(generator), timeout=10)))
    return found


@case
def yielding_large_values():
    @ray.remote
    def large():
        for number in range(3):
            yield bytes([number]) * 1_000_000

    return [len(value) for value in values(large.remote())]


@case(says=["generator"])
def get_of_a_generator():
    return ray.get(count_to.remote(2))


@case
def get_of_a_list_with_a_generator():
    return attempt(ray.get, [count_to.remote(2)])


@case
def wait_for_a_generator():
    generator = count_to.remote(2)
    ready, rest = ray.wait([generator], timeout=10)
    return len(ready), len(rest), ready[0] is generator


@case
def wait_does_not_take_a_value():
    generator = count_to.remote(2)
    ray.wait([generator], timeout=10)
    ray.wait([generator], timeout=10)
    return values(generator)


@case
def wait_for_a_generator_without_values():
    gate = Gate()

    @ray.remote
    def late():
        gate.wait()
        yield 1

    generator = late.remote()
    ready, rest = ray.wait([generator], timeout=0)
    gate.open()
    return len(ready), rest[0] is generator, values(generator)


@case
def wait_for_a_generator_at_its_end():
    generator = count_to.remote(1)
    values(generator)
    ready, rest = ray.wait([generator], timeout=5)
    return len(ready), len(rest)


@case
def wait_for_generators_and_refs_together():
    gate = Gate()

    @ray.remote
    def late():
        gate.wait()
        yield 1

    generator, waiting, ref = count_to.remote(2), late.remote(), add.remote(1)
    ready, rest = ray.wait([waiting, generator, ref], num_returns=2, timeout=10)
    gate.open()
    return [type(one).__name__ for one in ready], [one is waiting for one in rest]


@case
def wait_for_a_generator_that_failed():
    generator = fail_after.remote(0)
    ready, _ = ray.wait([generator], timeout=10)
    return len(ready), attempt(ray.get, next(generator))


if __name__ == "__main__":
    run()
