"""`remote` takes the arguments that Python would take, and refuses those that it would refuse."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import mobula as ray
import pytest
from mobula import _signatures

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.mobula_only]


def gives_one(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("given", *args, **kwargs)

    return wrapper


def takes_option(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, log: bool = False, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def takes_first(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(first: Any, *args: Any, **kwargs: Any) -> Any:
        return first, function(*args, **kwargs)

    return wrapper


def hands_on(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        len(args)
        result = function(*args, **kwargs)
        len(args)
        return result

    return wrapper


def drops_option(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("option", None)
        return function(*args, **kwargs)

    return wrapper


def drops_args(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        args = args[:1]
        return function(*args, **kwargs)

    return wrapper


def catches(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            return "caught"

    return wrapper


def may_not_call(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not args:
            return "nothing"
        return function(*args, **kwargs)

    return wrapper


def ignores(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return len(args)

    return wrapper


def has_two(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(x: Any, y: Any) -> Any:
        return function(x), y

    return wrapper


def one(value: Any) -> Any:
    return value


def two(key: Any, value: Any) -> Any:
    return key, value


def keyword(value: Any, *, scale: int) -> Any:
    return value * scale


def says_other(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


says_other.__signature__ = inspect.signature(two)  # type: ignore[attr-defined]


class Methods:
    def bound(self, value: Any) -> Any:
        return value

    @classmethod
    def of_class(cls, value: Any) -> Any:
        return cls.__name__, value

    @staticmethod
    def plain(value: Any) -> Any:
        return value


Case = tuple[Any, tuple[Any, ...], dict[str, Any]]

TAKEN: dict[str, Case] = {
    "an argument is given": (gives_one(two), ("v",), {}),
    "an option is taken": (takes_option(two), (1, 2), {"log": True}),
    "an option is left out": (takes_option(two), (1, 2), {}),
    "a first argument is taken": (takes_first(two), (0, 1, 2), {}),
    "a keyword is handed on": (takes_option(keyword), (1,), {"scale": 2, "log": True}),
    "a wrapper has a precise signature": (has_two(one), (1, 2), {}),
    "keywords are changed before": (drops_option(one), (1,), {"option": 2}),
    "arguments are changed before": (drops_args(one), (1, 2, 3), {}),
    "a refusal is caught": (catches(one), (1, 2, 3), {}),
    "the call may be left out": (may_not_call(one), (), {}),
    "what is wrapped is not called": (ignores(one), (1, 2, 3), {}),
    "one wrapper in another": (takes_option(gives_one(two)), ("v",), {"log": True}),
    "the function says another signature": (says_other, (1, 2, 3), {"c": 4}),
    "a bound method": (Methods().bound, (1,), {}),
    "a class method": (Methods.of_class, (1,), {}),
    "a static method": (Methods.plain, (1,), {}),
    "a method of a class, with its instance": (Methods.bound, (None, 2), {}),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_python_takes_a_task_takes(what: str) -> None:
    function, args, kwargs = TAKEN[what]
    assert ray.get(ray.remote(function).remote(*args, **kwargs)) == function(*args, **kwargs)


REFUSED: dict[str, Case] = {
    "too few for what is wrapped": (hands_on(one), (), {}),
    "too many for what is wrapped": (hands_on(one), (1, 2), {}),
    "a keyword that nobody takes": (hands_on(one), (1,), {"scale": 2}),
    "one too many beside a given one": (gives_one(two), (1, 2), {}),
    "one too few beside a given one": (gives_one(two), (), {}),
    "too many beside an option": (takes_option(one), (1, 2), {"log": True}),
    "a keyword missing behind a wrapper": (takes_option(keyword), (1,), {}),
    "too few for a precise wrapper": (has_two(one), (1,), {}),
    "too many for a precise wrapper": (has_two(one), (1, 2, 3), {}),
    "too few for one wrapper in another": (takes_option(hands_on(two)), (1,), {"log": True}),
    "too few after a first argument": (takes_first(two), (0, 1), {}),
    "a bound method": (Methods().bound, (1, 2), {}),
    "a class method": (Methods.of_class, (), {}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_python_refuses_is_refused_when_it_is_submitted(what: str) -> None:
    function, args, kwargs = REFUSED[what]
    with pytest.raises(TypeError):
        function(*args, **kwargs)
    with pytest.raises(TypeError):
        ray.remote(function).remote(*args, **kwargs)


class Summing(type):
    def __call__(cls, *args: int) -> Any:
        return super().__call__(sum(args))


@ray.remote
class Summed(metaclass=Summing):
    def __init__(self, total: int) -> None:
        self.total = total

    def value(self) -> int:
        return self.total


@ray.remote
class Wrapped:
    @takes_option
    def __init__(self, value: int) -> None:
        self.value_ = value

    def value(self) -> int:
        return self.value_

    @takes_option
    def add(self, value: int) -> int:
        return self.value_ + value

    @hands_on
    def same(self, value: int) -> int:
        return value

    @functools.wraps(one)
    def has_other_name(self, a: int, *, b: int = 0) -> int:
        return a + b

    @staticmethod
    @gives_one
    def static(given: str, value: int) -> Any:
        return given, value

    @classmethod
    @takes_option
    def of_class(cls, value: int) -> int:
        return value


def test_constructors_take_what_python_takes() -> None:
    assert ray.get(Wrapped.remote(1, log=True).value.remote()) == 1
    assert ray.get(Summed.remote(1, 2, 3).value.remote()) == 6  # type: ignore[call-arg]


def test_constructors_refuse_what_python_refuses() -> None:
    @ray.remote
    class Made:
        def __new__(cls, *args: Any) -> Any:
            return super().__new__(cls)

        def __init__(self, a: int, b: int) -> None:
            pass

    @ray.remote
    class New:
        def __new__(cls, a: int) -> Any:
            return super().__new__(cls)

        def __init__(self, *args: Any) -> None:
            pass

    refused: list[Callable[[], Any]] = [
        lambda: Wrapped.remote(log=True),
        lambda: Wrapped.remote(1, 2),
        lambda: Made.remote(1),
        lambda: New.remote(1, 2),
    ]
    for refuse in refused:
        with pytest.raises(TypeError):
            refuse()


def test_methods_take_and_refuse_what_python_does() -> None:
    actor = Wrapped.remote(1)
    assert ray.get(actor.add.remote(2, log=True)) == 3
    assert ray.get(actor.same.remote(2)) == 2
    assert ray.get(actor.has_other_name.remote(2, b=3)) == 5
    assert ray.get(actor.static.remote(4)) == ("given", 4)
    assert ray.get(actor.of_class.remote(5, log=True)) == 5
    refused: list[Callable[[], Any]] = [
        actor.add.remote,
        lambda: actor.add.remote(1, 2),
        lambda: actor.same.remote(1, other=2),
        lambda: actor.has_other_name.remote(1, 2),
        actor.static.remote,
        lambda: actor.of_class.remote(1, 2),
    ]
    for refuse in refused:
        with pytest.raises(TypeError):
            refuse()


def test_a_wrapper_that_holds_a_lock_or_puts_two_values_first_is_understood() -> None:
    lock = threading.Lock()

    def plain(a: Any, b: Any, c: Any = 1) -> None:
        pass

    @functools.wraps(plain)
    def locks(*args: Any, **kwargs: Any) -> None:
        with lock:
            plain(*args, **kwargs)

    @functools.wraps(plain)
    def two_first(x: Any, y: Any, *args: Any, **kwargs: Any) -> None:
        plain(x, y, *args, **kwargs)

    @functools.wraps(plain)
    def changes(*args: Any, **kwargs: Any) -> None:
        args, more = args[1:], args[:1]
        del more
        plain(*args, **kwargs)

    assert list(_signatures.of(locks).parameters) == ["args", "kwargs"]
    assert list(_signatures.of(two_first).parameters) == ["x", "y", "c"]
    assert list(_signatures.of(changes).parameters) == ["args", "kwargs"]
