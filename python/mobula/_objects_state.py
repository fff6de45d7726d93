"""Objects as the state API and `mobula memory` tell them: who refers to what, how, and where it is.

Each process says what it refers to itself, and the daemon who holds what is shared (see
docs/decisions/observation.md). A row is an object in the eyes of one process, as in Ray. A shared
object that is alive for another reason only (it is inside another value, a result on its way, captured
by a function of the job) has a row of the node's.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from mobula.util.state import schema

if TYPE_CHECKING:
    from mobula import _core
    from mobula._state import Snapshot

    Key = tuple[int, int]
    Name = tuple[int, ...]

REFERENCE_TYPES = (
    "PINNED_IN_MEMORY",
    "USED_BY_PENDING_TASK",
    "LOCAL_REFERENCE",
    "CAPTURED_IN_OBJECT",
    "ACTOR_HANDLE",
    "UNKNOWN_STATUS",
)
NO_CALL_SITE = "disabled"


class _Rows:
    def __init__(self, snapshot: Snapshot, phases: dict[str, str]) -> None:
        self._snapshot = snapshot
        self._phases = phases
        told: dict[str, Any] = snapshot.daemon.get("objects", {})
        self._shared: dict[Key, dict[str, Any]] = {
            (entry["creator"], entry["index"]): entry for entry in told.get("objects", [])
        }
        self._values: dict[Name, dict[str, Any]] = {
            tuple(value["name"]): value for value in told.get("values", [])
        }
        self._in_files = set(snapshot.daemon.get("store", {}).get("segments_in_files", []))
        self._actors = {actor["actor"] for actor in snapshot.section("actors")}
        self._records = any(process["records_call_sites"] for process in snapshot.live)
        # Who made it knows best; the daemon was told when it was shared.
        origins = [(key, entry) for key, entry in self._shared.items() if "call_site" in entry]
        self._sites: dict[Key, str] = {key: entry["call_site"] for key, entry in origins}
        self._made: dict[Key, int] = {key: entry["made_ns"] for key, entry in origins}
        for process in snapshot.live:
            for told_object in process["objects"]:
                key = told_object["object"]
                if key[0] != process["process"]:
                    continue
                if told_object["call_site"]:
                    self._sites[key] = told_object["call_site"]
                if told_object["made_ns"]:
                    self._made[key] = told_object["made_ns"]

    def all(self) -> list[schema.ObjectState]:
        rows = []
        seen: dict[Key, set[int]] = defaultdict(set)
        for process in self._snapshot.live:
            for told in process["objects"]:
                if told["place"] == "pending" and not _uses(told):
                    continue  # A task runs, and nobody wants its result.
                seen[told["object"]].add(process["process"])
                rows.append(self._of_process(process, told))
        for key, entry in self._shared.items():
            others = [number for number in entry["processes"] if number not in seen[key]]
            rows.extend(self._of_silent(key, entry, number) for number in others)
            if not seen[key] and not others:
                rows.append(self._of_node(key, entry))
        rows.sort(key=lambda row: (-row.object_size, row.object_id, row.pid))
        return rows

    def _of_process(self, process: _core.LiveProcess, told: _core.LiveObject) -> schema.ObjectState:
        key = told["object"]
        entry = self._shared.get(key)
        name = told["name"] or (tuple(entry["name"]) if entry and "name" in entry else None)
        value = self._values.get(name) if name is not None else None
        size = told["size"] or (entry["size"] if entry else 0)
        known = told["place"] not in ("pending", "unfetched") or size > 0
        return schema.ObjectState(
            object_id=self._id(key),
            object_size=size if known else -1,
            task_status=self._status(told),
            attempt_number=told["attempt"] + 1 if told["is_task"] else 0,
            reference_type=self._reference_type(key, told),
            call_site=self._site(key),
            type=self._type(process["process"]),
            pid=process["pid"],
            ip="127.0.0.1",
            where=self._where(told, entry, value, name),
            created_ms=self._created(key, value),
            references={
                "refs": told["refs"],
                "tasks": told["pending_tasks"],
                "values": told["containers"],
                "views": int(told["is_viewed"]),
            },
            held_by=self._holders(entry) if entry else [f"pid {process['pid']}"],
        )

    def _of_silent(self, key: Key, entry: dict[str, Any], number: int) -> schema.ObjectState:
        """Held by a process that did not answer, or says nothing of it."""
        process = self._snapshot.processes.get(number, {})
        return self._of_entry(
            key, entry, "UNKNOWN_STATUS", self._type(number), process.get("pid", 0)
        )

    def _of_node(self, key: Key, entry: dict[str, Any]) -> schema.ObjectState:
        kind = "CAPTURED_IN_OBJECT" if entry["containers"] else "UNKNOWN_STATUS"
        if entry["tasks"]:
            kind = "USED_BY_PENDING_TASK"
        return self._of_entry(key, entry, kind, "NODE", 0)

    def _of_entry(
        self, key: Key, entry: dict[str, Any], kind: str, type: str, pid: int
    ) -> schema.ObjectState:
        value = self._values.get(tuple(entry["name"])) if "name" in entry else None
        if self._id(key)[:32] in self._actors:
            kind = "ACTOR_HANDLE"
        return schema.ObjectState(
            object_id=self._id(key),
            object_size=entry["size"] if entry["state"] == "ready" else -1,
            task_status="FINISHED" if entry["state"] == "ready" else "NIL",
            attempt_number=0,
            reference_type=kind,
            call_site=self._site(key),
            type=type,
            pid=pid,
            ip="127.0.0.1",
            where=_place_of_shared(entry, value),
            created_ms=self._created(key, value),
            references={},
            held_by=self._holders(entry),
        )

    def _id(self, key: Key) -> str:
        # As ObjectRef.hex() writes it.
        return f"{self._snapshot.node_id}{key[0]:08x}{key[1]:016x}{0:024x}"

    def _site(self, key: Key) -> str:
        return self._sites.get(key, "" if self._records else NO_CALL_SITE)

    def _created(self, key: Key, value: dict[str, Any] | None) -> int | None:
        made = self._made.get(key) or (value["made_ns"] if value else 0)
        return self._snapshot.milliseconds(made)

    def _type(self, number: int) -> str:
        entry = self._snapshot.processes.get(number)
        return "DRIVER" if entry and entry.get("is_driver") else "WORKER"

    def _status(self, told: _core.LiveObject) -> str:
        if not told["is_task"]:
            return "NIL"
        if told["place"] == "pending":
            return self._phases[told["phase"]]
        return "FAILED" if told["place"] == "error" else "FINISHED"

    def _reference_type(self, key: Key, told: _core.LiveObject) -> str:
        if self._id(key)[:32] in self._actors:
            return "ACTOR_HANDLE"
        if told["is_viewed"]:
            return "PINNED_IN_MEMORY"
        if told["pending_tasks"]:
            return "USED_BY_PENDING_TASK"
        if told["refs"]:
            return "LOCAL_REFERENCE"
        return "CAPTURED_IN_OBJECT" if told["containers"] else "UNKNOWN_STATUS"

    def _where(
        self,
        told: _core.LiveObject,
        entry: dict[str, Any] | None,
        value: dict[str, Any] | None,
        name: tuple[int, ...] | None,
    ) -> str | None:
        if told["place"] in ("here", "error"):
            return "process"
        if told["place"] == "store":
            in_file = name is not None and name[0] in self._in_files
            where: str = value["where"] if value else "file" if in_file else "memory"
            return where
        if entry:
            return _place_of_shared(entry, value)
        # Without an entry: the daemon has not heard of it yet, or it is not among the largest.
        return "pending" if told["place"] == "pending" else None

    def _holders(self, entry: dict[str, Any]) -> list[str]:
        """Why the node keeps it."""
        holders = []
        for number in entry["processes"]:
            process = self._snapshot.processes.get(number)
            holders.append(
                f"pid {process['pid']}" if process else f"process {number}, which is dead"
            )
        for count, text in (
            (entry["jobs"], "a function or actor class of a job"),
            (entry["parcels"], "a result on its way"),
            (entry["containers"], "another object's value"),
            (entry["tasks"], "a task that has not ended"),
        ):
            if count:
                holders.append(text if count == 1 else f"{text} ({count} times)")
        return holders


def _uses(told: _core.LiveObject) -> bool:
    return bool(told["refs"] or told["pending_tasks"] or told["containers"] or told["is_viewed"])


def _place_of_shared(entry: dict[str, Any], value: dict[str, Any] | None) -> str:
    if entry["state"] != "ready":
        return "pending"
    if "name" not in entry:
        return "node"
    where: str = value["where"] if value else "memory"
    return where


def rows(snapshot: Snapshot, phases: dict[str, str]) -> list[schema.ObjectState]:
    """The largest first. `phases`: how those of tasks are called."""
    return _Rows(snapshot, phases).all()


def missing_output(snapshot: Snapshot) -> str:
    """Which processes do not say what they refer to, in a sentence; "" if all do."""
    texts = [f"process {process['pid']} ({process['error']})" for process in snapshot.silent]
    return f"Objects known only to these are not listed: {', '.join(texts)}." if texts else ""


def dropped_output(snapshot: Snapshot) -> int:
    """How many objects are not listed because others are larger."""
    dropped = sum(process["object_count"] - len(process["objects"]) for process in snapshot.live)
    told: dict[str, Any] = snapshot.daemon.get("objects", {"entries": 0, "objects": []})
    return dropped + int(told["entries"]) - len(told["objects"])


def summary(rows: list[schema.ObjectState]) -> dict[str, Any]:
    """By call site, as `summarize_objects` tells it."""
    groups: dict[str, list[schema.ObjectState]] = defaultdict(list)
    for row in rows:
        groups[row.call_site].append(row)
    return {
        "cluster": {
            "summary": {site: _summary_of(group) for site, group in groups.items()},
            "total_objects": len(rows),
            "total_size_mb": _megabytes(rows),
            "callsite_enabled": NO_CALL_SITE not in groups,
            "summary_by": "callsite",
        }
    }


def _summary_of(group: list[schema.ObjectState]) -> dict[str, Any]:
    return {
        "total_objects": len(group),
        "total_size_mb": _megabytes(group),
        "total_num_workers": len({row.pid for row in group}),
        "total_num_nodes": len({row.ip for row in group}),
        "task_state_counts": _counts(group, "task_status"),
        "task_attempt_number_counts": _counts(group, "attempt_number"),
        "ref_type_counts": _counts(group, "reference_type"),
    }


def _megabytes(group: list[schema.ObjectState]) -> float:
    return sum(max(row.object_size, 0) for row in group) / 2**20


def _counts(group: list[schema.ObjectState], column: str) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for row in group:
        counts[str(row[column])] += 1
    return dict(counts)


def short_site(site: str) -> str:
    """Of a call site: the innermost line, with the file's name alone."""
    how, _, frames = site.partition(" | ")
    first = frames.partition(" | ")[0]
    path, colon, rest = first.partition(":")
    return f"{how} {os.path.basename(path)}{colon}{rest}".strip() if first else site
