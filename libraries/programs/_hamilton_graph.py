"""A graph of sf_hamilton.py that has to be a module: its tasks come from what a generator yields."""

from hamilton.htypes import Collect, Parallelizable


def number(count: int) -> Parallelizable[int]:
    yield from range(count)


def square(number: int) -> int:
    return number * number


def total(square: Collect[int]) -> int:
    return sum(square)
