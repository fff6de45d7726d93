"""What the state API tells, kind by kind, with Ray's fields: attributes, or as in a dict.

A field that is only told with `detail=True` has None otherwise. `filterable` names those that filters
may use.
"""

# ruff: noqa: RUF009 -- column() makes a new field for each use, as field() does.
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

DEFAULT_LIMIT = 100
DEFAULT_RPC_TIMEOUT = 30
MAX_LIMIT = 10_000


def limit_max() -> int:
    """How many rows a list may be asked for."""
    from mobula import _address

    return _address.number_of_environment("MAX_LIMIT_FROM_API_SERVER", MAX_LIMIT)


def source_max() -> int:
    """How many rows the node is asked for."""
    from mobula import _address

    return _address.number_of_environment("MAX_LIMIT_FROM_DATA_SOURCE", MAX_LIMIT)


# Of a task, in the order in which it can go through them.
TASK_STATES = (
    "PENDING_ARGS_AVAIL",
    "PENDING_NODE_ASSIGNMENT",
    "PENDING_OBJ_STORE_MEM_AVAIL",
    "PENDING_ARGS_FETCH",
    "SUBMITTED_TO_WORKER",
    "PENDING_ACTOR_TASK_ARGS_FETCH",
    "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY",
    "RUNNING",
    "RUNNING_IN_RAY_GET",
    "RUNNING_IN_RAY_WAIT",
    "FINISHED",
    "FAILED",
)


def column(*, detail: bool = False, filterable: bool = True, **options: Any) -> Any:
    """A field of a kind."""
    if detail and "default" not in options:
        options["default"] = None
    return field(metadata={"detail": detail, "filterable": filterable}, **options)


class StateSchema:
    """A dataclass that can also be read like a dict."""

    @classmethod
    def columns(cls) -> set[str]:
        return {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def filterable_columns(cls) -> set[str]:
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        return {f.name for f in fields if f.metadata.get("filterable")}

    @classmethod
    def base_columns(cls) -> set[str]:
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        return {f.name for f in fields if not f.metadata.get("detail")}

    @classmethod
    @functools.cache
    def _hidden_columns(cls) -> dict[str, None]:
        return dict.fromkeys(cls.columns() - cls.base_columns())

    def asdict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    def without_detail(self) -> Any:
        """A copy in which the fields of `detail` are None."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        copied.__dict__.update(self._hidden_columns())
        return copied

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)

    def keys(self) -> list[str]:
        return [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]

    def items(self) -> Iterator[tuple[str, Any]]:
        return iter(self.asdict().items())

    def __contains__(self, key: object) -> bool:
        return key in self.columns()


@dataclass
class TaskState(StateSchema):
    """One attempt of a task."""

    task_id: str = column()
    attempt_number: int = column()
    name: str = column()
    state: str = column()
    """One of TASK_STATES."""
    job_id: str = column()
    actor_id: str | None = column()
    type: str = column()
    """NORMAL_TASK, ACTOR_CREATION_TASK, ACTOR_TASK."""
    func_or_class_name: str = column()
    parent_task_id: str = column()
    """Of a driver's tasks: 40 times "f", then the job's id. "" if it is not known any more."""
    node_id: str | None = column()
    worker_id: str | None = column()
    worker_pid: int | None = column()
    error_type: str | None = column()
    language: str | None = column(detail=True)
    required_resources: dict[str, float] | None = column(detail=True, filterable=False)
    runtime_env_info: dict[str, Any] | None = column(detail=True, filterable=False)
    placement_group_id: str | None = column(detail=True)
    events: list[dict[str, Any]] | None = column(detail=True, filterable=False)
    profiling_data: dict[str, Any] | None = column(detail=True, filterable=False)
    creation_time_ms: int | None = column(detail=True, filterable=False)
    start_time_ms: int | None = column(detail=True, filterable=False)
    end_time_ms: int | None = column(detail=True, filterable=False)
    task_log_info: dict[str, Any] | None = column(detail=True, filterable=False)
    error_message: str | None = column(detail=True, filterable=False)
    is_debugger_paused: bool | None = column(detail=True)
    call_site: str | None = column(detail=True, filterable=False)
    label_selector: dict[str, str] | None = column(detail=True, filterable=False)
    fallback_strategy: dict[str, Any] | None = column(detail=True, filterable=False)


@dataclass
class WorkerState(StateSchema):
    """A process: a driver or a worker, also one that has ended."""

    worker_id: str = column()
    is_alive: bool = column()
    worker_type: str = column()
    """WORKER or DRIVER."""
    exit_type: str | None = column()
    node_id: str = column()
    ip: str = column()
    pid: int = column()
    exit_detail: str | None = column(detail=True, filterable=False)
    worker_launch_time_ms: int | None = column(detail=True, filterable=False)
    worker_launched_time_ms: int | None = column(detail=True, filterable=False)
    start_time_ms: int | None = column(detail=True, filterable=False)
    end_time_ms: int | None = column(detail=True, filterable=False)
    debugger_port: int | None = column(detail=True)
    num_paused_threads: int | None = column(detail=True)


@dataclass
class NodeState(StateSchema):
    node_id: str = column()
    node_ip: str = column()
    is_head_node: bool = column()
    state: str = column()
    """ALIVE or DEAD."""
    state_message: str | None = column(filterable=False)
    node_name: str = column()
    resources_total: dict[str, float] = column(filterable=False)
    labels: dict[str, str] = column(filterable=False)
    start_time_ms: int | None = column(detail=True, filterable=False)
    end_time_ms: int | None = column(detail=True, filterable=False)


@dataclass
class DriverInfo:
    id: str
    node_ip_address: str
    pid: str


@dataclass
class JobState(StateSchema):
    """A driver and everything that works for it."""

    type: str = column()
    """DRIVER or SUBMISSION."""
    job_id: str | None = column()
    submission_id: str | None = column()
    driver_info: DriverInfo | None = column(filterable=False)
    status: str = column()
    """PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED."""
    entrypoint: str = column()
    message: str | None = column(filterable=False)
    error_type: str | None = column()
    start_time: int | None = column(filterable=False)
    """Milliseconds."""
    end_time: int | None = column(filterable=False)
    metadata: dict[str, str] | None = column(detail=True, filterable=False)
    runtime_env: dict[str, Any] | None = column(detail=True, filterable=False)
    driver_agent_http_address: str | None = column(detail=True, filterable=False)
    driver_node_id: str | None = column(detail=True)
    driver_exit_code: int | None = column(detail=True, filterable=False)


@dataclass
class RuntimeEnvState(StateSchema):
    runtime_env: dict[str, Any] = column()
    success: bool | None = column()
    """None: it is being set up."""
    creation_time_ms: float | None = column(filterable=False)
    node_id: str = column()
    ref_cnt: int | None = column(detail=True, filterable=False)
    error: str | None = column(detail=True)


@dataclass
class ActorState(StateSchema):
    actor_id: str = column()
    class_name: str = column()
    state: str = column()
    """DEPENDENCIES_UNREADY, PENDING_CREATION, ALIVE, RESTARTING or DEAD."""
    job_id: str = column()
    name: str | None = column()
    node_id: str | None = column()
    pid: int | None = column()
    ray_namespace: str | None = column()
    serialized_runtime_env: str | None = column(detail=True, filterable=False)
    required_resources: dict[str, float] | None = column(detail=True, filterable=False)
    death_cause: dict[str, Any] | None = column(detail=True, filterable=False)
    is_detached: bool | None = column(detail=True, filterable=False)
    placement_group_id: str | None = column(detail=True)
    repr_name: str | None = column(detail=True)
    num_restarts: int | None = column(detail=True, filterable=False)
    num_restarts_due_to_lineage_reconstruction: int | None = column(detail=True, filterable=False)
    num_restarts_due_to_node_preemption: int | None = column(detail=True, filterable=False)
    call_site: str | None = column(detail=True, filterable=False)
    label_selector: dict[str, str] | None = column(detail=True, filterable=False)
    fallback_strategy: dict[str, Any] | None = column(detail=True, filterable=False)


@dataclass
class PlacementGroupState(StateSchema):
    placement_group_id: str = column()
    name: str | None = column()
    creator_job_id: str | None = column()
    state: str = column()
    """PENDING, CREATED or REMOVED."""
    bundles: list[dict[str, Any]] | None = column(detail=True, filterable=False)
    is_detached: bool | None = column(detail=True)
    stats: dict[str, Any] | None = column(detail=True, filterable=False)


@dataclass
class ObjectState(StateSchema):
    """An object, and how one process refers to it."""

    object_id: str = column()
    object_size: int = column()
    """Bytes; -1: not known, as a rule because there is no value yet."""
    task_status: str = column()
    """Of the task that makes it: one of TASK_STATES; NIL: none of this process does."""
    attempt_number: int = column()
    reference_type: str = column()
    """PINNED_IN_MEMORY (a value that `get` returned looks at it), USED_BY_PENDING_TASK,
    LOCAL_REFERENCE, CAPTURED_IN_OBJECT, ACTOR_HANDLE, or UNKNOWN_STATUS."""
    call_site: str = column()
    """"disabled" without MOBULA_RECORD_CALL_SITE=1."""
    type: str = column()
    """Of the process: DRIVER or WORKER; NODE: no process refers to it."""
    pid: int = column()
    ip: str = column()
    where: str | None = column(detail=True)
    """pending; process (that of `pid`); node (in the daemon); or in the store: memory, memory+disk,
    disk, file (on disk from the start, as memory had no room), moving; lost."""
    created_ms: int | None = column(detail=True, filterable=False)
    """Of values in the store, and of all with MOBULA_RECORD_CALL_SITE=1."""
    references: dict[str, int] | None = column(detail=True, filterable=False)
    """How often the process refers to it: by refs, as argument of tasks, in values, by views."""
    held_by: list[str] | None = column(detail=True, filterable=False)
    """Who keeps it alive."""
