# ruff: noqa: B019, RUF012
"""What programs have in their main module: kinds of classes, functions and objects, each with how to
make a value and how to look at one. Not imported: tests run it as a program, with its definitions in
the main module or in a function (`test_main_program.py`). Each line that it prints says what does not
work.
"""

import abc
import collections
import contextlib
import dataclasses
import enum
import functools
import logging
import re
import types
import typing
import weakref

import attr
import attrs
import mobula as ray
import pydantic
import pydantic.v1
import pydantic.v1.generics

KINDS = {}


def kind(name, make, probe):
    """make(): a value. probe(value): something that can be compared."""
    KINDS[name] = make, probe


# ---- definitions


@dataclasses.dataclass(slots=True)
class SlottedData:
    x: int
    y: list = dataclasses.field(default_factory=list)


kind(
    "dataclass with slots",
    lambda: SlottedData(1, [2]),
    lambda v: (v.x, v.y, hasattr(v, "__dict__")),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FrozenData:
    x: int
    y: int = 2


kind("frozen dataclass", lambda: FrozenData(x=1), lambda v: (v, hash(v), v < FrozenData(x=2)))


@dataclasses.dataclass
class InitData:
    x: dataclasses.InitVar[int]
    double: int = dataclasses.field(init=False)
    known: typing.ClassVar[dict] = {}

    def __post_init__(self, x):
        self.double = 2 * x


kind("dataclass with an InitVar", lambda: InitData(3), lambda v: (v.double, InitData(4).double))


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    x: int
    tags: list[str] = pydantic.Field(default_factory=list)
    _private: int = pydantic.PrivateAttr(default=5)

    @pydantic.field_validator("x")
    @classmethod
    def positive(cls, value):
        if value < 0:
            raise ValueError("negative")
        return value

    @pydantic.computed_field
    @property
    def double(self) -> int:
        return 2 * self.x


def invalid(model, **fields):
    try:
        model(**fields)
    except pydantic.ValidationError as error:
        return error.error_count(), error.errors(include_url=False)[0]["loc"]


kind(
    "pydantic model",
    lambda: Model(x="1", tags=["a"]),
    lambda v: (v.model_dump(), v._private, invalid(Model, x=-1), Model.model_json_schema()["type"]),
)


class Outer(pydantic.BaseModel):
    inner: Model
    more: dict[str, Model] = {}


kind("pydantic model in another", lambda: Outer(inner=Model(x=1)), lambda v: v.model_dump())


class OldModel(pydantic.v1.BaseModel):
    x: typing.Optional[int] = pydantic.v1.Field(..., alias="X", gt=0)  # noqa: UP045
    tags: list[str] = []
    more: dict[str, list["OldModel"]] = {}
    _private: int = pydantic.v1.PrivateAttr(default=5)

    @pydantic.v1.validator("tags", each_item=True)
    def lower(cls, value):
        return value.lower()


OldModel.update_forward_refs(OldModel=OldModel)


def of_old_model(v):
    found = [v.dict(), v._private, OldModel(X=None).x, "OldModel" in str(OldModel.schema())]
    for fields in ({}, {"X": 0}):
        with contextlib.suppress(pydantic.v1.ValidationError):
            found.append(OldModel(**fields))
    return found


kind(
    "model of pydantic 1",
    lambda: OldModel(X="1", tags=["A"], more={"a": [{"X": 2}]}),
    of_old_model,
)
T = typing.TypeVar("T")


class OldPage(pydantic.v1.generics.GenericModel, typing.Generic[T]):
    items: list[T]


kind("generic model of pydantic 1", lambda: OldPage[int](items=["1"]), lambda v: v.items)


class Page(pydantic.BaseModel, typing.Generic[T]):
    items: list[T]


kind("generic pydantic model", lambda: Page[int](items=["1"]), lambda v: v.items)


@pydantic.dataclasses.dataclass
class Checked:
    x: int


kind("pydantic dataclass", lambda: Checked("3"), lambda v: (v.x, invalid(Checked, x="no")))


@attrs.define
class Defined:
    x: int = attrs.field(validator=attrs.validators.instance_of(int))
    y: list = attrs.field(factory=list, converter=list)

    def own_class(self):
        return __class__


kind("attrs.define", lambda: Defined(1, (2,)), lambda v: (v.x, v.y, v.own_class() is type(v)))


@attrs.frozen(kw_only=True)
class FrozenAttrs:
    x: int
    y: int = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.x + 1, takes_self=True)
    )


kind("attrs.frozen", lambda: FrozenAttrs(x=1), lambda v: (v.y, hash(v) == hash(FrozenAttrs(x=1))))


@attr.s(auto_attribs=True)
class OldAttrs:
    x: int = 0


kind("attr.s", lambda: OldAttrs(4), lambda v: attrs.asdict(v))


@attrs.define
class CachedAttrs:
    x: int

    @functools.cached_property
    def twice(self):
        return 2 * self.x


kind("attrs with a cached_property", lambda: CachedAttrs(4), lambda v: v.twice)


class Color(enum.Enum):
    RED = 1
    GREEN = enum.auto()

    @property
    def lower(self):
        return self.name.lower()


kind("enum", lambda: Color.GREEN, lambda v: (v.lower, v.value, v is Color.GREEN, len(Color)))


class Permission(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = READ | WRITE


kind("flag", lambda: Permission.READ | Permission.WRITE, lambda v: (v is Permission.BOTH, v.value))


class Planet(enum.Enum):
    EARTH = (5, 6)
    MARS = (1, 3)
    HOME = EARTH

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius

    @functools.cached_property
    def density(self):
        return self.mass / self.radius


kind(
    "enum with __init__",
    lambda: Planet.MARS,
    lambda v: (v.mass, Planet.HOME is Planet.EARTH, Planet((5, 6)).radius, v.density),
)


class Labelled(int, enum.Enum):
    def __new__(cls, value, label):
        made = int.__new__(cls, value)
        made._value_ = value
        made.label = label
        return made

    LOW = (1, "low")
    HIGH = (2, "high")


kind("enum with __new__", lambda: Labelled.HIGH, lambda v: (v.label, v + 1, Labelled(1).label))


class Word(str, enum.Enum):
    HELLO = "hello"


kind("enum of texts", lambda: Word.HELLO, lambda v: (v == "hello", v.upper()))


class Pair(typing.NamedTuple):
    a: int
    b: str = "b"

    def both(self):
        return f"{self.a}{self.b}"


kind("NamedTuple", lambda: Pair(1), lambda v: (v.both(), v._asdict(), v._replace(a=2)))

Plain = collections.namedtuple("Plain", "a b", defaults=[2])
kind("namedtuple", lambda: Plain(1), lambda v: (v.a, v.b, tuple(v)))


class Movie(typing.TypedDict, total=False):
    name: str


kind("TypedDict", lambda: Movie(name="m"), lambda v: (v, Movie.__total__))

UserId = typing.NewType("UserId", int)
kind("NewType", lambda: UserId(5), lambda v: (v, UserId(6), UserId.__supertype__))


class Box(typing.Generic[T]):
    def __init__(self, item: T):
        self.item = item


kind("Generic", lambda: Box[int](3), lambda v: (v.item, Box[str]("a").item, Box[int].__args__))


@typing.runtime_checkable
class Sized2(typing.Protocol):
    def size(self) -> int: ...


class HasSize:
    def size(self):
        return 3


kind("Protocol", HasSize, lambda v: (isinstance(v, Sized2), isinstance(3, Sized2)))


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class Square(Shape):
    def area(self):
        return 4


@Shape.register
class Registered:
    pass


def abstract():
    with contextlib.suppress(TypeError):
        return Shape()
    return "abstract"


kind("ABC", Square, lambda v: (v.area(), isinstance(Registered(), Shape), abstract()))


class Registry(type):
    known = {}

    def __new__(mcs, name, bases, namespace, *, tag):
        made = super().__new__(mcs, name, bases, namespace)
        made.tag = tag
        mcs.known[name] = tag
        return made

    def __init__(cls, name, bases, namespace, *, tag):
        super().__init__(name, bases, namespace)

    def shout(cls):
        return cls.__name__.upper()


class Tagged(metaclass=Registry, tag="t"):
    pass


kind(
    "metaclass with keywords",
    Tagged,
    lambda v: (type(v).tag, type(v).shout(), Registry.known["Tagged"]),
)


class Strict(type):
    def __call__(cls, *args):
        made = super().__call__(*args)
        made.called = True
        return made


class OfStrict(metaclass=Strict):
    pass


kind("metaclass with __call__", OfStrict, lambda v: (v.called, OfStrict().called))


class Plugin:
    plugins = {}

    def __init_subclass__(cls, /, name, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.name = name
        Plugin.plugins[name] = cls


class CsvPlugin(Plugin, name="csv"):
    pass


kind(
    "__init_subclass__ with keywords",
    CsvPlugin,
    lambda v: (v.name, Plugin.plugins["csv"] is type(v)),
)


class Slotted:
    __slots__ = ("__weakref__", "_private", "a")

    def __init__(self):
        self.a = 1


class MoreSlots(Slotted):
    __slots__ = {"__hidden": "mangled", "b": "what b is"}

    def __init__(self):
        super().__init__()
        self.b, self.__hidden = 2, 3

    def hidden(self):
        return self.__hidden


kind("__slots__", MoreSlots, lambda v: (v.a, v.b, v.hidden(), hasattr(v, "__dict__")))


class Typed:
    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, instance, owner=None):
        return self if instance is None else getattr(instance, self.name)

    def __set__(self, instance, value):
        setattr(instance, self.name, int(value))


class WithDescriptor:
    x = Typed()

    def __init__(self):
        self.x = "4"


kind("descriptor", WithDescriptor, lambda v: (v.x, WithDescriptor.x.name))


class Node:
    def __init__(self, parent=None):
        self.children = []
        self.parent = weakref.ref(parent) if parent is not None else None
        if parent is not None:
            parent.children.append(self)


def tree():
    root = Node()
    Node(root), Node(root)
    return root


kind("weak references to a parent", tree, lambda v: [c.parent() is v for c in v.children])


class Interned:
    alive = weakref.WeakValueDictionary()
    notes = weakref.WeakKeyDictionary()
    every = weakref.WeakSet()

    def __init__(self):
        self.alive["one"] = self
        self.notes[self] = "n"
        self.every.add(self)


kind(
    "weak collections", Interned, lambda v: (v.alive["one"] is not None, v.notes.get(v, "n"), True)
)


class Lambdas:
    add = lambda self, x: self.base + x  # noqa: E731
    pick = staticmethod(lambda x: x[0])
    table = {"double": lambda x: 2 * x}
    base = 10


kind("lambdas in a class", Lambdas, lambda v: (v.add(1), v.pick([7]), v.table["double"](4)))


class Nested:
    class Inner:
        class Deep:
            value = 5

    deep = property(lambda self: self.Inner.Deep.value)

    @classmethod
    def make(cls):
        return cls()

    def __class_getitem__(cls, item):
        return f"{cls.__name__}[{item}]"


kind(
    "nested classes",
    Nested,
    lambda v: (v.deep, type(v).make().deep, Nested[3], Nested.Inner().Deep.value),
)

logger = logging.getLogger("main.program")
pattern = re.compile(r"(\d+)", re.IGNORECASE)


class UsesGlobals:
    def found(self):
        logger.debug("looking")
        return pattern.findall("1 2"), logger.name


kind("loggers and patterns", UsesGlobals, lambda v: v.found())


class Held:
    def __init__(self):
        self.logger, self.pattern = logger, pattern
        self.namespace = types.SimpleNamespace(a=1)
        self.proxy = types.MappingProxyType({"a": 1})
        self.counter = collections.Counter("aab")
        self.groups = collections.defaultdict(list, a=[1])
        self.ordered = collections.OrderedDict(a=1)
        self.deque = collections.deque([1], maxlen=3)
        self.chain = collections.ChainMap({"a": 1}, {"b": 2})


kind(
    "what instances hold",
    Held,
    lambda v: (
        v.logger.name,
        v.pattern.pattern,
        v.namespace,
        dict(v.proxy),
        v.counter,
        v.groups["z"],
        v.ordered,
        v.deque.maxlen,
        v.chain["b"],
    ),
)


@functools.cache
def fibonacci(n):
    """By itself."""
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


kind(
    "functools.cache",
    lambda: fibonacci,
    lambda v: (v(30), v.__name__, v.__doc__, v.__wrapped__.__name__, v.cache_parameters()),
)


@functools.lru_cache(maxsize=2, typed=True)
def limited(x):
    return type(x).__name__


def filled():
    limited(1), limited(1.0)
    return limited


def of_cache(cached):
    cached.cache_clear()
    cached(1), cached(1), cached(1.0)
    return cached.cache_info(), cached.cache_parameters()


kind("functools.lru_cache", filled, of_cache)


class Caching:
    @functools.lru_cache(maxsize=8)
    def square(self, x):
        return x * x

    @functools.cached_property
    def slow(self):
        """Once."""
        return 5

    @staticmethod
    @functools.cache
    def static(x):
        return x + 1

    @classmethod
    @functools.cache
    def of_class(cls):
        return cls.__name__


def of_caching(v):
    return v.square(4), v.slow, v.__dict__, v.static(1), v.of_class(), Caching.slow.__doc__


kind("caches in a class", Caching, of_caching)


@functools.singledispatch
def describe(value):
    """Of what kind it is."""
    return "other"


@describe.register
def _(value: int):
    return f"int, not {describe('x')}"


@describe.register(list)
@describe.register(Color)
def _(value):
    return "several"


kind(
    "functools.singledispatch",
    lambda: describe,
    lambda v: (v(3), v([]), v(Color.RED), v(None), v.__name__, v.__doc__, v.dispatch(bool)(True)),
)


class Dispatching:
    @functools.singledispatchmethod
    def of(self, value):
        return "other"

    @of.register
    def _(self, value: int):
        return "int"

    twice = functools.partialmethod(lambda self, factor, x: factor * x, 2)


kind("singledispatchmethod, partialmethod", Dispatching, lambda v: (v.of(1), v.of(""), v.twice(4)))


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        wrapper.calls += 1
        return function(*args)

    wrapper.calls = 0
    return wrapper


@decorated
def counted(x):
    return x, counted.__name__


@contextlib.contextmanager
def managed():
    yield "in"


def of_managed(v):
    with v() as inside:
        return inside


kind("a decorated function", lambda: counted, lambda v: (v(1), v.__wrapped__.__name__))
kind("contextmanager", lambda: managed, of_managed)
kind(
    "partial of a cache", lambda: functools.partial(fibonacci, 5), lambda v: (v(), v.func.__name__)
)
reverse = lambda a, b: b - a  # noqa: E731
kind("cmp_to_key", lambda: [1, 2], lambda v: sorted(v, key=functools.cmp_to_key(reverse)))


@functools.total_ordering
class Ordered:
    def __init__(self, x=1):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x

    def __lt__(self, other):
        return self.x < other.x


kind("total_ordering", Ordered, lambda v: v >= Ordered(0))


class Callable2:
    def __call__(self, x):
        return x + 1

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return name


kind("__call__ and __getattr__", Callable2, lambda v: (v(1), v.anything))


class Meter(float):
    unit = "m"

    def __new__(cls, value=1.5):
        return super().__new__(cls, value)


class Names(list):
    def __init__(self, *names):
        super().__init__(names)
        self.extra = len(names)


kind(
    "derived from built-in classes",
    lambda: (Meter(), Names("a")),
    lambda v: (v, v[0].unit, v[1].extra),
)
kind("a class itself", lambda: Square, lambda v: v().area())
kind("a bound method", lambda: Square().area, lambda v: v())
kind("a generic alias", lambda: Box[int], lambda v: (v.__origin__ is Box, v(3).item))

KEYWORDS = {"CsvPlugin": {"name": "d"}, "Tagged": {"tag": "d"}}  # For classes derived from them.
# ---- end of the definitions


@ray.remote
def look(value, probe):
    return probe(value)


@ray.remote
def same(value):
    return value


def ways(name, make, probe):
    """Each with what it gives, which must be what `probe(make())` gives here."""
    get = functools.partial(ray.get, timeout=30)

    @ray.remote(num_cpus=0)
    class Holder:
        of_class = staticmethod(make)

        def look(self):
            return probe(make()), probe(self.of_class())

    yield "as an argument", lambda: get(look.remote(make(), probe))
    yield "as a result", lambda: probe(get(ray.remote(lambda: make()).remote()))
    yield "there and back", lambda: probe(get(same.remote(make())))
    yield "put in a list", lambda: probe(get(ray.put([make()]))[0])
    yield "in a closure", lambda: get(ray.remote(lambda: probe(make())).remote())
    yield "in an actor class", lambda: get(Holder.remote().look.remote())[1]
    cls = type(make())
    if cls.__module__ == "__main__" and not issubclass(cls, (enum.Enum, SlottedData)):
        yield (
            "its class there and back",
            lambda: probe(make()) if get(same.remote(cls)) is cls else cls,
        )

    def derived():
        derived = types.new_class("Derived", (cls,), KEYWORDS.get(cls.__name__, {}))
        return derived, cls

    if cls.__module__ == "__main__" and not issubclass(cls, enum.Enum):
        there = ray.remote(lambda: [c.__name__ for c in derived()[0].__mro__[:2]])
        names = ["Derived", cls.__name__]
        yield (
            "as a base",
            lambda: probe(make()) if get(there.remote()) == names else get(there.remote()),
        )


def main():
    ray.init(num_cpus=2)
    for name, (make, probe) in KINDS.items():
        for way, run in ways(name, make, probe):
            want = probe(make())
            try:
                got = run()
            except Exception as error:
                lines = str(error).strip().splitlines() or [""]
                got = f"{type(error).__name__}: {lines[0]} ... {lines[-1]}"
            if repr(got) != repr(want) and got != want:
                print(f"{name}, {way}: {got!r} instead of {want!r}")


main()
