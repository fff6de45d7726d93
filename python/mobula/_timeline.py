"""The timeline of tasks in the Chrome trace format, as chrome://tracing and Perfetto read it.

One row per worker process; times in microseconds of the machine's monotonic clock (the one of
`time.monotonic_ns()`), so that a program can place events of its own beside them.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from mobula import _core

if TYPE_CHECKING:
    from collections.abc import Iterable

_NODE_ROW = 1


def chrome_trace(records: Iterable[_core.TraceRecord], node_name: str) -> list[dict[str, Any]]:
    """Trace events, metadata first, then one complete event per task in order of start."""
    tasks = sorted(records, key=lambda record: record["start_ns"])
    events = [_metadata("process_name", _NODE_ROW, 0, f"node {node_name}")]
    for pid in sorted({record["pid"] for record in tasks}):
        events.append(_metadata("thread_name", _NODE_ROW, pid, f"worker pid={pid}"))
    events.extend(_task(record) for record in tasks)
    return events


def _metadata(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def _task(record: _core.TraceRecord) -> dict[str, Any]:
    runs = record["end_ns"] == 0
    end_ns = time.monotonic_ns() if runs else record["end_ns"]
    event: dict[str, Any] = {
        "ph": "X",
        "cat": "task",
        "name": record["name"],
        "pid": _NODE_ROW,
        "tid": record["pid"],
        "ts": record["start_ns"] / 1000,
        "dur": max(0, end_ns - record["start_ns"]) / 1000,
        "args": {
            "worker_pid": record["pid"],
            "job": f"{record['job']:08x}",
            "caller": record["caller"],
            "call": record["call"],
            "attempt": record["attempt"],
            "failed": record["failed"],
        },
    }
    if runs:
        event["args"]["running"] = True
    if record["error"]:
        event["args"]["error"] = record["error"]
    if record["failed"]:
        event["cname"] = "terrible"  # Red in the viewers.
    return event


def timeline(filename: str | os.PathLike[str] | None = None) -> list[dict[str, Any]] | None:
    """The tasks of the node that ran so far, and those that run now, as Chrome trace events. With
    `filename`: written there as JSON, and None returned. RaySystemError: not connected."""
    from mobula import _session

    _session.require_session()
    nodes = _core.nodes()
    name = nodes[0]["hostname"] if nodes else os.uname().nodename
    events = chrome_trace(_core.timeline(), name)
    if filename is None:
        return events
    with open(filename, "w", encoding="utf-8") as file:
        json.dump(events, file)
    return None
