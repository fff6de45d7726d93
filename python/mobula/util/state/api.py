"""The functions of the state API, with Ray's signatures."""

from __future__ import annotations

import fnmatch
import os
import sys
import time
import warnings
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from mobula import _core, _objects_state, _session, _state
from mobula.util.state import schema
from mobula.util.state.exception import RayStateApiException

Filter = tuple[str, str, str | bool | int | float]
Filters = list[Filter] | None

_PREDICATES = ("=", "!=")
_TASK_ID_DIGITS = 48


class StateApiClient:
    """What the functions of this module are in Ray's client: methods."""

    def __init__(
        self,
        address: str | None = None,
        cookies: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
    ) -> None:
        _check_address(address)

    def list(
        self,
        resource: str,
        options: Any = None,
        raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> list[Any]:
        kind = _kind(getattr(resource, "value", resource).replace("_", "-"))
        given = {
            name: getattr(options, name)
            for name in ("filters", "limit", "timeout", "detail")
            if hasattr(options, name)
        }
        return _list(
            kind, **given, raise_on_missing_output=raise_on_missing_output, explain=_explain
        )


# ---- what all lists share ---------------------------------------------------------------------


def _check_address(address: str | None) -> None:
    if address in (None, "auto"):
        return
    if not isinstance(address, str):
        raise TypeError(f"address must be a string, not {address!r}")


def _kind(name: str) -> _state.Kind:
    kind = _state.KINDS.get(name)
    if kind is None:
        raise ValueError(f"There are no {name!r}. There are: {', '.join(sorted(_state.KINDS))}")
    return kind


def check_filters(kind: _state.Kind, filters: Any) -> list[Filter]:
    """ValueError: they are no filters. RayStateApiException: not of this kind."""
    if filters is None:
        return []
    if not isinstance(filters, (list, tuple)):
        raise ValueError(f"filters must be a list of (key, predicate, value), not {filters!r}")
    columns = kind.schema.filterable_columns()
    for entry in filters:
        if not isinstance(entry, (list, tuple)) or len(entry) != 3:
            raise ValueError(f"A filter is (key, predicate, value), but one is {entry!r}")
        key, predicate, _ = entry
        if predicate not in _PREDICATES:
            raise ValueError(
                f"Unsupported filter predicate {predicate} is given. "
                f"Available predicates: {', '.join(_PREDICATES)}."
            )
        if key not in columns:
            raise RayStateApiException(
                f"The given filter column {key} is not supported. Supported filter columns of "
                f"{kind.name}: {', '.join(sorted(columns))}"
            )
    return [tuple(entry) for entry in filters]


def _check_limit(limit: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise ValueError(f"limit must be a number, not {limit!r}")
    if not 0 <= limit <= schema.MAX_LIMIT:
        raise RayStateApiException(
            f"Given limit {limit} is not supported: it must be from 0 to {schema.MAX_LIMIT}."
        )


def matches(row: schema.StateSchema, filters: Iterable[Filter]) -> bool:
    for key, predicate, wanted in filters:
        # As in Ray: "0" is 0, "true" is True, and case does not count.
        same = str(row[key]).lower() == str(wanted).lower()
        if same != (predicate == "="):
            return False
    return True


def _parse_task_id(text: str) -> _state.TaskKey | None:
    try:
        number = int(text, 16)
    except ValueError:
        return None
    if len(text) != _TASK_ID_DIGITS:
        return None
    return (number >> 128) & 0xFFFFFFFF, (number >> 64) & (2**64 - 1)


# Of tasks: filters that the node itself can apply.
_NODE_FILTERS = ("state", "name", "task_id")


def _gather(
    kind: _state.Kind, filters: list[Filter], limit: int, timeout: float
) -> _state.Snapshot:
    """Asks for what can match, as far as the node can tell, and for no more than is listed."""
    wanted: dict[str, Any] = {"timeout": timeout}
    if kind.name != "tasks":
        objects_max = schema.MAX_LIMIT if kind.name == "objects" else 0
        return _state.gather(**wanted, tasks_max=0, ended_max=0, objects_max=objects_max)
    equal = {key: str(value) for key, predicate, value in filters if predicate == "="}
    wanted["state"] = equal.get("state", "FAILED" if "error_type" in equal else "").upper()
    wanted["name"] = equal.get("name", "")
    key = _parse_task_id(equal["task_id"]) if "task_id" in equal else None
    if all(key in _NODE_FILTERS and predicate == "=" for key, predicate, _ in filters):
        # Of one that failed there may be two records. And one more, to see that there are more.
        wanted["ended_max"] = wanted["tasks_max"] = min(2 * limit + 1, schema.MAX_LIMIT)
    return _state.gather(**wanted, key=key)


def missing_output(snapshot: _state.Snapshot) -> str:
    """What of the tasks is not known because a process does not answer; "" if nothing is."""
    texts = []
    for process in snapshot.silent:
        entry = snapshot.processes.get(process["process"], {})
        tasks = entry.get("unfinished", 0)
        if tasks:
            texts.append(f"process {process['pid']} ({process['error']}) has {tasks} of its own")
    return f"Some tasks are not listed: {'; '.join(texts)}." if texts else ""


@dataclass
class Listing:
    rows: list[Any]
    found: int
    """How many there are, listed or not."""
    missing: str
    """What is not known, in a sentence."""


def take_listing(kind: _state.Kind, filters: list[Filter], limit: int, timeout: float) -> Listing:
    """`filters` must have been checked. RayStateApiException: a limit that is not supported."""
    _check_limit(limit)
    snapshot = _gather(kind, filters, limit, timeout)
    rows = [row for row in kind.rows(snapshot) if matches(row, filters)]
    missing = ""
    if kind.name == "tasks":
        missing = missing_output(snapshot)
    elif kind.name == "objects":
        missing = _objects_state.missing_output(snapshot)
    found = len(rows)
    if kind.name == "tasks" and found > limit:
        found = max(found, _count_tasks(snapshot, filters))
    return Listing(rows[:limit], found, missing)


def _count_tasks(snapshot: _state.Snapshot, filters: list[Filter]) -> int:
    """How many match, by the node's own counts; 0: these filters need every task to be looked at."""
    if any(key not in ("state", "name") for key, _, _ in filters):
        return 0
    return sum(
        number
        for name, states in snapshot.task_counts().items()
        for state, number in states.items()
        if all(
            (str(wanted).lower() == {"state": state, "name": name}[key].lower())
            == (predicate == "=")
            for key, predicate, wanted in filters
        )
    )


def _list(
    kind: _state.Kind,
    filters: Any = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: float = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    explain: bool = False,
) -> list[Any]:
    checked = check_filters(kind, filters)
    _session.require_session()
    listing = take_listing(kind, checked, limit, timeout)
    if listing.missing and raise_on_missing_output:
        raise RayStateApiException(
            f"{listing.missing} Pass raise_on_missing_output=False for the others."
        )
    if listing.missing:
        warnings.warn(listing.missing, stacklevel=3)
    if explain and listing.found > limit:
        print(f"{limit} of {listing.found} {kind.name} are listed.", file=sys.stderr)
    return listing.rows if detail else [row.without_detail() for row in listing.rows]


def _get(kind_name: str, id: str, timeout: float) -> Any:
    kind = _kind(kind_name)
    rows = _list(kind, [(kind.id_column, "=", id)], timeout=timeout, detail=True)
    return rows[-1] if rows else None


# ---- lists ------------------------------------------------------------------------------------


def list_tasks(
    address: str | None = None,
    filters: Filters = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[schema.TaskState]:
    """Tasks, each attempt for itself: those that wait or run first, then those that have ended, the
    last ones first.

    filters: (key, "=" or "!=", value); all must match. RayStateApiException: a key that there is not,
    a limit above 10,000, or tasks of a process that does not answer. ValueError: no such filter.
    """
    _check_address(address)
    return _list(_kind("tasks"), filters, limit, timeout, detail, raise_on_missing_output, _explain)


def list_workers(
    address: str | None = None,
    filters: Filters = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[schema.WorkerState]:
    """Drivers and workers, and the last 1,000 that have ended, with how they ended."""
    _check_address(address)
    return _list(
        _kind("workers"), filters, limit, timeout, detail, raise_on_missing_output, _explain
    )


def list_jobs(
    address: str | None = None,
    filters: Filters = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[schema.JobState]:
    """Jobs of the node, ended ones included."""
    _check_address(address)
    return _list(_kind("jobs"), filters, limit, timeout, detail, raise_on_missing_output, _explain)


def list_nodes(
    address: str | None = None,
    filters: Filters = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[schema.NodeState]:
    """Nodes: there is one."""
    _check_address(address)
    return _list(_kind("nodes"), filters, limit, timeout, detail, raise_on_missing_output, _explain)


def list_runtime_envs(
    address: str | None = None,
    filters: Filters = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[schema.RuntimeEnvState]:
    """Runtime environments that were made on this node."""
    _check_address(address)
    return _list(
        _kind("runtime-envs"), filters, limit, timeout, detail, raise_on_missing_output, _explain
    )


def list_actors(
    address: str | None = None,
    filters: Filters = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[schema.ActorState]:
    """Actors of the node."""
    _check_address(address)
    return _list(
        _kind("actors"), filters, limit, timeout, detail, raise_on_missing_output, _explain
    )


def list_objects(
    address: str | None = None,
    filters: Filters = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[schema.ObjectState]:
    """Objects, the largest first; one entry for each process that refers to it. Of each process the
    10,000 largest are looked at, and so many of those that are shared."""
    _check_address(address)
    return _list(
        _kind("objects"), filters, limit, timeout, detail, raise_on_missing_output, _explain
    )


def list_placement_groups(
    address: str | None = None,
    filters: Filters = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[schema.PlacementGroupState]:
    """Placement groups of the node, the last ones that were removed included."""
    _check_address(address)
    return _list(
        _kind("placement-groups"),
        filters,
        limit,
        timeout,
        detail,
        raise_on_missing_output,
        _explain,
    )


def list_cluster_events(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
    raise NotImplementedError("Cluster events are not supported yet.")


# ---- one of them ------------------------------------------------------------------------------


def get_task(
    id: str | _core.ObjectRef[Any],
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> schema.TaskState | None:
    """The last attempt of the task with this id, or of the task that makes this ref. None: there is no
    such task, or it ended too long ago."""
    _check_address(address)
    text = str(id.task_id()) if isinstance(id, _core.ObjectRef) else id
    kind = _kind("tasks")
    rows = _list(kind, [("task_id", "=", text)], timeout=timeout, detail=True)
    return max(rows, key=lambda row: row.attempt_number, default=None)


def get_worker(
    id: str,
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> schema.WorkerState | None:
    """The driver or worker with this id; None: there is none."""
    _check_address(address)
    found: schema.WorkerState | None = _get("workers", id, timeout)
    return found


def get_node(
    id: str,
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> schema.NodeState | None:
    """The node with this id; None: there is none."""
    _check_address(address)
    found: schema.NodeState | None = _get("nodes", id, timeout)
    return found


def get_job(
    id: str,
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> schema.JobState | None:
    """The job with this id; None: there is none."""
    _check_address(address)
    found: schema.JobState | None = _get("jobs", id, timeout)
    return found


def get_actor(
    id: str,
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> schema.ActorState | None:
    """The actor with this id; None: there is none."""
    _check_address(address)
    found: schema.ActorState | None = _get("actors", id, timeout)
    return found


def get_objects(
    id: str | _core.ObjectRef[Any],
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> list[schema.ObjectState]:
    """The object with this id, in the eyes of each process that refers to it."""
    _check_address(address)
    text = id.hex() if isinstance(id, _core.ObjectRef) else id
    kind = _kind("objects")
    return _list(kind, [("object_id", "=", text)], schema.MAX_LIMIT, timeout, detail=True)


def get_placement_group(
    id: str,
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    _explain: bool = False,
) -> schema.PlacementGroupState | None:
    """The placement group with this id; None: there is none."""
    _check_address(address)
    found: schema.PlacementGroupState | None = _get("placement-groups", id, timeout)
    return found


# ---- summaries --------------------------------------------------------------------------------


def summarize_tasks(
    address: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """How many tasks of each name are in each state. Ended tasks are all counted, also those of which
    nothing else is kept."""
    _check_address(address)
    _session.require_session()
    snapshot = _state.gather(timeout=timeout, tasks_max=0, ended_max=0)
    missing = missing_output(snapshot)
    if missing and raise_on_missing_output:
        raise RayStateApiException(missing)
    calls = snapshot.names_of_calls()
    summary: dict[str, dict[str, Any]] = {
        name: {
            "func_or_class_name": name,
            "type": "ACTOR_TASK" if name in calls else "NORMAL_TASK",
            "state_counts": dict(counts),
        }
        for name, counts in sorted(snapshot.task_counts().items())
        if counts
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
    rows = list_actors(address, None, schema.MAX_LIMIT, timeout)
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
    _check_address(address)
    rows = _list(_kind("objects"), None, schema.MAX_LIMIT, timeout, True, raise_on_missing_output)
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


# ---- what processes print ----------------------------------------------------------------------


def _log_directory(node_id: str | None, node_ip: str | None) -> str:
    info = _core.session_info()
    if node_id is not None and node_id != info["node_id"]:
        raise RayStateApiException(f"There is no node {node_id!r}: it is {info['node_id']}")
    if node_ip not in (None, "127.0.0.1", "localhost"):
        raise RayStateApiException(f"There is no node at {node_ip!r}")
    return info["session_directory"]


def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
) -> dict[str, list[str]]:
    """The names of log files, by whose they are: worker_out, worker_err, daemon, other. The node need
    not be named: there is one."""
    _check_address(address)
    _session.require_session()
    directory = _log_directory(node_id, node_ip)
    groups: dict[str, list[str]] = {}
    for name in sorted(os.listdir(directory)):
        if not os.path.isfile(os.path.join(directory, name)):
            continue
        if glob_filter is not None and not fnmatch.fnmatch(name, glob_filter):
            continue
        groups.setdefault(_log_group(name), []).append(name)
    return groups


def _log_group(name: str) -> str:
    if name.startswith("worker-"):
        return "worker_err" if name.endswith(".err") else "worker_out"
    return "daemon" if name.startswith(("daemon", "zygote")) else "other"


def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: int = schema.DEFAULT_RPC_TIMEOUT,
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str | None = "strict",
    submission_id: str | None = None,
    attempt_number: int = 0,
    _interval: float | None = None,
    filter_ansi_code: bool = False,
) -> Generator[str, None, None]:
    """The text of a log file, in pieces: the file `filename`, or what a worker (`pid`), or the worker
    of a task (`task_id`), printed to stdout (`suffix="out"`) or stderr ("err").

    tail: so many last lines; -1: all. follow: goes on with what is added, until it is closed.
    ValueError: nothing is named. RayStateApiException: no such file, worker or task.
    """
    _check_address(address)
    _session.require_session()
    if suffix not in ("out", "err"):
        raise ValueError(f"suffix must be 'out' or 'err', not {suffix!r}")
    directory = _log_directory(node_id, node_ip)
    path = os.path.join(directory, _log_name(directory, filename, task_id, pid, suffix))
    return _pieces(path, tail, follow, _interval or 0.2, encoding or "utf-8", errors or "strict")


def _log_name(
    directory: str, filename: str | None, task_id: str | None, pid: int | None, suffix: str
) -> str:
    if filename is not None:
        if os.path.basename(filename) != filename or not os.path.isfile(
            os.path.join(directory, filename)
        ):
            raise RayStateApiException(f"There is no log file {filename!r}: see list_logs()")
        return filename
    if task_id is not None:
        task = get_task(task_id)
        if task is None or task.worker_pid is None:
            raise RayStateApiException(f"No worker is known that has run a task {task_id!r}")
        pid = task.worker_pid
    if pid is None:
        raise ValueError("Name a filename, a pid or a task_id.")
    names = [name for name in os.listdir(directory) if name.endswith(f"-{pid}.{suffix}")]
    if not names:
        raise RayStateApiException(
            f"Process {pid} has printed nothing to std{suffix}, or is no worker of this node."
        )
    return names[0]


def _pieces(
    path: str, tail: int, follow: bool, interval: float, encoding: str, errors: str
) -> Generator[str, None, None]:
    with open(path, encoding=encoding, errors=errors) as file:
        if tail >= 0:
            lines = file.readlines()
            yield "".join(lines[-tail:] if tail else [])
        while True:
            piece = file.read(1 << 16)
            if piece:
                yield piece
            elif not follow or not os.path.exists(path):
                return
            else:
                time.sleep(interval)
