"""What travels between processes, and how programs change it."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import re
import threading
import uuid

from oracle.cases import ENGINE, attempt, case, ray, run


class Holder:
    def __init__(self, value):
        self.value = value
        self.lock = threading.Lock()


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2


class Color(enum.Enum):
    RED = 1


Pair = collections.namedtuple("Pair", "left right")


class Slots:
    __slots__ = ("a",)


@ray.remote
def echo(value):
    return value


@ray.remote
def read(holder):
    return holder.value


def serialization():
    import importlib

    return importlib.import_module(f"{ENGINE}.util.serialization")


@case
def register_serializer():
    module = serialization()
    module.register_serializer(
        Holder, serializer=lambda h: h.value, deserializer=lambda value: Holder(value + 1)
    )
    try:
        return ray.get(ray.put(Holder(1))).value, ray.get(read.remote(Holder(1)))
    finally:
        module.deregister_serializer(Holder)


@case
def a_task_does_not_know_the_serializers_of_the_driver():
    module = serialization()
    module.register_serializer(Holder, serializer=lambda h: h.value, deserializer=Holder)
    try:
        return attempt(ray.get, echo.remote(Holder(1)), timeout=15)
    finally:
        module.deregister_serializer(Holder)


@case
def a_registered_class_inside_of_containers():
    module = serialization()
    module.register_serializer(Holder, serializer=lambda h: h.value, deserializer=Holder)
    try:
        return ray.get(ray.put({"a": [Holder(5)]}))["a"][0].value
    finally:
        module.deregister_serializer(Holder)


@case
def without_a_serializer_it_fails():
    return attempt(ray.put, Holder(1))


@case
def after_deregistering_it_fails_again():
    module = serialization()
    module.register_serializer(Holder, serializer=lambda h: h.value, deserializer=Holder)
    module.deregister_serializer(Holder)
    return attempt(ray.put, Holder(1))


@case
def deregistering_what_was_not_registered():
    return attempt(serialization().deregister_serializer, Slots)


@case
def register_serializer_takes_keywords_only():
    return attempt(serialization().register_serializer, Holder, lambda h: h.value, Holder)


@case
def a_serializer_that_fails():
    module = serialization()

    def refuse(_value):
        raise ValueError("refused")

    module.register_serializer(Holder, serializer=refuse, deserializer=Holder)
    try:
        return attempt(ray.put, Holder(1))
    finally:
        module.deregister_serializer(Holder)


@case
def inspect_serializability():
    import io

    inspect = ray.util.inspect_serializability
    good = inspect(1, print_file=io.StringIO())
    bad = inspect(threading.Lock(), name="lock", print_file=io.StringIO())
    return good[0], len(good[1]), bad[0], len(bad[1])


@case
def many_types():
    values = [
        datetime.datetime(2020, 1, 2, 3, 4, 5),
        decimal.Decimal("1.50"),
        pathlib.Path("/a/b"),
        uuid.UUID(int=5),
        re.compile("a+"),
        collections.OrderedDict(a=1),
        collections.Counter("aab"),
        collections.deque([1, 2], maxlen=3),
        frozenset({1}),
        range(3),
        slice(1, 2),
        complex(1, 2),
        10**50,
        float("inf"),
        "äöü€𝄞",
        Ellipsis,
        NotImplemented,
    ]
    got = ray.get(echo.remote(values))
    return [
        one == other and type(one) is type(other) for one, other in zip(got, values, strict=True)
    ]


@case
def classes_of_the_program():
    values = [Point(1), Color.RED, Pair(1, 2)]
    got = ray.get(echo.remote(values))
    return (
        [type(one).__name__ for one in got],
        got[0] == Point(1),
        got[1] is Color.RED,
        got[2] == Pair(1, 2),
    )


@case
def classes_of_the_program_are_the_same_in_a_task():
    @ray.remote
    def same(point):
        return isinstance(point, Point), point.x

    return ray.get(same.remote(Point(4)))


@case
def a_class_defined_in_a_function():
    class Local:
        value = 3

    got = ray.get(echo.remote(Local()))
    return got.value, type(got) is Local


@case
def a_class_itself():
    return ray.get(echo.remote(Point)) is Point, ray.get(echo.remote(int)) is int


@case
def functions_and_lambdas():
    factor = 3
    function = ray.get(echo.remote(lambda value: value * factor))
    return function(2)


@case
def modules():
    return ray.get(echo.remote(re)) is re


@case(differs="one object stays one, as pickle keeps it; Ray takes lists of numbers apart")
def shared_parts_stay_shared():
    part = [1]
    got = ray.get(echo.remote([part, part]))
    return got[0] is got[1]


@case
def circles():
    circle: list[object] = []
    circle.append(circle)
    got = ray.get(echo.remote(circle))
    return got[0] is got


@case
def parts_of_different_arguments_are_apart():
    @ray.remote
    def same(first, second):
        return first is second

    part = [1]
    return ray.get(same.remote(part, part))


@case
def a_class_with_slots():
    value = Slots()
    value.a = 1
    return ray.get(echo.remote(Slots)).__slots__


@case
def generators_cannot_travel():
    return attempt(ray.put, (number for number in range(3)))


@case
def open_files_cannot_travel(path=__file__):
    with open(path) as file:
        return attempt(ray.put, file)


@case
def deep_nesting():
    value: list[object] = []
    for _ in range(200):
        value = [value]
    got = ray.get(echo.remote(value))
    depth = 0
    while got:
        got, depth = got[0], depth + 1
    return depth


@case(differs="a TypeError, as all that cannot be serialized")
def very_deep_nesting():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return attempt(ray.put, value)


@case
def a_reduce_that_is_asked_once():
    calls = []

    class Counted:
        def __reduce__(self):
            calls.append(1)
            return (int, (1,))

    ray.put(Counted())
    return len(calls)


@case
def a_program_s_own_module():
    from oracle import cases

    return ray.get(echo.remote(cases.plain)) is cases.plain


@case
def large_dictionaries():
    value = {str(number): number for number in range(50_000)}
    return ray.get(echo.remote(value)) == value


if __name__ == "__main__":
    run()
