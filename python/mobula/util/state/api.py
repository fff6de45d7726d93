"""The functions of the state API, with Ray's signatures."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol, TypeVar

from mobula import _core, _objects_state, _session, _state
from mobula.util.state import schema
from mobula.util.state._listing import (
    Filters,
    check_address,
    find_kind,
    missing_output,
    take_row,
    take_rows,
)
from mobula.util.state._logs import get_log as get_log
from mobula.util.state._logs import list_logs as list_logs
from mobula.util.state.exception import RayStateApiException
from mobula.util.state.schema import DEFAULT_LIMIT as DEFAULT_LIMIT
from mobula.util.state.schema import DEFAULT_RPC_TIMEOUT as DEFAULT_RPC_TIMEOUT

Row = TypeVar("Row")
Row_co = TypeVar("Row_co", covariant=True)


class StateApiClient:
    """What the functions of this module are in Ray's client: methods."""

    def __init__(
        self,
        address: str | None = None,
        cookies: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
    ) -> None:
        check_address(address)

    def list(
        self,
        resource: str,
        options: Any = None,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> list[Any]:
        kind = find_kind(getattr(resource, "value", resource).replace("_", "-"))
        given = {
            name: getattr(options, name)
            for name in ("filters", "limit", "timeout", "detail")
            if hasattr(options, name)
        }
        return take_rows(
            kind, **given, raise_on_missing_output=raise_on_missing_output, explain=_explain
        )


# ---- lists ------------------------------------------------------------------------------------


class Lister(Protocol[Row]):
    """A list_*() function.

    filters: (key, "=" or "!=", value); all must match. limit: so many rows at the most, up to 10,000.
    timeout: in seconds. detail: with the fields that only a closer look needs. RayStateApiException: a
    key that there is not, a limit above 10,000, or what a process that does not answer would have told
    (raise_on_missing_output=False: a warning instead). ValueError: no such filter.
    """

    def __call__(
        self,
        address: str | None = None,
        filters: Filters = None,
        limit: int = schema.DEFAULT_LIMIT,
        timeout: int = schema.DEFAULT_RPC_TIMEOUT,
        detail: bool = False,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> list[Row]: ...


class Getter(Protocol[Row_co]):
    """A get_*() function: the row with this id, in detail; None: there is none. timeout: in seconds."""

    def __call__(
        self,
        id: str,
        address: str | None = None,
        timeout: int = schema.DEFAULT_RPC_TIMEOUT,
        _explain: bool = False,
    ) -> Row_co | None: ...


def _named(function: Any, name: str, doc: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _lister(kind_name: str, row: type[Row], doc: str) -> Lister[Row]:
    def list_rows(
        address: str | None = None,
        filters: Filters = None,
        limit: int = schema.DEFAULT_LIMIT,
        timeout: int = schema.DEFAULT_RPC_TIMEOUT,
        detail: bool = False,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> list[Any]:
        check_address(address)
        kind = find_kind(kind_name)
        return take_rows(kind, filters, limit, timeout, detail, raise_on_missing_output, _explain)

    list_rows.__annotations__["return"] = f"list[{row.__name__}]"
    name = f"list_{kind_name.replace('-', '_')}"
    lister: Lister[Row] = _named(list_rows, name, f"{doc}\n\n{Lister.__doc__}")
    return lister


def _getter(kind_name: str, row: type[Row], doc: str) -> Getter[Row]:
    def get_row(
        id: str,
        address: str | None = None,
        timeout: int = schema.DEFAULT_RPC_TIMEOUT,
        _explain: bool = False,
    ) -> Any:
        check_address(address)
        return take_row(kind_name, id, timeout)

    get_row.__annotations__["return"] = f"{row.__name__} | None"
    name = f"get_{kind_name.removesuffix('s').replace('-', '_')}"
    getter: Getter[Row] = _named(get_row, name, f"{doc}\n\n{Getter.__doc__}")
    return getter


list_tasks = _lister(
    "tasks",
    schema.TaskState,
    "Tasks, each attempt for itself: those that wait or run first, then those that have ended, the "
    "last ones first.",
)
list_workers = _lister(
    "workers",
    schema.WorkerState,
    "Drivers and workers, and the last 1,000 that have ended, with how they ended.",
)
list_jobs = _lister("jobs", schema.JobState, "Jobs of the node, ended ones included.")
list_nodes = _lister("nodes", schema.NodeState, "Nodes: there is one.")
list_runtime_envs = _lister(
    "runtime-envs", schema.RuntimeEnvState, "Runtime environments that were made on this node."
)
list_actors = _lister("actors", schema.ActorState, "Actors of the node.")
list_objects = _lister(
    "objects",
    schema.ObjectState,
    "Objects, the largest first; one entry for each process that refers to it. Of each process the "
    "10,000 largest are looked at, and so many of those that are shared.",
)
list_placement_groups = _lister(
    "placement-groups",
    schema.PlacementGroupState,
    "Placement groups of the node, the last ones that were removed included.",
)


def list_cluster_events(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
    raise NotImplementedError("Cluster events are not supported yet.")


# ---- one of them ------------------------------------------------------------------------------

get_worker = _getter("workers", schema.WorkerState, "The driver or worker with this id.")
get_node = _getter("nodes", schema.NodeState, "The node with this id.")
get_job = _getter("jobs", schema.JobState, "The job with this id.")
get_actor = _getter("actors", schema.ActorState, "The actor with this id.")
get_placement_group = _getter(
    "placement-groups", schema.PlacementGroupState, "The placement group with this id."
)


def get_task(
    id: str | _core.ObjectRef[Any],
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> schema.TaskState | None:
    """The last attempt of the task with this id, or of the task that makes this ref. None: there is no
    such task, or it ended too long ago."""
    check_address(address)
    text = str(id.task_id()) if isinstance(id, _core.ObjectRef) else id
    kind = find_kind("tasks")
    rows = take_rows(kind, [("task_id", "=", text)], timeout=timeout, detail=True)
    return max(rows, key=lambda row: row.attempt_number, default=None)


def get_objects(
    id: str | _core.ObjectRef[Any],
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> list[schema.ObjectState]:
    """The object with this id, in the eyes of each process that refers to it."""
    check_address(address)
    text = id.hex() if isinstance(id, _core.ObjectRef) else id
    kind = find_kind("objects")
    return take_rows(kind, [("object_id", "=", text)], schema.limit_max(), timeout, detail=True)


# ---- summaries --------------------------------------------------------------------------------


def summarize_tasks(
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """How many tasks of each name are in each state. Ended tasks are all counted, also those of which
    nothing else is kept."""
    check_address(address)
    _session.require_session()
    snapshot = _state.gather(timeout=timeout, tasks_max=0, ended_max=0)
    missing = missing_output(snapshot)
    if missing and raise_on_missing_output:
        raise RayStateApiException(missing)
    classes = snapshot.classes()
    summary: dict[str, dict[str, Any]] = {}
    for (name, function), counts in sorted(snapshot.task_counts().items()):
        is_call = function.rpartition(".")[0] in classes
        entry = summary.setdefault(
            name,
            {
                "func_or_class_name": function,
                "type": "ACTOR_TASK" if is_call else "NORMAL_TASK",
                "state_counts": Counter(),
            },
        )
        entry["state_counts"].update(counts)
    # As a plain dict, and without names of which nothing is known but that there are some.
    summary = {
        name: {**entry, "state_counts": dict(entry["state_counts"])}
        for name, entry in summary.items()
        if entry["state_counts"]
    }
    totals = {"NORMAL_TASK": 0, "ACTOR_TASK": 0}
    for entry in summary.values():
        totals[entry["type"]] += sum(entry["state_counts"].values())
    return {
        "cluster": {
            "summary": summary,
            "total_tasks": totals["NORMAL_TASK"],
            "total_actor_tasks": totals["ACTOR_TASK"],
            "total_actor_scheduled": 0,
            "summary_by": "func_name",
        }
    }


def summarize_actors(
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """How many actors of each class are in each state."""
    rows = list_actors(address, None, schema.limit_max(), timeout)
    summary: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = summary.setdefault(
            row.class_name, {"class_name": row.class_name, "state_counts": {}}
        )
        entry["state_counts"][row.state] = entry["state_counts"].get(row.state, 0) + 1
    return {"cluster": {"summary": summary, "total_actors": len(rows), "summary_by": "class"}}


def summarize_objects(
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Objects by the line of the program that made them, as far as list_objects() tells of them."""
    check_address(address)
    rows = take_rows(
        find_kind("objects"), None, schema.limit_max(), timeout, True, raise_on_missing_output
    )
    return _objects_state.summary(rows)


# ---- why ---------------------------------------------------------------------------------------


def explain(task: str | _core.ObjectRef[Any] | None = None) -> str:
    """Why tasks wait, in sentences: all of them; or those of a name; or the one with this id, with an
    id that begins so, or that makes this ref. Ray has nothing like it; on the command line:
    `mobula explain`."""
    from mobula import _explain

    _session.require_session()
    text = str(task.task_id()) if isinstance(task, _core.ObjectRef) else task
    return _explain.explain(_state.gather(), text)
