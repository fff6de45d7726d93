"""`mobula status`: which sessions there are, and what they do."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from mobula import _cli, _limits

if TYPE_CHECKING:
    from mobula._sessions_here import SessionRecord

ORDER = 30
HELP = "Show the sessions of this user and how busy they are"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _cli.add_address(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("-v", "--verbose", action="store_true", help="taken and not needed")


_ENTRYPOINT_CHARS_MAX = 60
_RESOURCES_SHOWN_MAX = 50
# The words of the pool, and those for people.
_WORKER_STATES = {
    "starting": "starting",
    "idle": "idle",
    "leased": "at work",
    "stopping": "ending",
}


def run(arguments: argparse.Namespace) -> int:
    import json

    from mobula import _sessions_here

    if arguments.address is not None:
        records = [_cli.chosen_session(arguments)]
    else:
        records = _sessions_here.sessions()
    if not records:
        raise _cli.CommandError("no Mobula session is running. `mobula start` starts one.")
    states = [_ask(record) for record in records]
    if arguments.json:
        print(json.dumps(states, indent=2))
    else:
        print("\n".join(_describe(state) for state in states), end="")
    return 0 if all("error" not in state for state in states) else 1


def _ask(record: SessionRecord) -> dict[str, Any]:
    from mobula import _core

    state: dict[str, Any] = {
        "name": record.name,
        "address": record.address,
        "kind": "standing" if record.is_standing else "private",
        "pid": record.pid,
        "node_id": record.node_id,
        "started": record.started,
        "version": record.version,
        "labels": dict(record.labels),
    }
    try:
        with _cli.observing_session(record):
            state["total"] = _core.cluster_resources()
            state["available"] = _core.available_resources()
            state.update(_what_goes_on())
    except ConnectionError as error:
        state["error"] = str(error)
    return state


def _what_goes_on() -> dict[str, Any]:
    """Jobs, workers and tasks that live."""
    from collections import Counter

    from mobula import _state

    snapshot = _state.gather(tasks_max=0, ended_max=0)
    workers = {
        process["process"]: process
        for process in snapshot.daemon["processes"]
        if not process["is_driver"] and "state" in process
    }
    of_job = Counter(process["job"] for process in workers.values())
    tasks: Counter[str] = Counter()
    for states in snapshot.task_counts().values():
        tasks.update({s: n for s, n in states.items() if s not in ("FINISHED", "FAILED")})
    return {
        "store": snapshot.daemon["store"],
        "jobs": [
            {
                "job_id": job.job_id,
                "pid": int(job.driver_info.pid or 0) if job.driver_info else None,
                "workers": of_job[int(job.job_id or "0", 16)],
                "started": job.start_time / 1000 if job.start_time else None,
                "entrypoint": job.entrypoint,
            }
            for job in snapshot.jobs()
            if job.status == "RUNNING"
        ],
        "workers": dict(Counter(_WORKER_STATES[process["state"]] for process in workers.values())),
        "tasks": dict(tasks),
    }


def _describe_jobs(state: dict[str, Any]) -> str:
    from mobula import _tables

    def counts(name: str) -> str:
        found = state[name].items()
        return ", ".join(f"{n} {kind}" for kind, n in sorted(found)) or "none"

    rows = []
    for job in state["jobs"]:
        age = _tables.duration(time.time() - job["started"]) if job["started"] else "-"
        what = job["entrypoint"]
        if len(what) > _ENTRYPOINT_CHARS_MAX:
            what = what[: _ENTRYPOINT_CHARS_MAX - 3] + "..."
        rows.append((job["job_id"], job["pid"], age, job["workers"], what))
    text = f"  workers  {counts('workers')}\n  tasks    {counts('tasks')}\n"
    if not rows:
        return text
    table = _tables.table(("JOB", "PID", "FOR", "WORKERS", "PROGRAM"), rows)
    return text + "\n" + "".join(f"  {line}\n" for line in table.splitlines())


def _describe(state: dict[str, Any]) -> str:
    from mobula import _machine, _tables

    whose = "of `mobula start`" if state["kind"] == "standing" else "of a program"
    age = _tables.duration(time.time() - state["started"])
    text = (
        f"Session {state['name']} ({whose}), for {age}\n"
        f"  address  {state['address']}\n"
        f"  node     {state['node_id']}, pid {state['pid']}\n"
    )
    if state["labels"]:
        labels = (f"{_limits.shown(k)}={_limits.shown(v)}" for k, v in state["labels"].items())
        text += f"  labels   {_limits.listed(labels)}\n"
    if "error" in state:
        return text + f"  It does not answer: {state['error']}\n"
    text += _describe_jobs(state)
    rows = []
    kinds = sorted(state["total"].items(), key=_resource_order)
    kinds = [kind for kind in kinds if not _machine.is_of_one_node(kind[0])]
    for name, total in kinds[:_RESOURCES_SHOWN_MAX]:
        used = total - state["available"].get(name, 0.0)
        shown = _tables.size if name.endswith("memory") else _tables.amount
        rows.append((_limits.shown(name), shown(used), shown(total)))
    if len(kinds) > len(rows):
        rows.append((f"... and {len(kinds) - len(rows):,} more", "", ""))
    table = _tables.table(("RESOURCE", "USED", "OF"), rows)
    text += "\n" + "".join(f"  {line}\n" for line in table.splitlines())
    return text + "".join(f"  {line}\n" for line in ["", *_store_lines(state["store"])])


def _store_lines(store: dict[str, Any]) -> list[str]:
    """What the store does; the table says how large it is."""
    from mobula import _tables

    if "shared_values" not in store:  # Of a session of another version.
        return []
    size = _tables.size
    lines = [
        f"{store['shared_values']} values in the object store, {size(store['shared_bytes'])} of them "
        f"in memory, {size(store['pinned_bytes'])} looked at"
    ]
    if store["spilled_bytes"]:
        lines.append(
            f"{size(store['disk_bytes'])} on disk; {size(store['spilled_bytes'])} were spilled and "
            f"{size(store['restored_bytes'])} read back"
        )
    if store.get("in_file_bytes"):
        lines.append(f"{size(store['in_file_bytes'])} in files, for which memory had no room")
    if store["trouble"]:
        lines.append(f"Nothing can be spilled: {store['trouble']}")
    return lines


def _resource_order(entry: tuple[str, float]) -> tuple[int, str]:
    usual = ("CPU", "GPU", "memory", "object_store_memory")
    name = entry[0]
    return (usual.index(name) if name in usual else len(usual), name)
