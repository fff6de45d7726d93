"""What programs define in their main module, in functions and in closures travels to workers and back:
classes of many kinds, caches, dispatchers, and what is called to submit a task."""

from __future__ import annotations

import functools
import inspect
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from mobula import _core, _culprits, _pydantic_v1

pytestmark = pytest.mark.mobula_only

PROGRAM = (Path(__file__).parent / "main_program.py").read_text()


@pytest.mark.parametrize("where", ["main module", "function"])
def test_what_is_defined_in_the(where: str, run_script: Callable[..., Any]) -> None:
    pytest.importorskip("pydantic")
    pytest.importorskip("attrs")
    program = PROGRAM
    if where == "function":
        start, definitions, end = (
            part.partition("\n")[2]
            for part in ("\n" + PROGRAM.replace("# ---- end of the", "# ----")).split("# ----")
        )
        body = textwrap.indent(definitions, "    ")
        define = f"def define():\n{body}\n    return locals()\n\nglobals().update(define())\n"
        program = f"{start}\n{define}{end}"
    assert run_script(program).stdout == ""


def test_a_field_of_a_compiled_model_of_pydantic_1_is_made_again() -> None:
    v1 = pytest.importorskip("pydantic.v1")

    def double(value: int) -> int:
        return 2 * value

    class Model(v1.BaseModel):  # type: ignore[misc, name-defined]
        x: list[int] | None = v1.Field(..., alias="X")
        _double = v1.validator("x", each_item=True, allow_reuse=True)(double)

    field = Model.__fields__["x"]
    make, arguments, (_, state) = _pydantic_v1.reduce_field(field)
    again = make(*arguments)
    for name, value in state.items():
        setattr(again, name, value)
    assert again.validate(["1", 2], {}, loc="x") == ([2, 4], None)
    assert again.validate(None, {}, loc="x") == (None, None)
    assert again.validate("no", {}, loc="x")[1] is not None
    for name in ("alias", "required", "allow_none", "shape", "type_", "outer_type_", "name"):
        assert getattr(again, name) == getattr(field, name)


@pytest.fixture(scope="module")
def _session() -> Any:
    ray.init(num_cpus=2)
    yield
    ray.shutdown()


def get(ref: Any) -> Any:
    return ray.get(ref, timeout=30)


@ray.remote
def call(function: Any, *args: Any) -> Any:
    return ray.get(function(*args))


@ray.remote
def double(x: int) -> int:
    return 2 * x


@ray.remote
def count(n: int) -> Any:
    yield from range(n)


@ray.remote
class Adder:
    def add(self, x: int, y: int = 1) -> int:
        return x + y

    def count(self, n: int) -> Any:
        yield from range(n)


class Holder:
    def __init__(self, callback: Any) -> None:
        self.callback = callback

    def __call__(self, x: int) -> Any:
        return self.callback(x)


@ray.remote
class Notifier:
    def __init__(self, callback: Any) -> None:
        self.callback = callback

    def tell(self, x: int) -> Any:
        return ray.get(self.callback(x))


WAYS: dict[str, Callable[[Any], tuple[Any, int]]] = {
    "f.remote": lambda _: (double.remote, 6),
    "partial(f.remote)": lambda _: (functools.partial(double.remote), 6),
    "f.options(...).remote": lambda _: (double.options(num_cpus=0, name="n").remote, 6),
    "f in an environment": lambda _: (
        double.options(runtime_env={"env_vars": {"MOBULA_TEST_X": "1"}}).remote,
        6,
    ),
    "f placed": lambda _: (double.options(scheduling_strategy="SPREAD").remote, 6),
    "a.m.remote": lambda a: (a.add.remote, 4),
    "partial(a.m.remote)": lambda a: (functools.partial(a.add.remote, y=2), 5),
    "a.m.options(...).remote": lambda a: (a.add.options(name="n").remote, 4),
    "in an object": lambda a: (Holder(a.add.remote), 4),
    "in a closure": lambda a: ((lambda x, _f=a.add.remote: _f(x)), 4),
    "bound method of an object": lambda a: (Holder(a.add.remote).__call__, 4),
}


@pytest.mark.usefixtures("_session")
@pytest.mark.parametrize("way", WAYS)
def test_what_submits_a_task_is_a_value(way: str) -> None:
    adder = Adder.remote()
    function, want = WAYS[way](adder)
    assert get(call.remote(function, 3)) == want
    assert get(Notifier.remote(function).tell.remote(3)) == want  # type: ignore[attr-defined]
    assert get(get(ray.put([function]))[0](3)) == want


@pytest.mark.usefixtures("_session")
def test_what_submits_generators_is_a_value_too() -> None:
    @ray.remote
    def items(function: Any) -> list[int]:
        return [ray.get(ref) for ref in function(3)]

    adder: Any = Adder.remote()
    assert get(items.remote(count.remote)) == [0, 1, 2]
    assert get(items.remote(adder.count.remote)) == [0, 1, 2]


@pytest.mark.usefixtures("_session")
def test_what_makes_an_actor_is_a_value() -> None:
    @ray.remote
    def use(make: Any) -> Any:
        return ray.get(make().add.remote(1))

    assert get(use.remote(Adder.remote)) == 2
    assert get(use.remote(Adder.options(num_cpus=0).remote)) == 2
    assert get(use.remote(functools.partial(Adder.remote))) == 2


@pytest.mark.usefixtures("_session")
def test_a_method_that_is_kept_keeps_its_actor_and_no_more() -> None:
    import weakref

    adder: Any = Adder.remote()
    method = weakref.ref(adder.add)
    remote = adder.add.remote
    del adder
    assert method() is None  # At once: nothing refers to itself.
    assert get(call.remote(remote, 1)) == 2


@pytest.mark.usefixtures("_session")
def test_a_cached_function_can_be_remote() -> None:
    @ray.remote
    @functools.lru_cache(maxsize=4)
    def square(x: int) -> int:
        return x * x

    assert get([square.remote(3), square.remote(x=4)]) == [9, 16]
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        square.remote()


# ---- what cannot be pickled is named -------------------------------------------------------------

guard = threading.Lock()


def uses_guard() -> None:
    with guard:
        pass


def culprits_of_methods() -> dict[str, tuple[Any, str]]:
    lock = threading.Lock()

    def local(x: Any = 1) -> Any:
        return lock, x

    class Method:
        def get(self) -> Any:
            return lock

    class Property:
        @property
        def held(self) -> Any:
            return lock

    class Static:
        @staticmethod
        def held() -> Any:
            return lock

    class OfClass:
        @classmethod
        def held(cls) -> Any:
            return lock

    class Default:
        def get(self, held: Any = lock) -> Any:
            return held

    class KeywordDefault:
        def get(self, *, held: Any = lock) -> Any:
            return held

    class Calls:
        def get(self) -> Any:
            return local()

    class Cached:
        @functools.cached_property
        def slow(self) -> Any:
            return lock

    class Remembers:
        @functools.cache  # noqa: B019
        def slow(self) -> Any:
            return lock

    class Bound:
        act = functools.partialmethod(lambda self, x: x, lock)

    return {
        "a method's variable": (Method, ".get -> lock"),
        "a property": (Property, ".held -> lock"),
        "a static method": (Static, ".held -> lock"),
        "a class method": (OfClass, ".held -> lock"),
        "a default": (Default, ".get (a default)"),
        "a keyword's default": (KeywordDefault, ".get (the default of held)"),
        "a function that a method calls": (Calls, ".get -> local -> lock"),
        "a cached_property": (Cached, ".slow -> lock"),
        "a cache": (Remembers, ".slow -> lock"),
        "a partialmethod": (Bound, ".act"),
    }


def culprits_of_classes() -> dict[str, tuple[Any, str]]:
    lock = threading.Lock()

    class Attribute:
        inner_lock = threading.Lock()

    class Nested:
        class Inner:
            class Deep:
                deep_lock = threading.Lock()

    class Derived(Attribute):
        pass

    class Table:
        table = {"a": [1, {"b": lock}]}  # noqa: RUF012

    class Meta(type):
        meta_lock = threading.Lock()

    class OfMeta(metaclass=Meta):
        pass

    class First:
        def get(self) -> Any:
            return Second

    class Second:
        other = First
        second_lock = threading.Lock()

    return {
        "an attribute": (Attribute, ".inner_lock"),
        "a nested class": (Nested, ".Inner.Deep.deep_lock"),
        "a base": (Derived, " (a base: culprits_of_classes.<locals>.Attribute).inner_lock"),
        "a table": (Table, ".table['a'][1]['b']"),
        "a metaclass": (OfMeta, " (its metaclass).meta_lock"),
        "classes that refer to each other": (First, ".get -> Second.second_lock"),
    }


CULPRITS = {**culprits_of_methods(), **culprits_of_classes()}


@pytest.mark.parametrize("what", CULPRITS)
def test_the_culprit_is_found_in(what: str) -> None:
    cls, path = CULPRITS[what]
    found = _culprits.find_unserializable(cls)
    assert found.endswith(f"at <value>{path}")
    assert "lock" in found.partition(" at ")[0]
    with pytest.raises(TypeError):
        _core._encode_for_test(cls)


def test_what_a_class_leaves_out_of_its_state_is_no_culprit() -> None:
    class State:
        def __init__(self) -> None:
            self.left_out, self.kept = threading.Lock(), threading.Lock()

        def __getstate__(self) -> Any:
            return {"kept": self.kept}

    class Slots:
        __slots__ = ("held",)

        def __init__(self) -> None:
            self.held = threading.Lock()

    assert _culprits.find_unserializable(State()).endswith("<value>.kept")
    assert _culprits.find_unserializable([Slots()]).endswith("<value>[0].held")
    assert _culprits.find_unserializable(functools.partial(print, guard)).endswith(
        "<value>.args[0]"
    )


def test_a_search_without_end_ends() -> None:
    many = [[i, {"a": (i, [i])}] for i in range(5000)]
    assert _culprits.find_unserializable([*many, guard]) == ""


@pytest.mark.usefixtures("_session")
def test_the_error_for_an_actor_class_names_the_variable(run_script: Any) -> None:
    text = """
import contextvars, threading
import mobula as ray

request_id = contextvars.ContextVar("request_id")
guard = threading.Lock()

class Base:
    def locked(self):
        with guard:
            return 1

@ray.remote
class UsesVariable:
    def get(self):
        return request_id.get()

@ray.remote
class Derived(Base):
    pass

ray.init(num_cpus=1)
for kind in (UsesVariable, Derived):
    try:
        kind.remote()
    except TypeError as error:
        print(str(error).rpartition("at <value>")[2])
"""
    assert (
        run_script(text).stdout == ".cls.get -> request_id\n.cls (a base: Base).locked -> guard\n"
    )


def test_the_signature_of_what_submits_is_that_of_its_function() -> None:
    assert list(inspect.signature(double.remote).parameters) == ["x"]
