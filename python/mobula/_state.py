"""The state of a node as the state API, the command line and `explain` tell it.

`gather()` asks once; the `Snapshot` puts together what came from several places: owners know the tasks
that have not ended, traces those that run and ran, the daemon processes, leases and jobs. They were not
asked at one moment, so the one that knows most of a task's end has the last word.

New kinds of things register themselves in KINDS.
"""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mobula import _core, _group_rows, _objects_state
from mobula._ids import PlacementGroupID
from mobula.util.state import schema

_UNIT = 10_000  # Amounts are fixed point.

# In the order of TaskPhase (src/wire/state.fbs).
_PHASES = {
    "waits_for_arguments": "PENDING_ARGS_AVAIL",
    "queued": "PENDING_NODE_ASSIGNMENT",
    "sent": "SUBMITTED_TO_WORKER",
    "running": "RUNNING",
    "blocked": "RUNNING_IN_RAY_GET",
}

_ERROR_TYPES = {
    _core.SYSTEM_ERROR_WORKER_CRASHED: "WORKER_DIED",
    _core.SYSTEM_ERROR_TASK_CANCELLED: "TASK_CANCELLED",
    _core.SYSTEM_ERROR_OBJECT_LOST: "OBJECT_LOST",
    _core.SYSTEM_ERROR_OWNER_DIED: "OWNER_DIED",
    _core.SYSTEM_ERROR_OUT_OF_MEMORY: "OUT_OF_MEMORY",
    _core.SYSTEM_ERROR_OBJECT_STORE_FULL: "OUT_OF_DISK_ERROR",
    _core.SYSTEM_ERROR_NODE_DIED: "NODE_DIED",
    _core.SYSTEM_ERROR_RUNTIME_ENV_SETUP: "RUNTIME_ENV_SETUP_FAILED",
    _core.SYSTEM_ERROR_TASK_UNSCHEDULABLE: "TASK_UNSCHEDULABLE_ERROR",
    _core.SYSTEM_ERROR_ACTOR_DIED: "ACTOR_DIED",
    _core.SYSTEM_ERROR_ACTOR_UNAVAILABLE: "ACTOR_UNAVAILABLE",
    _core.SYSTEM_ERROR_ACTOR_UNSCHEDULABLE: "ACTOR_UNSCHEDULABLE_ERROR",
    _core.SYSTEM_ERROR_TASK_TIMEOUT: "TASK_TIMED_OUT",
    _core.ERROR_RAISED: "TASK_EXECUTION_EXCEPTION",
    _core.ERROR_DEPENDENCY: "DEPENDENCY_RESOLUTION_FAILED",
}

# Of a process: creator and index.
TaskKey = tuple[int, int]


def amounts(fixed: dict[str, int]) -> dict[str, float]:
    """From fixed point. What is overdrawn for a moment is shown as nothing."""
    return {name: max(amount, 0) / _UNIT for name, amount in fixed.items()}


def _amounts_of_text(lines: str) -> dict[str, float]:
    return dict(_parsed_amounts(lines))


@functools.lru_cache(256)
def _parsed_amounts(lines: str) -> dict[str, float]:
    pairs = (line.rpartition("=") for line in lines.splitlines())
    return {name: int(amount) / _UNIT for name, _, amount in pairs if name}


# For processes that are slow because the machine is busy.
_PATIENCE_S = 10.0


def gather(
    *,
    name: str = "",
    key: TaskKey | None = None,
    state: str = "",
    timeout: float | None = None,
    ended_max: int = schema.MAX_LIMIT,
    tasks_max: int = schema.MAX_LIMIT,
    objects_max: int = 0,
) -> Snapshot:
    """Asks the node. Processes that do not answer are left out and named in `silent`: those that are
    stopped after a second, others after ten (`timeout` seconds, if that is less). With `name`, `key` or
    `state` others are left out as far as that is easy. RaySystemError: not connected."""
    patience = _PATIENCE_S if timeout is None else min(_PATIENCE_S, max(timeout, 0.0))
    options: _core.StateOptions = {
        "patience_ms": int(patience * 1000),
        "tasks_max": tasks_max,
        "ended_max": ended_max,
        "objects_max": objects_max,
        "failed_only": state == "FAILED",
        "finished_only": state == "FINISHED",
    }
    if state:
        phases = [bit for bit, phase in enumerate(_PHASES) if _may_be(phase, state)]
        options["phases"] = sum(1 << bit for bit in phases) or 1 << len(_PHASES)
    if name:
        options["name"] = name
    if key is not None:
        options["creator"], options["task"] = key
    node_id = _core.session_info()["node_id"]
    return Snapshot(node_id, _core.state(options))


def _may_be(phase: str, state: str) -> bool:
    shown = _PHASES[phase]
    return shown == state or (shown == "RUNNING" and state.startswith("RUNNING"))


@dataclass
class Snapshot:
    node_id: str
    raw: _core.State
    taken_ns: int = field(default_factory=time.monotonic_ns)
    wall_offset_ns: int = field(default_factory=lambda: time.time_ns() - time.monotonic_ns())

    def __post_init__(self) -> None:
        self.daemon: dict[str, Any] = json.loads(self.raw["daemon"])
        # A dead one may not be buried yet, and stand in both.
        self.processes: dict[int, dict[str, Any]] = {
            entry["process"]: entry
            for entry in (*self.daemon["processes"], *self.daemon["dead_processes"])
        }
        self.live = [process for process in self.raw["live"] if not process["error"]]
        self.silent = [process for process in self.raw["live"] if process["error"]]

    # ---- ids

    def task_id(self, key: TaskKey) -> str:
        return f"{self.node_id}{key[0]:08x}{key[1]:016x}{0:016x}"

    def worker_id(self, process: int) -> str:
        return f"{self.node_id}{process:08x}"

    def job_of(self, process: int) -> int:
        entry = self.processes.get(process)
        return entry["job"] if entry else 0

    def parent_id(self, creator: int, parent: TaskKey | None) -> str:
        if parent is not None:
            return self.task_id(parent)
        entry = self.processes.get(creator)
        return "f" * 40 + f"{entry['job']:08x}" if entry and entry.get("is_driver") else ""

    def milliseconds(self, monotonic_ns: int) -> int | None:
        return (monotonic_ns + self.wall_offset_ns) // 1_000_000 if monotonic_ns else None

    def seconds_since(self, monotonic_ns: int) -> float:
        return max(0.0, (self.taken_ns - monotonic_ns) / 1e9)

    # ---- tasks

    def tasks(self) -> list[schema.TaskState]:
        """Those that live first, then those that have ended, the last ones first."""
        found: dict[tuple[int, int, int], schema.TaskState] = {}
        ended = self._ended()
        running = self._running()
        for process in self.live:
            for task in process["tasks"]:
                key = (process["process"], task["task"], task["attempt"])
                if key not in ended and key not in running:
                    found[key] = self._live_task(process, task)
        for key, record in running.items():
            if key not in ended:
                found[key] = self._running_task(record)
        for key, record in ended.items():
            found[key] = self._ended_task(record)
        return list(found.values())

    def _running(self) -> dict[tuple[int, int, int], _core.TaskRecord]:
        return {(r["caller"], r["task"], r["attempt"]): r for r in self.raw["running"]}

    def _ended(self) -> dict[tuple[int, int, int], _core.TaskRecord]:
        ended: dict[tuple[int, int, int], _core.TaskRecord] = {}
        for record in self.raw["ended"]:
            key = (record["caller"], record["task"], record["attempt"])
            if key not in ended or ended[key]["by_owner"]:
                ended[key] = record
        return ended

    def _shared(
        self,
        key: TaskKey,
        record: _core.LiveTask | _core.TaskRecord,
        actor: str | None,
        is_call: bool = False,
    ) -> dict[str, Any]:
        name = record["name"]
        return {
            "task_id": self.task_id(key),
            "attempt_number": record["attempt"],
            "name": name,
            "job_id": f"{self.job_of(key[0]):08x}",
            "actor_id": actor,
            "type": "ACTOR_TASK" if actor is not None or is_call else "NORMAL_TASK",
            "func_or_class_name": record["function"],
            "parent_task_id": self.parent_id(key[0], record["parent"]),
            "language": "PYTHON",
            "profiling_data": {},
            "label_selector": {},
        }

    def _live_task(self, process: _core.LiveProcess, task: _core.LiveTask) -> schema.TaskState:
        key = (process["process"], task["task"])
        state = _PHASES[task["phase"]]
        if state.startswith("RUNNING"):
            state = self._running_state(task["worker"])
        shapes = {shape["shape"]: shape for shape in process["shapes"]}
        shape = shapes.get(task["shape"])
        worker = task["worker"] or None
        return schema.TaskState(
            **self._shared(key, task, self.actor_id(task["actor"])),
            state=state,
            node_id=self.node_id if worker else None,
            worker_id=self.worker_id(worker) if worker else None,
            worker_pid=task["worker_pid"] or None,
            error_type=None,
            required_resources=amounts(shape["resources"]) if shape else {},
            placement_group_id=self.group_id(shape["group"]) if shape else None,
            events=[],
        )

    def _running_state(self, worker: int) -> str:
        """Of what the worker executes: it may wait in get or wait."""
        waits_in: str = self.processes.get(worker, {}).get("waits_in", "")
        return f"RUNNING_IN_RAY_{waits_in.upper()}" if waits_in else "RUNNING"

    def _running_task(self, record: _core.TaskRecord) -> schema.TaskState:
        key = (record["caller"], record["task"])
        start = self.milliseconds(record["start_ns"])
        return schema.TaskState(
            **self._shared(key, record, self._called(record), record["is_call"]),
            state=self._running_state(record["process_id"]),
            node_id=self.node_id,
            worker_id=self.worker_id(record["process_id"]),
            worker_pid=record["pid"],
            error_type=None,
            required_resources=_amounts_of_text(record["resources"]),
            placement_group_id=self.group_id(record["group"]),
            events=[{"state": "RUNNING", "created_ms": start}],
            start_time_ms=start,
        )

    def _ended_task(self, record: _core.TaskRecord) -> schema.TaskState:
        key = (record["caller"], record["task"])
        start = self.milliseconds(record["start_ns"])
        end = self.milliseconds(record["end_ns"])
        state = "FAILED" if record["failed"] else "FINISHED"
        by_owner = record["by_owner"]
        events = [{"state": "RUNNING", "created_ms": start}] if start is not None else []
        failed = record["failed"]
        return schema.TaskState(
            **self._shared(key, record, self._called(record), record["is_call"]),
            state=state,
            node_id=None if by_owner else self.node_id,
            worker_id=None if by_owner else self.worker_id(record["process_id"]),
            worker_pid=None if by_owner else record["pid"],
            error_type=_ERROR_TYPES.get(record["error_type"], "UNKNOWN") if failed else None,
            required_resources=_amounts_of_text(record["resources"]),
            placement_group_id=self.group_id(record["group"]),
            events=[*events, {"state": state, "created_ms": end}],
            start_time_ms=start,
            end_time_ms=end,
            error_message=record["error"] if failed else None,
        )

    def _called(self, record: _core.TaskRecord) -> str | None:
        """The actor that executed the call, if it lives there still."""
        by_actor = record["is_call"] and not record["by_owner"]
        return self._actor_of_worker(record["process_id"]) if by_actor else None

    def classes(self) -> set[str]:
        """Of the actors that there are."""
        return {actor["class_name"] for actor in self.section("actors")}

    def task_counts(self) -> dict[TaskName, Counter[str]]:
        """How many tasks of each name are in each state. Of ended ones none is missing; see `silent`
        for processes that could not be asked."""
        counts: dict[TaskName, Counter[str]] = {}
        for name, finished, failed in self.raw["totals"]:
            _count(counts, task_name(name), FINISHED=finished, FAILED=failed)
        for name, (finished, failed) in self.daemon["forgotten_totals"].items():
            _count(counts, task_name(name), FINISHED=finished, FAILED=failed)
        for process in self.live:
            for function in process["functions"]:
                _count(
                    counts,
                    TaskName(function["name"], function["function"]),
                    PENDING_ARGS_AVAIL=function["waiting"],
                    PENDING_NODE_ASSIGNMENT=function["queued"],
                    SUBMITTED_TO_WORKER=function["sent"],
                    RUNNING=function["running"],
                    RUNNING_IN_RAY_GET=function["blocked"],
                )
        return counts

    # ---- other kinds

    def workers(self) -> list[schema.WorkerState]:
        rows = []
        for number, entry in sorted(self.processes.items()):
            alive = "ended_ns" not in entry
            if alive and not entry["welcomed"]:
                continue  # It has only just been started.
            started = self.milliseconds(entry["started_ns"])
            rows.append(
                schema.WorkerState(
                    worker_id=self.worker_id(number),
                    is_alive=alive,
                    worker_type="DRIVER" if entry["is_driver"] else "WORKER",
                    exit_type=None if alive else _exit_type(entry),
                    node_id=self.node_id,
                    ip="127.0.0.1",
                    pid=entry["pid"],
                    exit_detail=None if alive else entry["cause"],
                    worker_launch_time_ms=started,
                    worker_launched_time_ms=started,
                    start_time_ms=started,
                    end_time_ms=0 if alive else self.milliseconds(entry["ended_ns"]),
                )
            )
        return rows

    def actors(self) -> list[schema.ActorState]:
        rows = []
        for actor in self.section("actors"):
            # Not what it needs only to be made.
            resources = amounts({**actor["resources"], "CPU": actor["cpus_for_life"]})
            rows.append(
                schema.ActorState(
                    actor_id=actor["actor"],
                    class_name=actor["class_name"],
                    state=actor["state"],
                    job_id=f"{actor['job']:08x}",
                    name=actor["name"],
                    node_id=self.node_id if actor["pid"] else None,
                    pid=actor["pid"] or None,  # Of a dead one, the last.
                    ray_namespace=actor["namespace"],
                    death_cause=_death_cause(actor) if actor["death"] else None,
                    repr_name=actor["repr"],
                    num_restarts=actor["restarts"],
                    required_resources={
                        name: amount for name, amount in resources.items() if amount
                    },
                    is_detached=actor["detached"],
                    placement_group_id=self.group_id(actor["group"]),
                )
            )
        return rows

    def objects(self) -> list[schema.ObjectState]:
        """Those that were asked for by `objects_max`, the largest first."""
        return _objects_state.rows(self, _PHASES)

    def group_id(self, group: int) -> str | None:
        return str(PlacementGroupID.of(self.node_id, group)) if group else None

    def placement_groups(self) -> list[schema.PlacementGroupState]:
        rows = []
        for group in self.section("placement_groups"):
            row = _group_rows.row(group, self.node_id)
            bundles = [
                {
                    "bundle_id": {
                        "placement_group_id": row["placement_group_id"],
                        "bundle_index": index,
                    },
                    "unit_resources": amounts,
                    "node_id": row["bundles_to_node_id"][index],
                }
                for index, amounts in row["bundles"].items()
            ]
            rows.append(
                schema.PlacementGroupState(
                    placement_group_id=row["placement_group_id"],
                    name=row["name"],
                    creator_job_id=f"{group['job']:08x}",
                    state=row["state"],
                    bundles=bundles,
                    is_detached=group["detached"],
                    stats=row["stats"],
                )
            )
        return rows

    def _actor_of_worker(self, process: int) -> str | None:
        for actor in self.section("actors"):
            if actor["worker"] == process:
                found: str = actor["actor"]
                return found
        return None

    def actor_id(self, key: TaskKey | None) -> str | None:
        """As `actor_hex` in the core writes it."""
        return f"{self.node_id}{key[0]:08x}{key[1]:016x}" if key is not None else None

    def jobs(self) -> list[schema.JobState]:
        rows = []
        for job in self.daemon["jobs"]:
            ended = job["ended_ns"] != 0
            status = ("SUCCEEDED" if job["well"] else "FAILED") if ended else "RUNNING"
            job_id = f"{job['job']:08x}"
            rows.append(
                schema.JobState(
                    type="DRIVER",
                    job_id=job_id,
                    submission_id=None,
                    driver_info=schema.DriverInfo(job_id, "127.0.0.1", str(job["pid"])),
                    status=status,
                    entrypoint=job["entrypoint"],
                    message=job["reason"] or None,
                    error_type=None,
                    start_time=self.milliseconds(job["started_ns"]),
                    end_time=self.milliseconds(job["ended_ns"]) if ended else 0,
                    metadata={},
                    runtime_env={},
                    driver_node_id=self.node_id,
                )
            )
        return rows

    def nodes(self) -> list[schema.NodeState]:
        from mobula import _nodes

        rows = []
        for record in _core.nodes():
            node = _nodes.describe(record)
            rows.append(
                schema.NodeState(
                    node_id=node["NodeID"],
                    node_ip=node["NodeManagerAddress"],
                    is_head_node=True,
                    state="ALIVE" if node["Alive"] else "DEAD",
                    state_message=None,
                    node_name=node["NodeName"],
                    resources_total=node["Resources"],
                    labels=node["Labels"],
                    start_time_ms=self._node_started(),
                    end_time_ms=0,
                )
            )
        return rows

    def _node_started(self) -> int | None:
        starts = [entry["started_ns"] for entry in self.processes.values()]
        return self.milliseconds(min(starts)) if starts else None

    def runtime_envs(self) -> list[schema.RuntimeEnvState]:
        """Those that are ready, in use, being set up, or could not be set up."""
        rows = []
        for entry in self.section("runtime_envs"):
            if entry["state"] == "idle" and not entry["took_ns"]:
                continue
            success = {"failed": False, "ready": True, "idle": True}.get(entry["state"])
            rows.append(
                schema.RuntimeEnvState(
                    runtime_env=visible_environment(entry["spec"]),
                    success=success,
                    creation_time_ms=round(entry["took_ns"] / 1e6, 3) if success else None,
                    node_id=self.node_id,
                    ref_cnt=entry["workers"],
                    error=entry["failure"] or None,
                )
            )
        return rows

    def section(self, name: str) -> list[dict[str, Any]]:
        """Of the daemon's answer; empty if it has none of this name."""
        found: list[dict[str, Any]] = self.daemon.get(name, [])
        return found


def visible_environment(spec: str) -> dict[str, Any]:
    """What users asked for, of the spec of a runtime environment."""
    from mobula import _environments

    try:
        fields = json.loads(spec or "{}")
    except ValueError:
        return {}
    hidden = _environments.HOOK_KEY
    return {key: value for key, value in fields.items() if key != hidden}


# As Ray calls them, of those of which it speaks.
_DEATH_REASONS = {
    "worker": "WORKER_DIED",
    "killed": "RAY_KILL",
    "out_of_scope": "OUT_OF_SCOPE",
    "job": "OWNER_DIED",
}


def _death_cause(actor: dict[str, Any]) -> dict[str, Any]:
    """In one of several shapes, which its only key tells."""
    death = actor["death"]
    if death["kind"] == "constructor":
        return {"creation_task_failure_context": {"formatted_exception_string": death["text"]}}
    if death["kind"] == "unschedulable":
        return {"actor_unschedulable_context": {"error_message": death["text"]}}
    if death["kind"] == "environment":
        return {"runtime_env_failed_context": {"error_message": death["text"]}}
    context: dict[str, Any] = {
        "error_message": death["why"],
        "actor_id": actor["actor"],
        "class_name": actor["class_name"],
        "name": actor["name"],
        "ray_namespace": actor["namespace"],
        "node_ip_address": "127.0.0.1",
        "pid": actor["pid"],
        "never_started": not actor["pid"],
        "reason": _DEATH_REASONS.get(death["kind"], "UNSPECIFIED"),
    }
    return {"actor_died_error_context": context}


class TaskName(NamedTuple):
    """What people see, and what the function is called."""

    name: str
    function: str


def task_name(text: str) -> TaskName:
    """Of a task, from what stands in traces (src/base/function_name.h)."""
    name, _, function = text.partition("\x1f")
    return TaskName(name, function or name)


def _count(counts: dict[TaskName, Counter[str]], name: TaskName, **states: int) -> None:
    counter = counts.setdefault(name, Counter())
    counter.update({state: number for state, number in states.items() if number})


def _exit_type(entry: dict[str, Any]) -> str:
    if entry["as_asked"]:
        return "INTENDED_USER_EXIT" if entry["is_driver"] else "INTENDED_SYSTEM_EXIT"
    return "SYSTEM_ERROR"


@dataclass(frozen=True)
class Kind:
    """Something that can be listed."""

    name: str
    """As on the command line."""
    schema: type[schema.StateSchema]
    id_column: str
    rows: Callable[[Snapshot], Iterable[Any]]
    table: tuple[str, ...]
    """The columns of a table of them."""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "tasks",
            schema.TaskState,
            "task_id",
            Snapshot.tasks,
            ("task_id", "name", "state", "job_id", "worker_pid", "attempt_number", "error_type"),
        ),
        Kind(
            "workers",
            schema.WorkerState,
            "worker_id",
            Snapshot.workers,
            ("worker_id", "worker_type", "is_alive", "pid", "exit_type"),
        ),
        Kind(
            "jobs",
            schema.JobState,
            "job_id",
            Snapshot.jobs,
            ("job_id", "status", "start_time", "entrypoint", "message"),
        ),
        Kind(
            "nodes",
            schema.NodeState,
            "node_id",
            Snapshot.nodes,
            ("node_id", "state", "node_name", "node_ip", "resources_total"),
        ),
        Kind(
            "runtime-envs",
            schema.RuntimeEnvState,
            "runtime_env",
            Snapshot.runtime_envs,
            ("runtime_env", "success", "creation_time_ms", "node_id", "error"),
        ),
        Kind(
            "actors",
            schema.ActorState,
            "actor_id",
            Snapshot.actors,
            ("actor_id", "class_name", "state", "job_id", "name", "pid"),
        ),
        Kind(
            "objects",
            schema.ObjectState,
            "object_id",
            Snapshot.objects,
            (
                "object_id",
                "object_size",
                "task_status",
                "reference_type",
                "type",
                "pid",
                "call_site",
            ),
        ),
        Kind(
            "placement-groups",
            schema.PlacementGroupState,
            "placement_group_id",
            Snapshot.placement_groups,
            ("placement_group_id", "name", "creator_job_id", "state"),
        ),
    )
}
