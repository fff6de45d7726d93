"""Kinds of classes that are made remote, and what is said of those that cannot be made or called so."""

from __future__ import annotations

import abc
import dataclasses
import functools
import typing

from oracle.cases import attempt, case, message_of, ray, run

T = typing.TypeVar("T")


class Box(typing.Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    def get(self) -> T:
        return self.value


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2

    def total(self):
        return self.x + self.y


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class Square(Shape):
    def area(self):
        return 4


class Greeting:
    def greet(self):
        return f"hello from {type(self).__name__}"


class Polite(Greeting, Square):
    def __call__(self, name):
        return f"dear {name}"

    def __getitem__(self, index):
        return index

    def __len__(self):
        return 7

    def _inner(self):
        return "inner"

    def __mangled(self):
        return "mangled"

    def mangled(self):
        return self.__mangled()


class Loop:
    async def echo(self, value):
        return value


class Slotted:
    __slots__ = ("value",)

    def __init__(self):
        self.value = 1

    def get(self):
        return self.value


def made(cls, *args, **options):
    remote_class = ray.remote(cls)
    return (remote_class.options(**options) if options else remote_class).remote(*args)


get = functools.partial(ray.get, timeout=60)


@case
def generic_classes():
    return get(made(Box, 3).get.remote()), attempt(lambda: type(ray.remote(Box)[int]).__name__)


@case
def dataclasses_are_called_and_checked():
    remote_class = ray.remote(Point)
    totals = [remote_class.remote(1).total.remote(), remote_class.remote(x=1, y=5).total.remote()]
    return get(totals), attempt(remote_class.remote), get(made(Point, 1).__eq__.remote(Point(1)))


@case
def abstract_and_concrete_classes():
    return attempt(lambda: ray.remote(Shape).remote()), get(made(Square).area.remote())


@case
def mixins_and_special_methods():
    actor = made(Polite)
    return get(
        [
            actor.greet.remote(),
            actor.__call__.remote("you"),
            actor.__getitem__.remote(3),
            actor.__len__.remote(),
            actor._inner.remote(),
            actor._Polite__mangled.remote(),
            actor.mangled.remote(),
        ]
    )


@case
def handles_are_no_instances():
    actor = made(Polite)
    return [
        attempt(lambda: actor("you")),
        attempt(lambda: len(actor)),
        attempt(lambda: actor[0]),
        bool(actor),
        attempt(lambda: actor.greet()),
        attempt(lambda: actor.nothing),
    ]


@case
def classes_with_slots():
    return get(made(Slotted).get.remote())


@case
def deriving_from_a_remote_class_names_both():
    base = ray.remote(Square)

    def derive():
        class Derived(base):
            pass

        return Derived

    text = message_of(derive)
    return attempt(derive), "subclass 'Derived' of actor class 'Square'" in text


@case
def making_a_remote_class_remote():
    return attempt(lambda: ray.remote(ray.remote(Square)))


@case
def order_of_what_runs_side_by_side():
    return [
        attempt(lambda: made(Loop, allow_out_of_order_execution=False)),
        attempt(lambda: made(Square, max_concurrency=2, allow_out_of_order_execution=False)),
        get(made(Loop, allow_out_of_order_execution=True).echo.remote(1)),
    ]


@case
def a_group_beside_a_strategy():
    from importlib import import_module

    groups = import_module(f"{ray.__name__}.util.placement_group")
    group = groups.PlacementGroup.empty()
    return attempt(lambda: made(Square, scheduling_strategy="SPREAD", placement_group=group))


@case
def too_many_pending_calls_are_named():
    actor = made(Loop, max_pending_calls=1)
    get(actor.echo.remote(0))

    @ray.remote(num_cpus=0)
    def never():
        import time

        time.sleep(5)

    waiting = never.remote()
    text = message_of(lambda: [actor.echo.remote(waiting) for _ in range(3)])
    ray.cancel(waiting, force=True)
    return (
        "The task echo could not be submitted to Actor(Loop, " in text,
        "more than 1 tasks" in text,
    )


if __name__ == "__main__":
    run()
