"""Why does a task wait? `explain` says it in sentences, from a `_state.Snapshot` alone.

Tasks that wait for the same reason are told of together. New reasons for waiting belong into
`_queued`, new phases into `_PHASES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mobula import _core, _group_rows, _limits, _state

_HOLDERS_MAX = 8
_CHAIN_MAX = 5
_GROUPS_MAX = 20


@dataclass
class _Waiting:
    """A live task with who owns it."""

    process: _core.LiveProcess
    task: _core.LiveTask

    @property
    def key(self) -> _state.TaskKey:
        return self.process["process"], self.task["task"]

    @property
    def shape(self) -> _core.LiveShape | None:
        shapes = self.process["shapes"]
        return next((s for s in shapes if s["shape"] == self.task["shape"]), None)


def explain(snapshot: _state.Snapshot, wanted: str | None = None) -> str:
    """Of all tasks that wait; or of those with this name, or this id or its beginning."""
    waiting = [
        _Waiting(process, task)
        for process in snapshot.live
        for task in process["tasks"]
        if wanted is None or _is_meant(snapshot, process, task, wanted)
    ]
    ended = _ended_keys(snapshot)
    waiting = [w for w in waiting if (*w.key, w.task["attempt"]) not in ended]
    if wanted is None:
        waiting = [w for w in waiting if w.task["phase"] not in ("running", "blocked")]
    paragraphs = [_paragraph(snapshot, group) for group in _groups(waiting)[:_GROUPS_MAX]]
    if wanted is not None and not paragraphs:
        paragraphs = _of_ended(snapshot, wanted)
    if not paragraphs:
        paragraphs = ["No task waits." if wanted is None else f"There is no task {wanted!r}."]
    dropped = len(_groups(waiting)) - _GROUPS_MAX
    if dropped > 0:
        paragraphs.append(f"And {dropped} more kinds of waiting tasks.")
    return "\n\n".join([*paragraphs, *_unseen(snapshot)])


def _is_meant(
    snapshot: _state.Snapshot, process: _core.LiveProcess, task: _core.LiveTask, wanted: str
) -> bool:
    if task["name"] == wanted:
        return True
    return len(wanted) >= 8 and snapshot.task_id((process["process"], task["task"])).startswith(
        wanted.lower()
    )


def _ended_keys(snapshot: _state.Snapshot) -> set[tuple[int, int, int]]:
    return {(r["caller"], r["task"], r["attempt"]) for r in snapshot.raw["ended"]}


def _groups(waiting: Iterable[_Waiting]) -> list[list[_Waiting]]:
    """Those with the same owner, name, request and phase; arguments make a difference, too."""
    groups: dict[Any, list[_Waiting]] = {}
    for one in waiting:
        task = one.task
        place = task["worker"] if task["phase"] != "queued" else 0
        kind = task["actor"] or task["shape"]
        same = (one.process["process"], task["name"], kind, task["phase"], place)
        groups.setdefault((same, tuple(task["waits_for"])), []).append(one)
    return list(groups.values())


def _paragraph(snapshot: _state.Snapshot, group: list[_Waiting]) -> str:
    first = group[0]
    task = first.task
    task_name = _limits.shown(task["name"])
    who = f"{task_name} ({snapshot.task_id(first.key)})"
    if len(group) > 1:
        who = f"{len(group)} tasks {task_name}"
    pid = first.process["pid"]
    head = f"{who} of process {pid} {_verb(task['phase'], len(group))}"
    if task["attempt"] > 0:
        head += f" (attempt {task['attempt'] + 1})"
    reasons = _PHASES[task["phase"]](snapshot, first)
    return "\n".join([head + ":", *(f"  {line}" for line in reasons)])


def _verb(phase: str, count: int) -> str:
    plural = count > 1
    if phase == "waits_for_arguments":
        return ("wait" if plural else "waits") + " for arguments"
    if phase == "queued":
        return ("wait" if plural else "waits") + " for a worker"
    if phase == "sent":
        return ("wait" if plural else "waits") + " behind another task in a worker"
    return "run" if plural else "runs"


# ---- arguments --------------------------------------------------------------------------------


def _arguments(snapshot: _state.Snapshot, one: _Waiting) -> list[str]:
    task = one.task
    lines = [_maker(snapshot, key, 0) for key in task["waits_for"]]
    more = task["missing"] - len(lines)
    if more > 0:
        lines.append(f"and for {more} more")
    return lines


def _maker(snapshot: _state.Snapshot, key: _state.TaskKey, depth: int) -> str:
    """What is known of the object with this creator and index: most often a task's return."""
    for process in snapshot.live:
        if process["process"] != key[0]:
            continue
        for task in process["tasks"]:
            if task["task"] == key[1]:
                return _progress(snapshot, _Waiting(process, task), depth)
    if key[0] not in snapshot.processes:
        return f"an object of process number {key[0]}, which is not known any more"
    pid = snapshot.processes[key[0]]["pid"]
    return f"an object of process {pid}, which has not told its value yet"


def _progress(snapshot: _state.Snapshot, one: _Waiting, depth: int) -> str:
    task = one.task
    name = f"{_limits.shown(task['name'])} ({snapshot.task_id(one.key)})"
    if task["phase"] in ("running", "blocked"):
        since = _runs_since(snapshot, one)
        waits = ", and waits in get or wait itself" if _is_blocked(snapshot, task) else ""
        return f"{name}, which runs in process {task['worker_pid']}{since}{waits}"
    if task["phase"] == "waits_for_arguments" and depth < _CHAIN_MAX and task["waits_for"]:
        before = _maker(snapshot, task["waits_for"][0], depth + 1)
        return f"{name}, which waits for {before}"
    if task["phase"] == "sent":
        return f"{name}, which is sent to process {task['worker_pid']}"
    reasons = _PHASES[task["phase"]](snapshot, one)
    return f"{name}, which {_verb(task['phase'], 1)}: {reasons[0]}"


def _runs_since(snapshot: _state.Snapshot, one: _Waiting) -> str:
    for record in snapshot.raw["running"]:
        if (record["caller"], record["task"]) == one.key:
            return f" since {snapshot.seconds_since(record['start_ns']):.1f} s"
    return ""


def _is_blocked(snapshot: _state.Snapshot, task: _core.LiveTask) -> bool:
    if task["phase"] == "blocked":
        return True
    leases = snapshot.daemon["leases"]
    return any(lease["worker"] == task["worker"] and lease["blocked"] for lease in leases)


# ---- workers ----------------------------------------------------------------------------------


def format_amounts(resources: dict[str, float]) -> str:
    """{CPU: 2, memory: 15.4 GiB}"""
    parts = []
    for name, amount in resources.items():
        if name in ("memory", "object_store_memory") and amount >= 1 << 20:
            size = f"{amount / (1 << 30):.1f} GiB"
            parts.append(
                f"{name}: {size if amount >= 1 << 30 else f'{amount / (1 << 20):.1f} MiB'}"
            )
        else:
            parts.append(f"{_limits.shown(name)}: {amount:g}")
    return "{" + _limits.listed(parts) + "}"


def _of_actor(snapshot: _state.Snapshot, one: _Waiting) -> list[str]:
    """A call that is not sent: calls of one caller are sent in order, and a few ahead."""
    wanted = snapshot.actor_id(one.task["actor"])
    for actor in snapshot.actors():
        if actor.actor_id != wanted:
            continue
        name = _limits.shown(f"{actor.class_name} {actor.name}".strip())
        if actor.state == "ALIVE":
            running = [r for r in snapshot.raw["running"] if r["pid"] == actor.pid]
            line = f"it waits for its turn at the actor {name}, in process {actor.pid}"
            if running:
                since = snapshot.seconds_since(running[0]["start_ns"])
                line += f", which runs {running[0]['name']} since {since:.1f} s"
            return [line]
        lines = [f"its actor {name} is {actor.state}"]
        return lines + _of_placement(snapshot)
    return ["its actor is not known to the node"]


def _of_placement(snapshot: _state.Snapshot) -> list[str]:
    """Why an actor has no worker: what demands of no process that submits tasks ask for."""
    known = {process["process"] for process in snapshot.live}
    free = _state.amounts(snapshot.daemon["resources"]["available"])
    lines = []
    for demand in snapshot.daemon["demands"]:
        if demand["owner"] in known or demand["target"] <= demand["leases"]:
            continue
        asked = _state.amounts(demand["resources"])
        short = {name: free.get(name, 0) for name in asked if asked[name] > free.get(name, 0)}
        if not demand["feasible"]:
            lines.append(f"no node can ever hold an actor that asks for {format_amounts(asked)}")
        elif short:
            lines.append(
                f"an actor that asks for {format_amounts(asked)} waits; free are "
                f"{format_amounts(short)}"
            )
            lines += _holders(snapshot, list(short))
    return lines


def _in_group(
    snapshot: _state.Snapshot, demand: dict[str, Any], asked: dict[str, float]
) -> list[str]:
    """Why a task waits that is to run in a placement group."""
    groups = snapshot.section("placement_groups")
    group = next((one for one in groups if one["group"] == demand["group"]), None)
    if group is None or group["state"] == "REMOVED":
        return ["its placement group was removed: it fails"]
    row = _group_rows.row(group, snapshot.node_id)
    name = f"{row['placement_group_id']} {_limits.shown(row['name'])}".strip()
    bundles = _limits.listed(format_amounts(bundle) for bundle in row["bundles"].values())
    if group["state"] == "PENDING":
        free = _state.amounts(snapshot.daemon["resources"]["available"])
        line = f"its placement group {name} has not got its resources yet: bundles of {bundles}"
        if not group["feasible"]:
            return [f"{line}. This node can never hold them"]
        return [
            f"{line}; the node has {format_amounts(free)} left",
            *_holders(snapshot, list(free)),
        ]
    bundle = f"bundle {demand['bundle']}" if demand["bundle"] >= 0 else "a bundle"
    return [
        f"it asks for {format_amounts(asked)} of {bundle} of the placement group {name}, which has "
        f"{bundles} in all: others run there"
    ]


def _queued(snapshot: _state.Snapshot, one: _Waiting) -> list[str]:
    if one.task["actor"] is not None:
        return _of_actor(snapshot, one)
    shape = one.shape
    if shape is None:
        return ["it was submitted only just now"]
    asked = _state.amounts(shape["resources"])
    demand = _demand(snapshot, one)
    if demand is not None and "group" in demand:
        return _in_group(snapshot, demand, asked)
    total = _state.amounts(snapshot.daemon["resources"]["total"])
    free = _state.amounts(snapshot.daemon["resources"]["available"])
    missing = [name for name, amount in asked.items() if amount > total.get(name, 0)]
    if missing:
        return [
            f"no node can ever run it: it asks for {format_amounts(asked)}, and the node has "
            f"{format_amounts({name: total.get(name, 0) for name in missing})} in all.",
            "Ask for less, start with more (init, num_cpus, resources), or set MOBULA_INFEASIBLE=error "
            "to have such tasks fail.",
        ]
    lines = []
    short = [name for name, amount in asked.items() if amount > free.get(name, 0)]
    if short:
        lines.append(
            f"it asks for {format_amounts(asked)}; free are "
            f"{format_amounts({name: free.get(name, 0) for name in short})} of "
            f"{format_amounts({name: total[name] for name in short})}"
        )
        lines += _holders(snapshot, short)
    elif demand is not None and demand["capped"]:
        lines.append(
            "as many tasks of this kind as the node has CPUs run or wait in get; more are let in "
            "little by little while nothing moves"
        )
    else:
        lines += _no_worker_yet(snapshot, one, asked)
    if shape["leases"]:
        lines.append(
            f"{shape['queued']} tasks with this request are queued in its process, which has "
            f"{shape['leases']} workers for them"
            + (f" ({shape['blocked_leases']} wait in get)" if shape["blocked_leases"] else "")
        )
    elif shape["queued"] > 1:
        lines.append(f"{shape['queued']} tasks with this request are queued in its process")
    if demand is not None and "waiting_since_ns" in demand:
        waited = snapshot.seconds_since(demand["waiting_since_ns"])
        lines.append(f"its process waits for a worker since {waited:.1f} s")
    return lines


def _demand(snapshot: _state.Snapshot, one: _Waiting) -> dict[str, Any] | None:
    for demand in snapshot.daemon["demands"]:
        same_owner = demand["owner"] == one.process["process"]
        if same_owner and demand["shape"] == one.task["shape"]:
            found: dict[str, Any] = demand
            return found
    return None


def _holders(snapshot: _state.Snapshot, names: list[str]) -> list[str]:
    """Who has what of these resources of the node."""
    lines = []
    for group in snapshot.section("placement_groups"):
        if group["state"] != "CREATED":
            continue
        row = _group_rows.row(group, snapshot.node_id)
        sums = {name: sum(b.get(name, 0) for b in row["bundles"].values()) for name in names}
        reserved = {name: amount for name, amount in sums.items() if amount}
        if reserved:
            title = f"{row['placement_group_id']} {_limits.shown(row['name'])}".strip()
            lines.append(f"{format_amounts(reserved)} are reserved by the placement group {title}")
    for lease in snapshot.daemon["leases"]:
        if lease["group"]:
            continue
        held = _state.amounts(lease["resources"])
        if lease["blocked"]:
            held.pop("CPU", None)
        held = {name: held[name] for name in names if held.get(name)}
        if not held:
            continue
        worker = snapshot.processes.get(lease["worker"], {})
        line = f"{format_amounts(held)} are held by process {worker.get('pid', '?')}"
        running = worker.get("running")
        if running:
            since = snapshot.seconds_since(running["start_ns"])
            line += f", which runs {running['name']} since {since:.1f} s"
        elif lease["orphan"]:
            line += ", which is being ended"
        else:
            line += ", which runs nothing at the moment"
        if lease["reclaimed"]:
            line += "; it was asked to give them back"
        lines.append(line)
    if len(lines) > _HOLDERS_MAX:
        lines[_HOLDERS_MAX:] = [f"and by {len(lines) - _HOLDERS_MAX} more processes"]
    return lines


def _no_worker_yet(snapshot: _state.Snapshot, one: _Waiting, asked: dict[str, float]) -> list[str]:
    """What it asks for is there."""
    job = snapshot.job_of(one.process["process"])
    starting = [
        process
        for process in snapshot.daemon["processes"]
        if process["job"] == job and process.get("state") == "starting"
    ]
    lines = _environment_lines(snapshot, one)
    if starting:
        oldest = min(process["since_ns"] for process in starting)
        lines.append(
            f"{len(starting)} worker processes are being started, since "
            f"{snapshot.seconds_since(oldest):.1f} s"
        )
    return lines or [f"what it asks for ({format_amounts(asked)}) is free: it is about to be sent"]


def _environment_lines(snapshot: _state.Snapshot, one: _Waiting) -> list[str]:
    """Of the runtime environment that it is to run in, if that is not ready."""
    demand = _demand(snapshot, one)
    job = snapshot.job_of(one.process["process"])
    for entry in snapshot.section("runtime_envs"):
        if demand is None or (entry["job"], entry["environment"]) != (job, demand["environment"]):
            continue
        asked = _state.visible_environment(entry["spec"])
        if entry["state"] == "preparing":
            since = snapshot.seconds_since(entry["since_ns"])
            return [f"its runtime environment is being set up, since {since:.1f} s: {asked}"]
        if entry["state"] == "waits":
            return [f"its runtime environment is set up after others, which are before it: {asked}"]
    return []


# ---- in a worker -------------------------------------------------------------------------------


def _sent(snapshot: _state.Snapshot, one: _Waiting) -> list[str]:
    task = one.task
    before = [
        other
        for other in one.process["tasks"]
        if other["worker"] == task["worker"] and other["phase"] in ("running", "blocked")
    ]
    line = f"it is in the ring of process {task['worker_pid']}"
    if before:
        running = _Waiting(one.process, before[0])
        line += f", which runs {before[0]['name']}{_runs_since(snapshot, running)}"
    return [line, "it is taken back as soon as another worker could start it"]


def _running(snapshot: _state.Snapshot, one: _Waiting) -> list[str]:
    task = one.task
    lines = [f"in process {task['worker_pid']}{_runs_since(snapshot, one)}"]
    if not _is_blocked(snapshot, task):
        return lines
    lines.append("it waits in get or wait, and its CPUs are lent to others; its own tasks:")
    children = [
        f"  {_progress(snapshot, _Waiting(process, child), 0)}"
        for process in snapshot.live
        for child in process["tasks"]
        if child["parent"] is not None and tuple(child["parent"]) == one.key
    ]
    if len(children) > _HOLDERS_MAX:
        children[_HOLDERS_MAX:] = [f"  and {len(children) - _HOLDERS_MAX} more"]
    return lines + (children or ["  none that is known: it waits for objects of others"])


_PHASES = {
    "waits_for_arguments": _arguments,
    "queued": _queued,
    "sent": _sent,
    "running": _running,
    "blocked": _running,
}


# ---- the rest ---------------------------------------------------------------------------------


def _of_ended(snapshot: _state.Snapshot, wanted: str) -> list[str]:
    lines: list[str] = []
    for task in snapshot.tasks():
        by_id = len(wanted) >= 8 and task.task_id.startswith(wanted.lower())
        if (task.name != wanted and not by_id) or len(lines) == _HOLDERS_MAX:
            continue
        text = f"{task.name} ({task.task_id}) does not wait: it is {task.state}"
        if task.error_message:
            text += f": {task.error_message}"
        lines.append(text)
    return lines


def _unseen(snapshot: _state.Snapshot) -> list[str]:
    """What could not be looked at."""
    lines = []
    for process in snapshot.silent:
        entry = snapshot.processes.get(process["process"], {})
        if entry.get("unfinished"):
            lines.append(
                f"Process {process['pid']} has {entry['unfinished']} tasks of its own, but cannot be "
                f"asked: {process['error']}."
            )
    for process in snapshot.live:
        more = process["unfinished"] - process["looked_at"]
        if more > 0:
            lines.append(f"{more} more tasks of process {process['pid']} were not looked at.")
    return lines
