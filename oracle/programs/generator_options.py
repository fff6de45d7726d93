"""Options of generators: backpressure, "streaming", "dynamic", numbers; async iteration."""

from __future__ import annotations

import asyncio

from oracle.cases import Tally, attempt, case, lineage, raised, ray, run


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
def backpressure_holds_the_generator():
    tally = Tally()

    @ray.remote(_generator_backpressure_num_objects=2)
    def produce():
        for number in range(10):
            tally.add()
            yield number

    generator = produce.remote()
    ray.wait([generator], timeout=10)
    first = ray.get(next(generator))
    ahead = tally.count()
    rest = values(generator)
    return first, ahead <= 5, rest, tally.count()


@case(says=["backpressure"])
def backpressure_of_zero():
    count_to.options(_generator_backpressure_num_objects=0).remote(1)


@case
def backpressure_off():
    return values(count_to.options(_generator_backpressure_num_objects=-1).remote(3))


@case(says=["int"])
def backpressure_of_a_text():
    count_to.options(_generator_backpressure_num_objects="2").remote(1)


@case
def streaming_as_an_option():
    return values(count_to.options(num_returns="streaming").remote(3))


@case
def streaming_of_a_plain_function():
    return attempt(add.options(num_returns="streaming").remote, 1)


@case(says=["streaming"])
def streaming_of_a_plain_function_in_the_decorator():
    @ray.remote(num_returns="streaming")
    def plain_function():
        return [1, 2]

    return values(plain_function.remote())


@case(says=["dynamic"])
def dynamic_of_a_plain_function_in_the_decorator():
    @ray.remote(num_returns="dynamic")
    def plain_function():
        return [1, 2]

    return values(plain_function.remote())


@case
def an_unknown_text_for_num_returns():
    count_to.options(num_returns="all").remote(1)


@case
def dynamic_returns_a_ref_of_a_generator():
    ref = count_to.options(num_returns="dynamic").remote(3)
    generator = ray.get(ref)
    return type(ref).__name__, type(generator).__name__, [ray.get(inner) for inner in generator]


@case
def dynamic_generators_have_a_length():
    generator = ray.get(count_to.options(num_returns="dynamic").remote(3))
    return len(generator), len(list(generator)), len(list(generator))


@case
def dynamic_with_an_error_in_the_middle():
    ref = fail_after.options(num_returns="dynamic").remote(2)
    found = attempt(ray.get, ref)
    if isinstance(found, str):
        return found
    return [attempt(ray.get, inner) for inner in found]


@case
def dynamic_with_an_error_at_once():
    found = attempt(ray.get, fail_after.options(num_returns="dynamic").remote(0))
    if isinstance(found, str):
        return found
    return [attempt(ray.get, inner) for inner in found]


@case
def dynamic_ref_passed_to_another_task():
    @ray.remote
    def total(generator):
        return sum(ray.get(ref) for ref in generator)

    return ray.get(total.remote(count_to.options(num_returns="dynamic").remote(4)))


@case
def a_number_of_returns():
    refs = count_to.options(num_returns=3).remote(3)
    return type(refs).__name__, ray.get(refs)


@case
def a_number_of_returns_with_too_few_values():
    refs = count_to.options(num_returns=3).remote(2)
    return [attempt(ray.get, ref) for ref in refs]


@case
def a_number_of_returns_with_too_many_values():
    refs = count_to.options(num_returns=2).remote(3)
    return [attempt(ray.get, ref) for ref in refs]


@case
def a_number_of_returns_with_an_error_in_the_middle():
    refs = fail_after.options(num_returns=3).remote(1)
    return [attempt(ray.get, ref) for ref in refs]


@case
def one_return_of_a_generator_function():
    ref = count_to.options(num_returns=1).remote(1)
    return type(ref).__name__, attempt(ray.get, ref)


@case
def a_function_that_returns_a_generator_is_no_generator():
    @ray.remote(max_retries=0)
    def give():
        return (number for number in range(3))

    ref = give.remote()
    return type(ref).__name__, attempt(ray.get, ref, timeout=15)


@case
def async_iteration():
    async def collect():
        return [await ref async for ref in count_to.remote(3)]

    return asyncio.run(collect())


@case
def async_iteration_over_an_error():
    async def collect():
        found = []
        async for ref in fail_after.remote(1):
            try:
                found.append(await ref)
            except Exception as error:
                found.append(raised(error))
        return found

    return asyncio.run(collect())


@case
def anext_after_the_end():
    async def collect():
        generator = count_to.remote(0)
        try:
            return await generator.__anext__()
        except BaseException as error:
            return lineage(error)

    return asyncio.run(collect())


@case
def aiter_of_it_is_itself():
    generator = count_to.remote(1)
    return generator.__aiter__() is generator


@case(differs="Ray accepts it and then fails on an error of its own")
def an_async_generator_function():
    @ray.remote
    async def numbers():
        yield 1
        yield 2

    return values(numbers.remote())


@case
def an_async_function():
    @ray.remote
    async def number():
        return 1

    return ray.get(number.remote())


@case
def a_class_method_generator_as_a_task():
    class Numbers:
        @staticmethod
        def give(n):
            yield from (number for number in range(n))

    return values(ray.remote(Numbers.give).remote(2))


@case
def many_values():
    return sum(values(count_to.remote(2000)))


@case
def many_generators_at_once():
    generators = [count_to.remote(20) for _ in range(20)]
    return sum(sum(values(generator)) for generator in generators)


if __name__ == "__main__":
    run()
