"""What processes print, as the state API gives it: the log files of the node."""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Generator

from mobula import _core, _session
from mobula.util.state import schema
from mobula.util.state._listing import check_address, find_kind, take_row, take_rows
from mobula.util.state.exception import RayStateApiException


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
    check_address(address)
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
    of a task (`task_id`) or of an actor (`actor_id`), printed to stdout (`suffix="out"`) or stderr
    ("err").

    tail: so many last lines; -1: all. follow: goes on with what is added, until it is closed.
    ValueError: nothing is named. RayStateApiException: no such file, worker or task.
    """
    check_address(address)
    _session.require_session()
    if suffix not in ("out", "err"):
        raise ValueError(f"suffix must be 'out' or 'err', not {suffix!r}")
    directory = _log_directory(node_id, node_ip)
    if filename is None:
        filename = _log_of_process(directory, _find_pid(actor_id, task_id, pid), suffix)
    elif os.path.basename(filename) != filename or not os.path.isfile(
        os.path.join(directory, filename)
    ):
        raise RayStateApiException(f"There is no log file {filename!r}: see list_logs()")
    path = os.path.join(directory, filename)
    return _pieces(path, tail, follow, _interval or 0.2, encoding or "utf-8", errors or "strict")


def _find_pid(actor_id: str | None, task_id: str | None, pid: int | None) -> int:
    found: int | None = pid
    if task_id is not None:
        kind = find_kind("tasks")
        rows = take_rows(kind, [("task_id", "=", task_id)], detail=True)
        found = max(rows, key=lambda row: row.attempt_number).worker_pid if rows else None
        if found is None:
            raise RayStateApiException(f"No worker is known that has run a task {task_id!r}")
    elif actor_id is not None:
        actor = take_row("actors", actor_id, schema.DEFAULT_RPC_TIMEOUT)
        found = actor.pid if actor is not None else None
        if not found:
            raise RayStateApiException(f"No worker is known that has run an actor {actor_id!r}")
    if found is None:
        raise ValueError("Name a filename, an actor_id, a task_id or a pid.")
    return found


def _log_of_process(directory: str, pid: int, suffix: str) -> str:
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
