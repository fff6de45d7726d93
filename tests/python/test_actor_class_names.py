"""In its own methods the name of an actor class is the class, not what makes actors of it."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mobula as ray
import pytest

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.mobula_only]


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


class Base:
    made_by = "base"

    def __init__(self) -> None:
        self.x = 1

    def of_base(self) -> bool:
        return isinstance(self, Base)


@ray.remote
class Named(Base):
    constant = 7

    def __init__(self, value: int = 1) -> None:
        super(Named, self).__init__()  # noqa: UP008
        self.value = value

    def sum(self) -> int:
        return int(self.x + self.value)

    def is_me(self) -> tuple[bool, bool, bool, bool]:
        me = type(self) is Named
        return me, isinstance(self, Named), issubclass(type(self), Named), isinstance(Named, type)

    def make(self) -> int:
        return int(Named(5).value)

    @staticmethod
    def double(value: int) -> int:
        return value * 2

    @classmethod
    def of(cls, value: int) -> Any:
        return cls(value)

    def by_name(self) -> tuple[int, int, int]:
        return Named.double(2), Named.of(3).value, Named.constant

    def set_constant(self, value: int) -> tuple[int, int]:
        Named.constant = value
        return self.constant, type(self).constant

    @property
    def own(self) -> bool:
        return type(self) is Named

    def read_own(self) -> bool:
        return self.own

    @wrapped
    def decorated(self) -> bool:
        return type(self) is Named

    def inner(self) -> list[bool]:
        return [type(self) is Named for _ in range(2)] + [(lambda: Named is type(self))()]

    def helped(self) -> bool:
        return is_named(self)

    def child(self) -> int:
        return int(ray.get(Named.remote(10).sum.remote()))

    def child_with_options(self) -> int:
        handle = Named.options(num_cpus=0, max_restarts=1).remote(20)
        return int(ray.get(handle.sum.remote()))

    def child_is_me(self) -> Any:
        return ray.get(Named.remote().is_me.remote())

    def has_no_remote(self) -> bool:
        return not hasattr(self, "remote") and not hasattr(self, "options")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and other.value == self.value

    def __hash__(self) -> int:
        return 1

    def equals(self, value: int) -> bool:
        return self == Named(value)

    def itself(self) -> Any:
        return Named(3)

    def is_raised_and_caught(self) -> bool:
        try:
            raise_it()
        except LookupError:
            return True
        return False


def is_named(value: Any) -> bool:
    return type(value) is Named


def raise_it() -> None:
    raise KeyError("it")


ALL_TRUE = (True, True, True, True)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("sum", 2),
        ("is_me", ALL_TRUE),
        ("make", 5),
        ("by_name", (4, 3, 7)),
        ("read_own", True),
        ("decorated", True),
        ("inner", [True] * 3),
        ("helped", True),
        ("child", 11),
        ("child_with_options", 21),
        ("child_is_me", ALL_TRUE),
        ("has_no_remote", True),
        ("of_base", True),
    ],
)
def test_in_an_actor_its_class_has_its_own_name(method: str, expected: Any) -> None:
    """This module is imported by the actor, so its class is found by name."""
    assert ray.get(getattr(Named.remote(), method).remote()) == expected


def test_a_class_attribute_is_set_through_the_name() -> None:
    named = Named.remote()
    assert ray.get(named.set_constant.remote(9)) == (9, 9)
    assert ray.get(named.equals.remote(1)) and not ray.get(named.equals.remote(2))


def test_instances_travel_out_of_the_actor_and_into_it() -> None:
    made = ray.get(Named.remote().itself.remote())
    assert isinstance(made, Named) and made.value == 3  # type: ignore[arg-type]
    task = ray.remote(lambda value: (value.value, value == value, type(value).__name__))
    assert ray.get(task.remote(made)) == (3, True, "Named")


def test_the_module_of_the_actor_shows_others_what_makes_actors() -> None:
    def look(self: Any) -> tuple[str, str, bool]:
        import test_actor_class_names as module

        # The name that others see, and the one that the module's functions see.
        return (
            type(module.Named).__name__,
            type(vars(module)["Named"]).__name__,
            module.is_named(self),
        )

    named = Named.remote()
    assert ray.get(named.__ray_call__.remote(look)) == ("ActorClass(Named)", "type", True)


def test_what_others_see_in_the_module_of_an_actor_can_be_set_and_deleted() -> None:
    def change(self: Any) -> list[Any]:
        import test_actor_class_names as module

        found = []
        module.Named = 5  # type: ignore[assignment, misc]
        found += [module.Named, vars(module)["Named"]]
        del module.Named  # type: ignore[misc]
        found += [hasattr(module, "Named"), "Named" in vars(module)]
        return found

    def delete(self: Any) -> bool:
        import test_actor_class_names as module

        del module.Named  # type: ignore[misc]
        return hasattr(module, "Named") or "Named" in vars(module)

    change_ref = Named.remote().__ray_call__.remote(change)
    assert ray.get(change_ref) == [5, 5, False, False]
    assert not ray.get(Named.remote().__ray_call__.remote(delete))


def test_a_class_made_in_a_function_has_its_name_in_its_closure() -> None:
    @ray.remote
    class Local:
        def __init__(self, depth: int = 0) -> None:
            self.depth = depth

        def is_me(self) -> bool:
            return type(self) is Local and isinstance(Local(1), Local)

        def child(self) -> bool:
            return bool(ray.get(Local.remote(1).is_me.remote()))

        def own_super(self) -> str:
            return super(Local, self).__repr__()  # noqa: UP008

    local = Local.remote()
    assert ray.get(local.is_me.remote())
    assert ray.get(local.child.remote())
    assert "Local" in ray.get(local.own_super.remote())


def test_a_derived_class_calls_its_bases_by_name() -> None:
    class Middle(Base):
        def __init__(self) -> None:
            super(Middle, self).__init__()  # noqa: UP008
            self.y = 2

    @ray.remote
    class Derived(Middle):
        def __init__(self) -> None:
            Middle.__init__(self)
            self.z = 3

        def all(self) -> tuple[int, int, int, bool]:
            return self.x, self.y, self.z, Derived is type(self)

    assert ray.get(Derived.remote().all.remote()) == (1, 2, 3, True)


def test_a_class_that_derives_from_the_plain_class_of_an_actor_class() -> None:
    @ray.remote
    class First:
        def __init__(self) -> None:
            super(First, self).__init__()  # noqa: UP008
            self.first = True

        def is_first(self) -> bool:
            return isinstance(self, First) and self.first

    @ray.remote
    class Second(First.__ray_actor_class__):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super(Second, self).__init__()  # noqa: UP008

        def is_second(self) -> bool:
            return type(self) is Second and self.is_first()

    assert ray.get(Second.remote().is_second.remote())
    assert ray.get(First.remote().is_first.remote())


def test_one_class_made_remote_twice_has_one_name() -> None:
    class Twice:
        def is_me(self) -> bool:
            return type(self) is Twice

        def other(self) -> Any:
            return ray.get(Other.remote().is_me.remote())

    Plain = Twice
    Other = ray.remote(num_cpus=0)(Plain)
    Twice = ray.remote(Plain)  # type: ignore[misc,assignment]
    assert ray.get(Twice.remote().is_me.remote())  # type: ignore[attr-defined]
    assert ray.get(Other.remote().is_me.remote())
    assert ray.get(Twice.remote().other.remote())  # type: ignore[attr-defined]


def test_a_class_has_its_own_attributes_of_these_names() -> None:
    @ray.remote
    class Own:
        remote = "mine"

        def options(self) -> str:
            return "method"

        def read(self) -> tuple[str, str]:
            return Own.remote, Own.options(self)

    assert ray.get(ray.remote(Own.__ray_actor_class__).remote().read.remote()) == ("mine", "method")


def test_without_an_actor_the_name_says_of_which_class_something_is() -> None:
    plain = Named.__ray_actor_class__
    Here = ray.remote(type("Here", (), {}))
    assert isinstance(Here.__ray_actor_class__(), Here) and not isinstance(1, Here)
    assert issubclass(Here.__ray_actor_class__, Here) and not issubclass(int, Here)
    assert issubclass(plain, Named)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be instantiated directly"):
        Named(1)


def test_its_own_functions_make_instances_also_without_an_actor() -> None:
    @ray.remote
    class Factory:
        def __init__(self, value: int) -> None:
            self.value = value

        @staticmethod
        def make(value: int) -> Any:
            return Factory(value)

        @classmethod
        def many(cls) -> list[Any]:
            return [Factory(value) for value in range(2)]

    assert Factory.make(3).value == 3
    assert [one.value for one in Factory.many()] == [0, 1]
    with pytest.raises(TypeError, match="cannot be instantiated directly"):
        Factory(1)


PROGRAM = """
import sys
import mobula as ray
class Base:
    def __init__(self): self.x = 1
@ray.remote
class Old(Base):
    def __init__(self): super(Old, self).__init__(); self.y = 2
    def get(self): return self.x + self.y
    def is_me(self): return type(self) is Old and isinstance(Old(), Old) and helper(self)
    def child(self): return ray.get(Old.remote().is_me.remote())
    def options_of_child(self): return ray.get(Old.options(num_cpus=0).remote().get.remote())
    def send(self): return ray.get(use.remote(Old()))
    def give(self): return Old()
    async def later(self): return type(self) is Old
class Outer:
    @ray.remote
    class Inner:
        def is_me(self): return type(self) is Outer.Inner
        def old(self): return super(Outer.Inner, self).__init__() is None
def helper(value): return type(value) is Old
@ray.remote
def use(old): return old.get()
if __name__ == "__main__":
    ray.init(num_cpus=2)
    old = Old.remote()
    print(ray.get([old.get.remote(), old.is_me.remote(), old.later.remote()]))
    print(ray.get([old.child.remote(), old.options_of_child.remote(), old.send.remote()]))
    print(ray.get(old.give.remote()).get(), isinstance(ray.get(old.give.remote()), Old))
    inner = Outer.Inner.remote()
    print(ray.get([inner.is_me.remote(), inner.old.remote()]))
    @ray.remote
    def makes(): return ray.get(Old.remote().is_me.remote())
    print(ray.get(makes.remote()))
"""
PRINTED = ["[3, True, True]", "[True, 3, 3]", "3 True", "[True, True]", "True"]


def test_in_a_program_the_class_has_its_own_name(
    run_script: Callable[..., subprocess.CompletedProcess[str]], no_session: None
) -> None:
    assert run_script(PROGRAM).stdout.splitlines() == PRINTED


def test_in_a_module_that_is_imported_the_class_has_its_own_name(
    run_script: Callable[..., subprocess.CompletedProcess[str]], no_session: None, tmp_path: Path
) -> None:
    body, _, main = PROGRAM.partition('if __name__ == "__main__":\n')
    (tmp_path / "their_module.py").write_text(body)
    program = "from their_module import *\n" + main.replace("\n    ", "\n").removeprefix("    ")
    assert run_script(program).stdout.splitlines() == PRINTED
