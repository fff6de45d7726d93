"""What the extension asks of Python: starting a session on first use, and exceptions to raise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mobula import _core

if TYPE_CHECKING:
    import types
    from collections.abc import Callable


_AFFINITY = re.compile(r"NodeAffinitySchedulingStrategy with soft=False .*? There is \w+\.")


class _Hooks:
    """`_core.Hooks`. Modules are imported when they are needed: most programs need few."""

    def auto_init(self) -> None:
        from mobula import _session

        _session.auto_init()

    def require_session(self) -> None:
        from mobula import _session

        _session.require_session()

    def made_at(self, ref: _core.ObjectRef[Any]) -> str:
        from mobula import _session

        if not _session.records_call_sites():
            return ""
        from mobula.util import state

        rows = state.get_objects(ref.hex()) or []
        return next((row.call_site for row in rows if row.call_site), "")

    def future(self, ref: Any) -> Any:
        from mobula import _futures

        return _futures.future(ref)

    def task_id(self, text: str) -> Any:
        from mobula import _ids

        return _ids.TaskID(text)

    def job_id(self, text: str) -> Any:
        from mobula import _ids

        return _ids.JobID(text)

    def on_completed(self, ref: Any, callback: Callable[[Any], None]) -> None:
        from mobula import _futures

        _futures.on_completed(ref, callback)

    def as_future(self, ref: Any) -> Any:
        from mobula import _loops

        return _loops.as_future(ref)

    def await_ref(self, ref: Any, loop: Any) -> Any:
        from mobula import _loops

        return _loops.await_ref(ref, loop)

    def end_child(self, error: BaseException | None) -> None:
        from mobula import _after_task

        _after_task.end_child(error)

    def become_actor(self) -> bool:
        from mobula import _actor_worker

        return _actor_worker.become()

    def check_captured(self, name: str, resources: dict[str, float]) -> None:
        from mobula import _placement

        _placement.check_captured(name, resources)

    def actor_method(self, description: Any, group: int) -> Any:
        from mobula import _actor_worker

        return _actor_worker.method(description, group)

    def pending_calls_error(self, name: str, actor: Any, limit: str) -> BaseException:
        from mobula import exceptions

        class_name, _, method = name.rpartition(".")
        return exceptions.PendingCallsLimitExceeded(
            f"The task {method} could not be submitted to Actor({class_name}, "
            f"{_core.actor_id(actor)}) because more than {limit} tasks are queued on the "
            "actor. This limit can be adjusted with the `max_pending_calls` actor option."
        )

    def task_error(self, failure: Any) -> BaseException:
        from mobula import _failures

        return _failures.to_exception(failure)

    def function_too_large(self, function: Any, name: str, megabytes: float) -> BaseException:
        from mobula import _serialization

        return _serialization.too_large(function, name, megabytes)

    def dependency_error(self, function_name: str, cause: BaseException) -> BaseException:
        from mobula import _failures

        return _failures.of_dependent(function_name, cause)

    def unpickling_error(self, error: BaseException) -> BaseException:
        from mobula import _failures

        return _failures.of_unpickling(error)

    def function_error(self, name: str, error: BaseException) -> BaseException:
        from mobula import _failures

        return _failures.of_function(name, error)

    def unhandled_errors(self, errors: list[BaseException], not_kept: int) -> None:
        from mobula import _failures

        _failures.tell_unhandled(errors, not_kept)

    def call_site(self, how: str) -> str:
        from mobula import _call_sites

        return _call_sites.of_caller(how)

    def system_error(self, code: int, text: str) -> BaseException:
        from mobula import exceptions

        make = _system_errors(exceptions).get(code, exceptions.RaySystemError)
        return make(text)

    def timeout_error(self, text: str) -> BaseException:
        from mobula import exceptions

        return exceptions.GetTimeoutError(text)

    def store_full_error(self, text: str) -> BaseException:
        from mobula import exceptions

        return exceptions.ObjectStoreFullError(text)

    def disk_full_error(self, text: str) -> BaseException:
        from mobula import exceptions

        return exceptions.OutOfDiskError(text)

    def disconnected_error(self, text: str) -> BaseException:
        from mobula import exceptions

        return exceptions.RaySystemError(text)


def _system_errors(exceptions: types.ModuleType) -> dict[int, Callable[[str], BaseException]]:
    return {
        _core.SYSTEM_ERROR_WORKER_CRASHED: exceptions.WorkerCrashedError,
        _core.SYSTEM_ERROR_TASK_CANCELLED: _cancelled(exceptions),
        _core.SYSTEM_ERROR_OBJECT_LOST: exceptions.ObjectLostError._with_text,
        _core.SYSTEM_ERROR_REBUILD_FAILED: exceptions.ObjectReconstructionFailedError._of,
        _core.SYSTEM_ERROR_REBUILD_MAX_ATTEMPTS: (
            exceptions.ObjectReconstructionFailedMaxAttemptsExceededError._of
        ),
        _core.SYSTEM_ERROR_REBUILD_LINEAGE_EVICTED: (
            exceptions.ObjectReconstructionFailedLineageEvictedError._of
        ),
        _core.SYSTEM_ERROR_OWNER_DIED: exceptions.OwnerDiedError._with_text,
        _core.SYSTEM_ERROR_OUT_OF_MEMORY: exceptions.OutOfMemoryError,
        _core.SYSTEM_ERROR_OBJECT_STORE_FULL: exceptions.ObjectStoreFullError,
        _core.SYSTEM_ERROR_NODE_DIED: exceptions.NodeDiedError,
        _core.SYSTEM_ERROR_RUNTIME_ENV_SETUP: exceptions.RuntimeEnvSetupError,
        _core.SYSTEM_ERROR_TASK_UNSCHEDULABLE: exceptions.TaskUnschedulableError,
        _core.SYSTEM_ERROR_ACTOR_DIED: _of_actor(exceptions, exceptions.ActorDiedError),
        _core.SYSTEM_ERROR_ACTOR_UNAVAILABLE: _of_actor(
            exceptions, exceptions.ActorUnavailableError
        ),
        _core.SYSTEM_ERROR_ACTOR_UNSCHEDULABLE: _of_actor(
            exceptions, exceptions.ActorUnschedulableError
        ),
        _core.SYSTEM_ERROR_TASK_TIMEOUT: exceptions.TaskTimeoutError,
        _core.SYSTEM_ERROR_TASK_PLACEMENT_GROUP_REMOVED: (
            lambda _: exceptions.TaskPlacementGroupRemoved()
        ),
        _core.SYSTEM_ERROR_ACTOR_PLACEMENT_GROUP_REMOVED: (
            lambda _: exceptions.ActorPlacementGroupRemoved()
        ),
    }


def _cancelled(exceptions: types.ModuleType) -> Callable[[str], BaseException]:
    def make(text: str) -> BaseException:
        task_id, _, sentence = text.rpartition("\0")
        error: BaseException = exceptions.TaskCancelledError(task_id or None, sentence)
        return error

    return make


def _of_actor(exceptions: types.ModuleType, kind: type) -> Callable[[str], BaseException]:
    def make(text: str) -> BaseException:
        actor_id, in_constructor, sentence = text.split("\0", 2)
        if kind is exceptions.ActorDiedError:
            died: BaseException = exceptions.ActorDiedError._of(  # type: ignore[attr-defined]
                actor_id, sentence, in_constructor[:1] == "1"
            )
            if raised := in_constructor[1:]:
                from mobula import _exceptions_pickled

                died.__cause__ = _exceptions_pickled.from_letters(raised)
            return died
        if kind is exceptions.ActorUnavailableError:
            return exceptions.ActorUnavailableError(sentence, actor_id)  # type: ignore[no-any-return]
        # An affinity that cannot be met was asked for as a resource, whose name says so.
        asked = _AFFINITY.search(sentence)
        return exceptions.ActorUnschedulableError(asked[0] if asked else sentence)  # type: ignore[no-any-return]

    return make


def install() -> None:
    _core.set_hooks(_Hooks())
