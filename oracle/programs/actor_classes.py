"""Actor classes and handles: definitions, options, arguments, methods, inheritance."""

from __future__ import annotations

import abc
import asyncio
import functools
import pickle

from oracle.cases import attempt, case, message_of, ray, run


@ray.remote
class Counter:
    """Counts."""

    limit = 7

    def __init__(self, start=0, *, step=1):
        self.value = start
        self.step = step

    def add(self, by=None):
        """Adds."""
        self.value += self.step if by is None else by
        return self.value

    def get(self):
        return self.value

    def pair(self, a, /, b, *, c=3):
        return [a, b, c]

    @staticmethod
    def twice(x):
        return 2 * x

    @classmethod
    def named(cls, suffix):
        return cls.__name__ + suffix

    @property
    def doubled(self):
        return 2 * self.value

    @ray.method(num_returns=2)
    def two(self):
        return 1, 2

    @ray.method(num_returns=0)
    def none(self):
        return None

    @ray.method(num_returns=3)
    def too_few(self):
        return 1, 2

    def items(self, count):
        yield from range(count)

    def __len__(self):
        return self.value

    def __call__(self, x):
        return x + 1

    def _hidden(self):
        return "hidden"


def get(ref, timeout=15):
    return ray.get(ref, timeout=timeout)


# ---- making one ----


@case(says=["instantiated directly", "Counter.remote()"])
def a_class_is_not_called():
    Counter()


@case
def instantiating_a_class_with_options_directly():
    return attempt(lambda: Counter.options(num_cpus=0)(1))


@case(says=["object.add.remote()", "cannot be called directly"])
def a_method_is_not_called():
    actor = Counter.remote()
    actor.add()


@case(says=["ActorClass", "Inheriting"])
def a_class_is_not_derived_from_an_actor_class():
    class Derived(Counter):
        pass


@case
def wrong_arguments_of_the_constructor():
    calls = [
        lambda: Counter.remote(1, 2),
        lambda: Counter.remote(wrong=1),
        lambda: Counter.remote(1, start=2),
        lambda: Counter.options(num_cpus=0).remote(1, 2, 3),
    ]
    return [attempt(call) for call in calls]


@case
def messages_for_wrong_arguments_of_the_constructor():
    return [
        message_of(Counter.remote, 1, 2),
        message_of(Counter.remote, wrong=1),
        message_of(Counter.remote, 1, start=2),
    ]


@case
def wrong_arguments_of_a_method():
    actor = Counter.remote()
    calls = [
        lambda: actor.add.remote(1, 2),
        lambda: actor.pair.remote(1),
        lambda: actor.pair.remote(a=1, b=2),
        lambda: actor.pair.remote(1, 2, 3),
        lambda: actor.pair.remote(1, 2, d=3),
        lambda: actor.get.remote(1),
    ]
    return [attempt(call) for call in calls]


@case
def messages_for_wrong_arguments_of_a_method():
    actor = Counter.remote()
    return [
        message_of(actor.add.remote, 1, 2),
        message_of(actor.pair.remote, 1),
        message_of(actor.get.remote, 1),
        message_of(actor.get.remote, wrong=1),
    ]


@case
def a_method_that_there_is_not():
    actor = Counter.remote()
    return attempt(lambda: actor.nothing), attempt(lambda: actor.limit)


@case(says=["'ActorHandle' object has no attribute 'nothing'"])
def the_message_for_a_method_that_there_is_not():
    Counter.remote().nothing.remote()


@case
def setting_an_attribute_of_a_handle():
    actor = Counter.remote()

    def set_it():
        actor.foo = 1
        return actor.foo

    return attempt(set_it)


@case
def an_empty_class():
    @ray.remote
    class Empty:
        pass

    actor = Empty.remote()
    return get(actor.__ray_ready__.remote()), attempt(Empty.remote, 1)


@case
def a_class_without_a_constructor_takes_no_arguments():
    @ray.remote
    class Plain:
        def f(self):
            return 1

    return get(Plain.remote().f.remote()), attempt(Plain.remote, 1), attempt(Plain.remote, x=1)


@case
def an_old_style_class_and_one_with_slots():
    @ray.remote
    class Slotted:
        __slots__ = ("value",)

        def __init__(self):
            self.value = 3

        def get(self):
            return self.value

    return get(Slotted.remote().get.remote())


@case
def ray_remote_of_a_class_called_as_a_function():
    class Plain:
        def f(self):
            return 5

    made = ray.remote(Plain)
    with_options = ray.remote(num_cpus=0, max_restarts=1)(Plain)
    return (
        get(made.remote().f.remote()),
        get(with_options.remote().f.remote()),
        get(ray.remote(Plain).options(name="plain-by-call").remote().f.remote()),
    )


@case(differs="options can be added to options")
def options_of_options():
    made = Counter.options(num_cpus=0)
    return attempt(lambda: made.options), type(made).__name__ != "ActorClass"


@case
def constructor_arguments_can_be_refs():
    return get(Counter.remote(ray.put(5), step=ray.put(2)).add.remote())


@case
def metaclasses_and_abstract_classes():
    class Base(abc.ABC):
        @abc.abstractmethod
        def f(self): ...

        def g(self):
            return self.f() + 1

    class Derived(Base):
        def f(self):
            return 1

    return get(ray.remote(Derived).remote().g.remote())


@case
def an_abstract_class_cannot_be_made():
    class Base(abc.ABC):
        @abc.abstractmethod
        def f(self): ...

        def g(self):
            return 1

    return attempt(lambda: get(ray.remote(Base).remote().g.remote()))


# ---- methods ----


@case
def kinds_of_methods():
    actor = Counter.remote(3)
    return (
        get(actor.twice.remote(4)),
        get(actor.named.remote("!")),
        get(actor.pair.remote(1, 2)),
        get(actor.pair.remote(1, b=2, c=4)),
        get(actor.two.remote()),
        actor.none.remote(),
        get(actor._hidden.remote()),
        get(actor.__len__.remote()),
        get(actor.__call__.remote(1)),
    )


@case
def a_property_is_no_method():
    actor = Counter.remote(3)
    return attempt(lambda: actor.doubled)


@case
def num_returns_of_a_method_that_returns_too_few():
    actor = Counter.remote()
    return [attempt(get, ref) for ref in actor.too_few.remote()]


@case
def num_returns_at_the_call():
    @ray.remote
    class Some:
        def many(self, n):
            return tuple(range(n))

    actor = Some.remote()
    a, b, c = actor.many.options(num_returns=3).remote(3)
    return (
        get([a, b, c]),
        get(actor.many.options(num_returns=1).remote(2)),
        actor.many.options(num_returns=0).remote(0),
        [attempt(get, ref) for ref in actor.many.options(num_returns=2).remote(3)],
    )


@case(differs="yield from something that is no generator works, as in Python; see generators")
def a_generator_streams():
    actor = Counter.remote()
    made = actor.items.remote(3)
    return type(made).__name__, [get(ref) for ref in made]


@case
def an_async_generator_streams():
    @ray.remote
    class Some:
        async def items(self, count):
            for i in range(count):
                await asyncio.sleep(0)
                yield i

    made = Some.remote().items.remote(3)
    return type(made).__name__, [get(ref) for ref in made]


@case
def a_generator_that_raises():
    @ray.remote
    class Some:
        def items(self):
            yield 1
            raise ValueError("after one")

        async def other(self):
            return 1

    out = []
    for ref in Some.remote().items.remote():
        out.append(attempt(get, ref))
    return out


@case
def a_generator_method_with_num_returns_2():
    @ray.remote
    class Some:
        def items(self):
            yield 1
            yield 2

    return get(Some.remote().items.options(num_returns=2).remote())


@case
def a_generator_method_with_num_returns_1():
    @ray.remote
    class Some:
        def items(self):
            yield 1
            yield 2

    return attempt(lambda: get(Some.remote().items.options(num_returns=1).remote()))


@case
def dynamic_returns_of_a_method():
    @ray.remote
    class Some:
        @ray.method(num_returns="dynamic")
        def items(self, n):
            yield from range(n)

    made = get(Some.remote().items.remote(3))
    return type(made).__name__, [get(ref) for ref in made]


@case
def a_method_with_args_and_kwargs():
    @ray.remote
    class Some:
        def f(self, *args, **kwargs):
            return args, sorted(kwargs.items())

    actor = Some.remote()
    return get(actor.f.remote(1, 2, x=3)), get(actor.f.remote())


@case
def a_decorated_method():
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return ["logged", function(*args, **kwargs)]

        return wrapper

    @ray.remote
    class Some:
        @logged
        def f(self, x):
            return x

    actor = Some.remote()
    return get(actor.f.remote(3)), attempt(actor.f.remote)


@case
def methods_that_are_set_on_the_class_afterwards():
    class Some:
        pass

    Some.f = lambda self, x: x * 3
    Some.g = functools.partialmethod(lambda self, x, y: (x, y), 1)
    actor = ray.remote(Some).remote()
    return get(actor.f.remote(3)), attempt(lambda: get(actor.g.remote(2)))


@case
def refs_as_arguments_are_resolved_and_nested_ones_are_not():
    @ray.remote
    class Some:
        def f(self, x, inner, key=None):
            return x, type(inner[0]).__name__, key

    return get(Some.remote().f.remote(ray.put(1), [ray.put(2)], key=ray.put(3)))


@case
def a_generator_that_is_no_generator():
    return attempt(lambda: Counter.remote().get.options(num_returns="streaming").remote())


# ---- inheritance ----


class Base:
    def __init__(self, x):
        self.x = x

    def who(self):
        return "base"

    def get(self):
        return self.x

    @staticmethod
    def s():
        return "static base"

    @classmethod
    def c(cls):
        return cls.__name__


@case
def derived_classes():
    @ray.remote
    class Derived(Base):
        def __init__(self, x, y):
            super().__init__(x)
            self.y = y

        def who(self):
            return "derived " + super().who()

        def both(self):
            return self.x, self.y

    actor = Derived.remote(1, 2)
    return (
        get(actor.who.remote()),
        get(actor.get.remote()),
        get(actor.both.remote()),
        get(actor.s.remote()),
        get(actor.c.remote()),
    )


@case
def the_class_behind_an_actor_class():
    original = Counter.__ray_actor_class__ if hasattr(Counter, "__ray_actor_class__") else None
    return original is not None and original(3).get()


@case(differs="an actor class has the name and the text of its class")
def names_and_docs_of_actor_classes():
    return (
        Counter.__name__ if hasattr(Counter, "__name__") else None,
        Counter.__doc__,
        Counter.__module__ is not None,
        type(Counter).__name__.startswith("ActorClass"),
        isinstance(Counter, ray.actor.ActorClass),
    )


@case
def the_repr_of_an_actor_class():
    return "ActorClass(Counter)" in repr(Counter)


# ---- handles ----


@case
def handles_compare_hash_and_print():
    actor, other = Counter.remote(), Counter.remote()
    again = get(ray.put([actor]))[0]
    return (
        actor == again,
        actor != other,
        hash(actor) == hash(again),
        len({actor, again, other}),
        repr(actor).startswith("Actor(Counter, "),
        actor == 3,
        isinstance(actor, ray.actor.ActorHandle),
        type(actor).__name__,
        actor._actor_id.hex() == again._actor_id.hex(),
        len(actor._actor_id.hex()),
    )


@case
def a_handle_is_pickled_by_any_pickler():
    actor = Counter.remote()
    again = pickle.loads(pickle.dumps(actor))
    return again == actor, get(again.add.remote())


@case
def handles_in_containers_closures_and_other_actors():
    actor = Counter.remote()

    @ray.remote
    def by_argument(handle):
        return ray.get(handle.add.remote())

    @ray.remote
    def in_list(handles):
        return ray.get(handles[0]["a"].add.remote())

    @ray.remote
    def by_closure():
        return ray.get(actor.add.remote())

    @ray.remote
    class Holder:
        def __init__(self, handle):
            self.handle = handle

        def call(self):
            return ray.get(self.handle.add.remote())

        def hand(self):
            return self.handle

    holder = Holder.remote(actor)
    return (
        get(by_argument.remote(actor)),
        get(in_list.remote([{"a": actor}])),
        get(by_closure.remote()),
        get(holder.call.remote()),
        get(holder.hand.remote()) == actor,
    )


@case
def a_pickled_handle_is_loaded_elsewhere():
    actor = Counter.remote()
    data = pickle.dumps(actor)

    @ray.remote
    def load(data):
        return ray.get(pickle.loads(data).add.remote())

    return get(load.remote(data)), get(actor.add.remote())


@case
def methods_of_handles_travel():
    actor = Counter.remote()
    method = actor.add

    @ray.remote
    def call(m):
        return ray.get(m.remote())

    return attempt(lambda: get(call.remote(method)))


@case
def the_attributes_of_a_handle():
    names = dir(Counter.remote())
    return [name in names for name in ("add", "get", "two", "items", "twice", "named", "_hidden")]


@case
def a_method_kept_in_a_variable():
    add = Counter.remote().add
    return get(add.remote()), get(add.remote()), type(add).__name__


@case
def get_of_a_handle_is_refused():
    return attempt(ray.get, Counter.remote())


@case
def wait_of_a_handle_is_refused():
    return attempt(ray.wait, [Counter.remote()])


@case
def an_actor_class_defined_in_an_actor():
    @ray.remote
    class Outer:
        def make(self):
            @ray.remote
            class Inner:
                def f(self):
                    return "inner"

            self.inner = Inner.remote()
            return ray.get(self.inner.f.remote())

    return get(Outer.remote().make.remote())


@case
def an_actor_passes_itself_on():
    @ray.remote
    def call(handle):
        return ray.get(handle.value.remote(), timeout=10)

    @ray.remote(max_concurrency=2)
    class Me:
        def start(self):
            return ray.get(call.remote(ray.get_runtime_context().current_actor))

        def value(self):
            return 9

    return get(Me.remote().start.remote())


run(num_cpus=4)
