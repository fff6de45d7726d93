"""What a script defines: functions and methods of functools, wrappers, classes that use their names."""

from __future__ import annotations

import functools
import inspect

from oracle.cases import attempt, case, ray, run


def get(ref):
    return ray.get(ref, timeout=15)


# ---- functools ----


@functools.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.singledispatch
def kind(_value):
    return "other"


@kind.register
def _(_value: int):
    return "int"


@case(differs="sent without its cache; Ray sends a name that its workers do not know")
def a_cached_function_that_a_task_calls():
    return attempt(lambda: get(ray.remote(lambda: fibonacci(20)).remote()))


@case(differs="works, with a cache in each worker; Ray has a TypeError")
def a_cached_function_as_a_task():
    return attempt(lambda: get(ray.remote(fibonacci).remote(10)))


@case(differs="works; Ray cannot send it")
def a_single_dispatch_that_a_task_calls():
    return attempt(lambda: get(ray.remote(lambda: (kind(3), kind("a"))).remote()))


@case
def a_partial_that_a_task_calls():
    def subtract(a, b):
        return a - b

    return get(ray.remote(lambda f: f(1)).remote(functools.partial(subtract, b=3)))


@case
def total_ordering_and_cmp_to_key():
    @functools.total_ordering
    class Size:
        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            return self.value == other.value

        def __lt__(self, other):
            return self.value < other.value

    def descending(values):
        return sorted(values, key=functools.cmp_to_key(lambda a, b: b - a))

    return (
        get(ray.remote(lambda size: size >= Size(1)).remote(Size(2))),
        get(ray.remote(descending).remote([1, 3, 2])),
    )


@case(differs="works; in Ray the lock of cached_property cannot be sent")
def an_actor_class_with_a_cached_property():
    @ray.remote
    class Lazy:
        @functools.cached_property
        def value(self):
            return 5

        def get(self):
            return self.value

    return attempt(lambda: get(Lazy.remote().get.remote()))


@case(differs="works, with a cache in the actor; Ray cannot send the class")
def an_actor_class_with_a_cached_method():
    @ray.remote
    class Squares:
        @functools.cache  # noqa: B019
        def square(self, x):
            return x * x

        def of(self, x):
            return self.square(x)

    return attempt(lambda: get(Squares.remote().of.remote(4)))


@case(differs="works; Ray cannot send it")
def an_actor_class_with_a_single_dispatch_method():
    @ray.remote
    class Kinds:
        @functools.singledispatchmethod
        def kind(self, _value):
            return "other"

        @kind.register
        def _(self, _value: int):
            return "int"

    return attempt(lambda: get(Kinds.remote().kind.remote(1)))


# ---- wrappers ----


def with_connection(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function("connection", *args, **kwargs)

    return wrapper


def with_log(function):
    @functools.wraps(function)
    def wrapper(*args, log=False, **kwargs):
        return function(*args, **kwargs), log

    return wrapper


@case
def a_wrapper_that_hands_all_on():
    @functools.wraps(len)
    def counted(*args, **kwargs):
        return len(*args, **kwargs)

    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @ray.remote
    @logged
    def add(a, b):
        return a + b

    return (
        get(ray.remote(counted).remote([1, 2])),
        get(add.remote(1, b=2)),
        attempt(add.remote, 1),
        attempt(add.remote, 1, 2, 3),
    )


@case(differs="arguments must fit what Python takes, not what the wrapped function shows")
def a_wrapper_that_gives_an_argument():
    @ray.remote
    @with_connection
    def load(connection, key):
        return connection, key

    return attempt(lambda: get(load.remote("k")))


@case(differs="arguments must fit what Python takes, not what the wrapped function shows")
def a_wrapper_that_takes_an_option():
    @ray.remote
    @with_log
    def add(a, b):
        return a + b

    return attempt(lambda: get(add.remote(1, 2, log=True)))


@case
def a_wrapper_whose_signature_is_set():
    def load(*args, **kwargs):
        return len(args), sorted(kwargs)

    load.__signature__ = inspect.signature(lambda a, b=1: None)
    remote = ray.remote(load)
    return get(remote.remote(1)), get(remote.remote(1, b=2))


# ---- classes by their names ----


class Base:
    def __init__(self):
        self.x = 1

    def get(self):
        return self.x


@ray.remote
class Child(Base):
    def __init__(self):
        super().__init__()
        self.x += 1

    def kind(self):
        return type(self).__name__, isinstance(self, Base), self.__class__.__qualname__


@ray.remote
class Named(Base):
    def old_super(self):
        return super(Named, self).get()  # noqa: UP008

    def is_one(self):
        return isinstance(self, Named), type(self) is Named

    def another(self):
        return get(Named.remote().get.remote())


@case
def an_actor_class_with_a_base():
    child = Child.remote()
    return get(child.get.remote()), get(child.kind.remote())


@case
def an_actor_that_makes_another_of_its_class():
    return get(Named.remote().another.remote())


@case(differs="in its own methods the name of an actor class is the class, in Ray an ActorClass")
def super_with_the_name_of_the_actor_class():
    return attempt(lambda: get(Named.remote().old_super.remote()))


@case(differs="in its own methods the name of an actor class is the class, in Ray an ActorClass")
def isinstance_of_the_name_of_the_actor_class():
    return attempt(lambda: get(Named.remote().is_one.remote()))


@case
def the_type_of_an_actor_class_names_the_class():
    return type(Named).__name__, type(Child).__name__


# ---- attributes ----


@case
def an_attribute_named_like_a_method():
    @ray.remote
    class Counter:
        def __init__(self):
            self.value = 0

        def increase(self):
            self.value += 1

        def value(self):
            return self.value

    counter = Counter.remote()
    counter.increase.remote()
    return attempt(lambda: get(counter.value.remote()))


if __name__ == "__main__":
    run()
