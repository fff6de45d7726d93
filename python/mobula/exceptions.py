"""What `get`, `put`, `wait` and `init` raise, under the names that Ray Core programs catch.

RayError
 |- RayTaskError                   a task raised; also an instance of what it raised
 |- WorkerCrashedError             the process that ran the task died
 |- GetTimeoutError                also a TimeoutError
 |- ObjectLostError ...            a value is gone and cannot be made again
 |- ObjectStoreFullError, OutOfDiskError, OutOfMemoryError
 |- RaySystemError                 Mobula itself failed, or is not running
 '- others for actors, placement groups, cancellation and runtime environments
"""

from __future__ import annotations

import abc
import types
from typing import Any, ClassVar

from mobula import _core
from mobula._exceptions_pickled import Portable
from mobula._exceptions_unpickled import blank
from mobula._titles import title_prefix


class RayError(Exception):
    """The base of everything here."""


# ---- tasks that raised ---------------------------------------------------------------------------


class RayTaskError(RayError):
    """A task raised an exception.

    What `get` raises is, where possible, also an instance of the class that the task raised, so that
    `except ValueError:` works; `cause` is the original exception and its attributes can be read from
    this one. `str()` shows the traceback of the task.

    `traceback_str` may be given as an object with an attribute `traceback_text`, which is not read
    before somebody looks: most exceptions are never printed.
    """

    def __init__(
        self,
        function_name: str,
        traceback_str: Any,
        cause: BaseException,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        own = {
            "function_name": function_name,
            "traceback_str": traceback_str,
            "cause": cause,
            "proctitle": proctitle or f"{title_prefix()}{function_name}()",
            "pid": pid,
            "ip": ip,
            "actor_repr": actor_repr,
            "actor_id": actor_id,
        }
        _fill(self, own)

    @property
    def cause(self) -> Any:
        """The exception that the task raised."""
        return self._task_error["cause"]

    def __init_subclass__(cls) -> None:
        """Nothing: what the class of a cause wants to be told of the classes derived from it is not
        meant for ours."""

    def __getattr__(self, name: str) -> Any:
        # Only for what ordinary lookup does not find. The user's attributes win over ours.
        own = self.__dict__.get("_task_error")
        if own is None:
            raise AttributeError(name)
        if self._is_also_the_cause() and not name.startswith("__"):
            try:
                return getattr(own["cause"], name)
            except AttributeError:
                pass
        if name == "traceback_str":
            return _text(own)
        if name in own:
            return own[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _is_also_the_cause(self) -> bool:
        return type(self) is not RayTaskError

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as one that is also an instance of its cause's class."""
        own = self._task_error
        cause = own["cause"]
        if self._is_also_the_cause() or not isinstance(cause, BaseException):
            return self
        if isinstance(cause, RayTaskError):
            return self
        dual = _dual_class(type(cause))
        if dual is None:
            return self
        try:
            error: RayTaskError = blank(dual, (), BaseException.args.__get__(cause))  # type: ignore[attr-defined]
        except TypeError:
            return self
        _fill(error, own)
        return error

    def __str__(self) -> str:
        return _text(self._task_error)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._task_error['cause']!r})"

    if hasattr(BaseException, "add_note"):  # Not in Python 3.10.

        def add_note(self, note: str) -> None:
            """To the cause: a task that passes the error on passes on the cause."""
            cause = self._task_error["cause"]
            if not isinstance(cause, BaseException):
                super().add_note(note)
                return
            cause.add_note(note)
            self.__dict__["__notes__"] = cause.__notes__

    def __reduce__(self) -> tuple[Any, ...]:
        own = dict(self._task_error)
        own["traceback_str"] = _text(self._task_error)
        cause = own["cause"]
        if isinstance(cause, BaseException) and not _core.is_serializing():
            own["cause"] = Portable(cause)
        of_cause = getattr(cause, "__dict__", {})
        set_here = {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("_task_error", "__notes__")
            and (name not in of_cause or of_cause[name] is not value)
            and not isinstance(vars(type(self)).get(name), _Forwarded)
        }
        return _rebuild, (self._is_also_the_cause(), own, set_here)


def _text(own: dict[str, Any]) -> str:
    text = own["traceback_str"]
    if not isinstance(text, str):
        text = own["traceback_str"] = str(text.traceback_text)
    return text


_dual_classes: dict[type, type[RayTaskError] | None] = {}


def _dual_class(cause_class: type) -> type[RayTaskError] | None:
    """A class derived from RayTaskError and `cause_class`; None if Python does not allow one."""
    try:
        return _dual_classes[cause_class]
    except KeyError:
        pass
    if issubclass(RayTaskError, cause_class):
        dual: type[RayTaskError] | None = None  # `Exception` and its bases: RayTaskError is one.
    else:
        name = f"RayTaskError({cause_class.__name__})"
        metaclass = type(cause_class)
        # Past the metaclass's own code: it may keep a table of classes, or forbid to derive any.
        make: Any = abc.ABCMeta if issubclass(metaclass, abc.ABCMeta) else type
        try:
            dual = make.__new__(
                metaclass, name, (RayTaskError, cause_class), _forwarded(cause_class)
            )
            type.__setattr__(dual, "__module__", RayTaskError.__module__)
            type.__setattr__(dual, "__qualname__", name)
        except Exception:  # Clashing layouts, an order of bases that cannot be.
            dual = None
    # Classes of `__main__` arrive anew with every message that carries them by value, so the table
    # must not grow without end.
    if len(_dual_classes) >= 1000:
        _dual_classes.clear()
    _dual_classes[cause_class] = dual
    return dual


def _forwarded(cause_class: type) -> dict[str, Any]:
    """Properties for what instances of `cause_class` keep outside of their `__dict__` (slots, fields
    of built-in classes such as OSError.errno): `__getattr__` is not asked for those."""
    namespace: dict[str, Any] = {}
    for base in cause_class.__mro__:
        if base in (BaseException, object):
            continue
        for name, value in vars(base).items():
            kept = isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))
            if kept and not name.startswith("__"):
                namespace.setdefault(name, _forward(name))
    return namespace


def _forward(name: str) -> property:
    def read(self: Any) -> Any:
        own = self.__dict__
        return own[name] if name in own else getattr(self._task_error["cause"], name)

    # The interpreter itself sets `name` and `obj` of an AttributeError that leaves a __getattr__.
    def write(self: Any, value: Any) -> None:
        self.__dict__[name] = value

    return _Forwarded(read, write)


class _Forwarded(property):
    """A field of the cause. What is set here stays here."""


def _fill(error: RayTaskError, own: dict[str, Any]) -> None:
    # Not through __init__ and __setattr__ of the user's class, which may do anything. What the cause
    # has in its __dict__ is found before what its class has under the same names.
    cause = own["cause"]
    if isinstance(cause, BaseException):
        error.__dict__.update(cause.__dict__)
    error.__dict__["_task_error"] = own
    BaseException.args.__set__(error, (cause,))  # type: ignore[attr-defined]


def _rebuild(
    as_cause: bool, own: dict[str, Any], set_here: dict[str, Any] | None = None
) -> RayTaskError:
    if isinstance(own["cause"], Portable):
        own["cause"] = own["cause"].error
    error = RayTaskError.__new__(RayTaskError)
    _fill(error, own)
    made = error.as_instanceof_cause() if as_cause else error
    made.__dict__.update(set_here or {})
    return made


class UnserializableException(RayError):
    """Stands for an exception that could not be pickled, or not be unpickled here. Its text shows
    the original one."""

    def __init__(self, original_stack_trace: str) -> None:
        super().__init__(original_stack_trace)
        self._original_stack_trace = original_stack_trace

    def __str__(self) -> str:
        return (
            "The exception that the task raised does not survive pickling. "
            f"This is what it said:\n{self._original_stack_trace}"
        )


class UserCodeException(RayError):
    """Code of the user failed outside of a task."""


class CrossLanguageError(RayError):
    """A task in another language failed."""

    def __init__(self, ray_exception: Any) -> None:
        super().__init__(f"An exception raised from another language: {ray_exception}")


# ---- processes and nodes -------------------------------------------------------------------------


class WorkerCrashedError(RayError):
    """The process that ran the task died; the text names the signal or the exit code."""

    def __str__(self) -> str:
        return super().__str__() or "The worker died while it executed this task."


class LocalRayletDiedError(RayError):
    """The node daemon of this machine is gone."""

    def __str__(self) -> str:
        return super().__str__() or "The node daemon of this task died."


class NodeDiedError(RayError):
    """The node that ran the task died."""

    def __init__(self, message: str = "The node died.") -> None:
        super().__init__(message)
        self.message = message


class RaySystemError(RayError):
    """Mobula is not running, or failed inside."""

    def __init__(self, client_exc: Any, traceback_str: str | None = None) -> None:
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        text = f"System error: {self.client_exc}"
        return f"{text}\ntraceback: {self.traceback_str}" if self.traceback_str else text


class RayChannelError(RaySystemError):
    """A channel of a compiled graph failed."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel of a compiled graph was not ready in time."""


class RayCgraphCapacityExceeded(RaySystemError):
    """A compiled graph has too many executions in flight."""


class RayDirectTransportError(RaySystemError):
    """A direct transfer between devices failed."""


class StreamingGeneratorReplayInconsistentError(RaySystemError):
    """A generator yielded something else when it was run again."""


class AuthenticationError(RayError):
    """A peer did not prove who it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RpcError(RayError):
    """A message to another node failed."""

    def __init__(self, message: str, rpc_code: int | None = None) -> None:
        super().__init__(message, rpc_code)
        self.message = message
        self.rpc_code = rpc_code

    def __str__(self) -> str:
        return self.message


# ---- cancellation and scheduling -----------------------------------------------------------------


class TaskCancelledError(RayError):
    """The task was cancelled, or raised KeyboardInterrupt."""

    def __init__(self, task_id: Any = None, error_message: str | None = None) -> None:
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        if self.error_message:
            return self.error_message
        if self.task_id is None:
            return "This task or an argument of it was cancelled."
        return f"Task {self.task_id} was cancelled."


class TaskTimeoutError(RayError, TimeoutError):
    """The task ran longer than its `timeout_s`. Ray has no such option."""

    def __str__(self) -> str:
        return super().__str__() or "The task ran longer than its timeout_s."


class TaskUnschedulableError(RayError):
    """No node can ever run the task."""

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The task is not schedulable: {self.error_message}"


class ActorUnschedulableError(RayError):
    """No node can ever run the actor."""

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The actor is not schedulable: {self.error_message}"


class TaskPlacementGroupRemoved(RayError):
    """The placement group of the task is gone."""

    def __str__(self) -> str:
        return super().__str__() or "The placement group of this task was removed."


class ActorPlacementGroupRemoved(RayError):
    """The placement group of the actor is gone."""

    def __str__(self) -> str:
        return super().__str__() or "The placement group of this actor was removed."


class PendingCallsLimitExceeded(RayError):
    """An actor has as many pending calls as `max_pending_calls` allows."""


class RuntimeEnvSetupError(RayError):
    """A runtime environment could not be made."""

    def __init__(self, error_message: str | None = None) -> None:
        self.error_message = error_message

    def __str__(self) -> str:
        text = "Failed to set up runtime environment."
        return f"{text}\n{self.error_message}" if self.error_message else text


# ---- actors --------------------------------------------------------------------------------------


class RayActorError(RayError):
    """An actor died or cannot be reached."""

    base_error_msg = "The actor experienced an error before finishing this task."

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str = base_error_msg,
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        self.actor_id = actor_id
        self.error_msg = error_msg
        self.actor_init_failed = actor_init_failed
        self.preempted = preempted

    def __str__(self) -> str:
        return self.error_msg


class ActorDiedError(RayActorError):
    """The actor is dead for good."""

    base_error_msg = "The actor died unexpectedly before finishing this task."

    def __init__(self, cause: RayTaskError | str | None = None) -> None:
        """cause: what its constructor raised, or a text, or None."""
        actor_id, text = None, self.base_error_msg
        if isinstance(cause, RayTaskError):
            actor_id = cause.actor_id
            text = f"The actor died because of an error raised in its creation task, {cause}"
        elif isinstance(cause, str):
            text = cause
        elif cause is not None:
            raise TypeError(f"the cause must be a RayTaskError or a text, not {cause!r}")
        super().__init__(actor_id, text, actor_init_failed=isinstance(cause, RayTaskError))

    @classmethod
    def _of(cls, actor_id: str | None, error_msg: str, actor_init_failed: bool) -> ActorDiedError:
        error = cls()
        RayActorError.__init__(error, actor_id, error_msg, actor_init_failed)
        return error


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached now; it may come back."""

    def __init__(self, error_message: str, actor_id: Any = None) -> None:
        if isinstance(actor_id, bytes):
            actor_id = actor_id.hex()
        super().__init__(
            actor_id,
            f"The actor {actor_id} is unavailable: {error_message.rstrip('.')}. The task may or may "
            "not have been executed on the actor.",
        )
        self._error_message = error_message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._error_message, self.actor_id)


class ActorAlreadyExistsError(ValueError, RayError):
    """An actor of that name exists."""

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message


class ActorHandleNotFoundError(ValueError, RayError):
    """There is no such actor."""

    def __init__(self, error_message: str) -> None:
        super().__init__(error_message)
        self.error_message = error_message


class AsyncioActorExit(RayError):
    """An asyncio actor leaves on its own."""


# ---- objects -------------------------------------------------------------------------------------


class GetTimeoutError(RayError, TimeoutError):
    """`get` ran out of time."""


class PlasmaObjectNotAvailable(RayError):
    """A value was not in the object store in time."""


class ObjectStoreFullError(RayError):
    """The object store has no room, and none came while `put` waited."""


class OutOfDiskError(RayError):
    """The disk that objects are spilled to is full."""


class OutOfMemoryError(RayError):
    """A worker was killed because memory ran out."""

    def __init__(self, message: str = "A worker was killed because memory ran out.") -> None:
        super().__init__(message)
        self.message = message


class ObjectLostError(RayError):
    """A value is gone and could not be made again."""

    def __init__(
        self, object_ref_hex: str = "", owner_address: Any = None, call_site: str = ""
    ) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = call_site
        self._text = ""

    @classmethod
    def _with_text(cls, text: str) -> ObjectLostError:
        error = cls()
        error._text = text
        return error

    @classmethod
    def _of(cls, text: str) -> ObjectLostError:
        object_id, _, sentences = text.rpartition("\0")
        error = cls(object_id)
        error._text = sentences
        return error

    def __str__(self) -> str:
        if self._text:
            return self._text
        return f"Object {self.object_ref_hex or '(unknown)'} is lost. {self.__doc__ or ''}".rstrip()


class ObjectFetchTimedOutError(ObjectLostError):
    """A value did not arrive in time."""


class ObjectFreedError(ObjectLostError):
    """The value was freed by hand."""


class OwnerDiedError(ObjectLostError):
    """The node that kept the value is gone."""


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The value was freed too early."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The task that made the value could not be run again.

    `reason` is Ray's number of why, or None, and `reason_message` says it in words. The classes below
    are for the two reasons that a program can do something about.
    """

    REASON_MESSAGES: ClassVar[dict[int, str]] = {
        12: "The task that made it has no retries left. @remote(max_retries=...) gives it more.",
        13: "The task that made it was forgotten. MOBULA_MAX_LINEAGE_BYTES is how many bytes of them"
        " a process keeps.",
        27: "It was made by put(), not by a task that could run again.",
        28: "The task that made it is not to run again (max_retries=0).",
        29: "The process that submitted the task that made it is dead.",
    }
    _reason: ClassVar[int | None] = None

    def __init__(
        self,
        object_ref_hex: str = "",
        reason: int | None = None,
        reason_message: str | None = None,
        owner_address: Any = None,
        call_site: str = "",
    ) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        self.args = (object_ref_hex, reason, reason_message, owner_address, call_site)
        self.reason = self._reason if reason is None else reason
        self.reason_message = reason_message or self.REASON_MESSAGES.get(
            self.reason or 0, "It is not known why."
        )

    @classmethod
    def _of(cls, text: str) -> ObjectReconstructionFailedError:
        object_id, _, sentences = text.rpartition("\0")
        _, _, why = sentences.partition("made again. ")
        reason = next((number for words, number in _REASONS.items() if words in why), None)
        error = cls(object_id, reason, why or None)
        error._text = sentences
        return error

    def __str__(self) -> str:
        if self._text:
            return self._text
        name = self.object_ref_hex or "(unknown)"
        return f"Object {name} is lost and cannot be made again. {self.reason_message}"


# Of what the core says (src/core/objects/loss.cc).
_REASONS = {"made by put()": 27, "is dead, and nobody else": 29}


class ObjectReconstructionFailedMaxAttemptsExceededError(ObjectReconstructionFailedError):
    """The task that made the value was run as often as allowed."""

    _reason = 12


class ObjectReconstructionFailedLineageEvictedError(ObjectReconstructionFailedError):
    """How the value was made is no longer known."""

    _reason = 13


class ObjectRefStreamEndOfStreamError(RayError):
    """A generator has no more values."""


class OufOfBandObjectRefSerializationException(RayError):
    """A ref was pickled where that is not allowed."""


__all__ = sorted(
    name
    for name, value in globals().items()
    if isinstance(value, type) and issubclass(value, BaseException)
)
