"""RayTaskError as an instance of what the task raised. Needs no session."""

from __future__ import annotations

import builtins
import pickle
import sys
from typing import Any

import pytest
from mobula import exceptions
from mobula.exceptions import RayTaskError

pytestmark = pytest.mark.mobula_only


class Plain(ValueError):
    pass


class Picky(Exception):
    def __init__(self, a: int, *, b: int) -> None:
        super().__init__(f"a={a}")
        self.a = a
        self.b = b

    def total(self) -> int:
        return self.a + self.b

    def __reduce__(self) -> Any:
        return _make_picky, (self.a, self.b)


def _make_picky(a: int, b: int) -> Picky:
    return Picky(a, b=b)


class Slotted(Exception):
    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


class OwnNew(Exception):
    def __new__(cls, needed: int) -> OwnNew:
        return super().__new__(cls)


class Stubborn(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __init__(self) -> None:
        pass


class NotAnException(BaseException):
    pass


class Shadowing(Exception):
    def __init__(self) -> None:
        super().__init__("x")
        self.pid = "mine"
        self.function_name = "also mine"


def wrap(cause: BaseException) -> Any:
    return RayTaskError("f", "mobula::f() (pid=3)\nthe text", cause, pid=3).as_instanceof_cause()


@pytest.mark.parametrize(
    "cause",
    [
        Plain("x"),
        Picky(1, b=2),
        Slotted(5),
        OwnNew(1),
        Stubborn(),
        NotAnException("x"),
        Shadowing(),
        KeyError("k"),
        OSError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(4),
        SystemExit(3),
        KeyboardInterrupt(),
        MemoryError(),
        ConnectionResetError(),
        SyntaxError("bad", ("file", 1, 2, "text")),
        ImportError("no", name="thing"),
        exceptions.GetTimeoutError("late"),
        exceptions.WorkerCrashedError("SIGKILL"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_it_is_an_instance_of_both(cause: BaseException) -> None:
    error = wrap(cause)
    assert isinstance(error, RayTaskError)
    assert isinstance(error, exceptions.RayError)
    assert isinstance(error, type(cause))
    assert error.cause is cause
    assert error.args == (cause,)
    assert type(error).__name__ == f"RayTaskError({type(cause).__name__})"
    assert str(error) == "mobula::f() (pid=3)\nthe text"
    assert repr(cause) in repr(error)
    with pytest.raises(type(cause)):
        raise error


def test_attributes_and_methods_of_the_cause_can_be_used() -> None:
    error = wrap(Picky(1, b=2))
    assert (error.a, error.b, error.total()) == (1, 2, 3)
    assert wrap(Slotted(5)).value == 5


def test_fields_of_builtin_exceptions_can_be_read() -> None:
    error = wrap(OSError(2, "No such file", "name"))
    assert isinstance(error, FileNotFoundError)
    assert (error.errno, error.strerror, error.filename) == (2, "No such file", "name")
    assert wrap(StopIteration(4)).value == 4
    assert wrap(SystemExit(3)).code == 3
    decode = wrap(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"))
    assert (decode.encoding, decode.object, decode.start, decode.reason) == (
        "utf-8",
        b"\xff",
        0,
        "bad",
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in 3.11")
def test_exception_groups_can_be_split() -> None:
    group = builtins.ExceptionGroup("several", [ValueError(1), KeyError(2)])  # type: ignore[attr-defined, unused-ignore]
    error = wrap(group)
    assert isinstance(error, type(group))
    assert error.message == "several"
    matching, rest = error.split(ValueError)
    assert [type(e) for e in matching.exceptions] == [ValueError]
    assert [type(e) for e in rest.exceptions] == [KeyError]


def test_its_own_fields_can_be_read_unless_the_cause_has_such() -> None:
    error = wrap(Plain("x"))
    assert (error.function_name, error.pid) == ("f", 3)
    assert error.traceback_str.endswith("the text")
    assert error.proctitle == "mobula::f()"
    mine = wrap(Shadowing())
    assert (mine.pid, mine.function_name) == ("mine", "also mine")


def test_a_missing_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such"):
        _ = wrap(Plain("x")).no_such
    assert not hasattr(wrap(Plain("x")), "no_such")


@pytest.mark.parametrize("cause", [Plain("x"), Picky(1, b=2), KeyError("k"), OSError(2, "No")])
def test_it_can_be_pickled(cause: BaseException) -> None:
    again = pickle.loads(pickle.dumps(wrap(cause)))
    assert type(again) is type(wrap(cause))
    assert type(again.cause) is type(cause)
    assert str(again) == str(wrap(cause))
    assert again.pid == 3


def test_the_plain_form_can_be_pickled() -> None:
    error = RayTaskError("f", "text", ValueError(1), pid=3)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is RayTaskError
    assert str(again) == "text"


def test_a_cause_that_it_is_anyway_makes_no_new_class() -> None:
    assert type(wrap(Exception("x"))) is RayTaskError
    assert type(wrap(exceptions.RayError("x"))) is RayTaskError


def test_a_class_that_cannot_be_derived_from_leaves_the_plain_form() -> None:
    class Unordered(type):
        def mro(cls) -> Any:
            if len(cls.__bases__) > 1:
                raise TypeError("no bases beside this one")
            return super().mro()

    class Alone(Exception, metaclass=Unordered):
        pass

    error = wrap(Alone("x"))
    assert type(error) is RayTaskError
    assert isinstance(error.cause, Alone)


def test_a_class_that_forbids_to_derive_from_it_is_caught_by_its_name() -> None:
    class Final(Exception):
        def __init_subclass__(cls) -> None:
            raise TypeError("final")

    error = wrap(Final("x"))
    assert isinstance(error, RayTaskError)
    assert isinstance(error, Final)


def test_the_text_is_made_when_it_is_read() -> None:
    class Failure:
        reads = 0

        @property
        def traceback_text(self) -> str:
            self.reads += 1
            return "made"

    failure = Failure()
    error = RayTaskError("f", failure, ValueError("x")).as_instanceof_cause()
    assert failure.reads == 0
    assert str(error) == error.traceback_str == "made"
    assert failure.reads == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (exceptions.WorkerCrashedError(), "worker died"),
        (exceptions.WorkerCrashedError("SIGSEGV"), "SIGSEGV"),
        (exceptions.TaskCancelledError(), "cancelled"),
        (exceptions.TaskCancelledError("id7"), "id7"),
        (exceptions.RaySystemError("broken"), "System error: broken"),
        (exceptions.NodeDiedError("node 3"), "node 3"),
        (exceptions.RuntimeEnvSetupError("pip"), "pip"),
        (exceptions.OutOfMemoryError("much"), "much"),
        (exceptions.TaskUnschedulableError("why"), "why"),
        (exceptions.ActorUnschedulableError("why"), "why"),
        (exceptions.ObjectLostError("ab12"), "ab12"),
        (exceptions.OwnerDiedError("ab12"), "ab12"),
        (exceptions.ActorDiedError("gone"), "gone"),
        (exceptions.ActorUnavailableError("busy", b"id"), "busy"),
        (exceptions.UnserializableException("original"), "original"),
        (exceptions.RpcError("lost", 3), "lost"),
        (exceptions.AuthenticationError("who"), "who"),
        (exceptions.TaskPlacementGroupRemoved(), "placement group"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_texts_survive_pickling(error: Exception, text: str) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert text in str(error)
    assert str(again) == str(error)


def test_the_tree() -> None:
    bases = {
        "GetTimeoutError": TimeoutError,
        "ReferenceCountingAssertionError": AssertionError,
        "RayChannelTimeoutError": TimeoutError,
        "ActorAlreadyExistsError": ValueError,
        "ActorDiedError": exceptions.RayActorError,
        "ActorUnavailableError": exceptions.RayActorError,
        "ObjectFreedError": exceptions.ObjectLostError,
        "ObjectFetchTimedOutError": exceptions.ObjectLostError,
        "OwnerDiedError": exceptions.ObjectLostError,
        "ObjectReconstructionFailedError": exceptions.ObjectLostError,
        "ObjectReconstructionFailedMaxAttemptsExceededError": exceptions.ObjectLostError,
        "ObjectReconstructionFailedLineageEvictedError": exceptions.ObjectLostError,
        "RayChannelError": exceptions.RaySystemError,
        "RayCgraphCapacityExceeded": exceptions.RaySystemError,
    }
    for name, base in bases.items():
        assert issubclass(getattr(exceptions, name), base)
    for name in exceptions.__all__:
        assert issubclass(getattr(exceptions, name), exceptions.RayError)
