"""Exceptions that pickle alone does not bring to another process, each with what must arrive of it.

The classes are made by functions, so that they travel by value, as those of a program's main module do.
"""

from __future__ import annotations

import builtins
import dataclasses
import enum
import json
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

calls: list[str] = []  # What ran in this process that must not run twice.


def keyword_only() -> BaseException:
    class KeywordOnly(Exception):
        def __init__(self, *, status: int, body: Any) -> None:
            super().__init__(f"status {status}")
            self.status, self.body = status, body

    return KeywordOnly(status=404, body={"k": 1})


def more_parameters() -> BaseException:
    class More(ValueError):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")
            self.a, self.b = a, b

    return More(1, 2)


def fewer_parameters() -> BaseException:
    class Fewer(LookupError):
        def __init__(self) -> None:
            super().__init__("one", "two", "three")
            self.n = 3

    return Fewer()


def broken_reduce() -> BaseException:
    class BrokenReduce(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(a)
            self.b = b

        def __reduce__(self) -> Any:
            return type(self), (1,)

    return BrokenReduce(1, 2)


def raising_reduce() -> BaseException:
    class RaisingReduce(Exception):
        n = 0

        def __reduce__(self) -> Any:
            raise RuntimeError("no")

    error = RaisingReduce("x")
    error.n = 7
    return error


def reduce_to_something_else() -> BaseException:
    class Elsewhere(Exception):
        n = 4

        def __reduce__(self) -> Any:
            return int, ("no number",)

    return Elsewhere("x")


def good_reduce() -> BaseException:
    class GoodReduce(Exception):
        def __init__(self, a: int, *, b: int) -> None:
            super().__init__(f"a={a}")
            self.a, self.b = a, b
            self.lock = threading.Lock()

        def __reduce__(self) -> Any:
            return _made_by_keyword, (type(self), self.a, self.b)

    return GoodReduce(1, b=2)


def _made_by_keyword(kind: Any, a: int, b: int) -> Any:
    return kind(a, b=b)


def side_effects() -> BaseException:
    class Counting(Exception):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            import odd_exceptions

            odd_exceptions.calls.append(text)
            self.number = 5

    return Counting("counted")


def own_new() -> BaseException:
    class OwnNew(Exception):
        def __new__(cls, needed: int, *, also: int) -> OwnNew:
            made = super().__new__(cls)
            made.total = needed + also  # type: ignore[attr-defined]
            return made

        def __init__(self, needed: int, *, also: int) -> None:
            super().__init__("made")

    return OwnNew(1, also=2)


def slots() -> BaseException:
    class Base(Exception):
        __slots__ = ("code", "empty", "unset")

    class Slotted(Base):
        __slots__ = ("detail",)

        def __init__(self, *, code: int) -> None:
            super().__init__("slots")
            self.code, self.detail, self.empty = code, "d", None

    return Slotted(code=3)


def own_getstate() -> BaseException:
    class GetState(Exception):
        def __init__(self, *, path: str) -> None:
            super().__init__(path)
            self.path = path
            self.lock = threading.Lock()

        def __getstate__(self) -> Any:
            return {"path": self.path}

        def __setstate__(self, state: Any) -> None:
            self.__dict__.update(state, loaded=True)

    return GetState(path="p")


def getstate_without_setstate() -> BaseException:
    class OnlyGetState(Exception):
        def __init__(self, *, path: str) -> None:
            self.path = path
            self.lock = threading.Lock()

        def __getstate__(self) -> Any:
            return {"path": self.path}

    return OnlyGetState(path="p")


def args_property() -> BaseException:
    class ArgsProperty(Exception):
        def __init__(self, code: int) -> None:
            self._code = code

        @property
        def args(self) -> Any:  # type: ignore[override]
            return (self._code,)

    return ArgsProperty(7)


def frozen() -> BaseException:
    @dataclasses.dataclass(frozen=True)
    class Frozen(Exception):
        code: int
        where: str = "here"

    return Frozen(7)


def plain_dataclass() -> BaseException:
    @dataclasses.dataclass
    class Data(Exception):
        code: int
        parts: list[int] = dataclasses.field(default_factory=list)

    return Data(7, [1, 2])


def slotted_dataclass() -> BaseException:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class KeywordData(Exception):
        code: int
        double: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "double", 2 * self.code)

    return KeywordData(code=4)


def our_names() -> BaseException:
    class OurNames(Exception):
        def __init__(self, *, given: int) -> None:
            super().__init__("names")
            self._given = given

        @property
        def pid(self) -> int:
            return self._given

        @property
        def ip(self) -> str:
            return "mine"

        @property
        def function_name(self) -> str:
            return "also mine"

    return OurNames(given=9)


def class_default() -> BaseException:
    class WithDefault(Exception):
        code = 0
        retriable = False

    error = WithDefault("x")
    error.code = 404
    return error


def with_enum() -> BaseException:
    class Color(enum.Enum):
        RED = 1

    class Colored(Exception):
        def __init__(self, *, color: Any) -> None:
            super().__init__(color)
            self.color_name = color.name

    return Colored(color=Color.RED)


def stubborn() -> BaseException:
    class Stubborn(Exception):
        def __init__(self) -> None:
            object.__setattr__(self, "kept", 1)

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    return Stubborn()


def metaclass() -> BaseException:
    class Final(type):
        def __new__(mcs, name: str, bases: Any, namespace: Any) -> Any:
            if any(isinstance(base, Final) for base in bases):
                raise TypeError("final")
            return super().__new__(mcs, name, bases, namespace)

    class Sealed(Exception, metaclass=Final):
        sealed = True

    return Sealed("x")


def init_subclass() -> BaseException:
    class Coded(Exception):
        code = 0

        def __init_subclass__(cls, *, code: int) -> None:
            cls.code = code

    class NotFound(Coded, code=404):
        pass

    return NotFound("x")


def os_error() -> BaseException:
    class ByName(FileNotFoundError):
        def __init__(self, *, name: str) -> None:
            super().__init__(2, "not there", name)

    return ByName(name="f")


def key_error() -> BaseException:
    class NoSuch(KeyError):
        def __init__(self, *, key: str, table: str) -> None:
            super().__init__(key)
            self.table = table

    return NoSuch(key="k", table="t")


def stop_iteration() -> BaseException:
    class Stop(StopIteration):
        def __init__(self, *, value: int) -> None:
            super().__init__(value)

    return Stop(value=4)


def unicode_error() -> BaseException:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")


def unicode_subclass() -> BaseException:
    class BadText(UnicodeEncodeError):
        def __init__(self, *, text: str) -> None:
            super().__init__("ascii", text, 0, 1, "bad")

    return BadText(text="\xe9")


def json_error() -> BaseException:
    return json.JSONDecodeError("no value", "{]", 1)


def import_error() -> BaseException:
    return ImportError("no", name="thing", path="/thing.py")


def module_not_found() -> BaseException:
    return ModuleNotFoundError("No module named 'x'", name="x")


def syntax_error() -> BaseException:
    return SyntaxError("bad", ("file", 1, 2, "text", 1, 3))


def attribute_error() -> BaseException:
    error = AttributeError("no such")
    error.name = "such"
    return error


def name_error() -> BaseException:
    error = NameError("no x")
    error.name = "x"
    return error


def several_bases() -> BaseException:
    class Both(KeyError, OSError):
        def __init__(self, *, key: str) -> None:
            super().__init__(2, key)
            self.key = key

    return Both(key="k")


def group_of_odd() -> BaseException:
    class Many(builtins.ExceptionGroup):  # type: ignore[name-defined, misc, unused-ignore]
        def __init__(self, message: str, members: Any) -> None:
            super().__init__(message, members)
            self.count = len(members)

    return Many("several", [keyword_only(), os_error()])


KINDS: dict[Callable[[], BaseException], dict[str, Any]] = {
    keyword_only: {"status": 404, "body": {"k": 1}},
    more_parameters: {"a": 1, "b": 2},
    fewer_parameters: {"n": 3},
    broken_reduce: {"b": 2},
    raising_reduce: {"n": 7},
    reduce_to_something_else: {"n": 4},
    good_reduce: {"a": 1, "b": 2},
    side_effects: {"number": 5},
    own_new: {"total": 3},
    slots: {"code": 3, "detail": "d", "empty": None},
    own_getstate: {"path": "p", "loaded": True},
    getstate_without_setstate: {"path": "p"},
    args_property: {"_code": 7},
    frozen: {"code": 7, "where": "here"},
    plain_dataclass: {"code": 7, "parts": [1, 2]},
    slotted_dataclass: {"code": 4, "double": 8},
    our_names: {"pid": 9, "ip": "mine", "function_name": "also mine"},
    class_default: {"code": 404, "retriable": False},
    with_enum: {"color_name": "RED"},
    stubborn: {"kept": 1},
    metaclass: {"sealed": True},
    init_subclass: {"code": 404},
    os_error: {"errno": 2, "strerror": "not there", "filename": "f"},
    key_error: {"table": "t"},
    stop_iteration: {"value": 4},
    unicode_error: {"encoding": "utf-8", "object": b"\xff", "start": 0, "end": 1, "reason": "bad"},
    unicode_subclass: {"object": "\xe9", "reason": "bad"},
    json_error: {"msg": "no value", "doc": "{]", "pos": 1, "lineno": 1, "colno": 2},
    import_error: {"msg": "no", "name": "thing", "path": "/thing.py"},
    module_not_found: {"name": "x"},
    syntax_error: {"filename": "file", "lineno": 1, "offset": 2, "text": "text", "end_offset": 3},
    attribute_error: {"name": "such"},
    name_error: {"name": "x"},
    several_bases: {"key": "k"},
}
if sys.version_info >= (3, 11):
    KINDS[group_of_odd] = {"count": 2, "message": "several"}


def system_exit() -> BaseException:
    class Exit(SystemExit):
        def __init__(self, *, code: int) -> None:
            super().__init__(code)

    return Exit(code=3)


def keyboard_interrupt() -> BaseException:
    class Interrupted(KeyboardInterrupt):
        def __init__(self, *, by: str) -> None:
            self.by = by

    return Interrupted(by="me")


# These mean something else when they leave a task.
AS_VALUES_ONLY: dict[Callable[[], BaseException], dict[str, Any]] = {
    system_exit: {"code": 3},
    keyboard_interrupt: {"by": "me"},
}


def with_socket() -> BaseException:
    class Connected(Exception):
        def __init__(self, *, host: str) -> None:
            super().__init__(host, socket.socket())
            self.host = host
            self.lock = threading.Lock()

    return Connected(host="h")
