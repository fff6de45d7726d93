"""`global_worker`: what this process is, under the name by which programs look it up in Ray.

Use `get_runtime_context()` in new programs.
"""

from __future__ import annotations

import os

from mobula import (
    _core,
    _session,
    cancel,
    get,
    get_actor,
    get_gpu_ids,
    init,
    is_initialized,
    kill,
    put,
    remote,
    shutdown,
    wait,
)
from mobula._context import BaseContext
from mobula._context import Context as RayContext
from mobula._ids import JobID, NodeID, TaskID, WorkerID
from mobula.runtime_context import get_runtime_context

SCRIPT_MODE = 0
WORKER_MODE = 1
RESTORE_WORKER_MODE = 3
SPILL_WORKER_MODE = 4


class Worker:
    """This process. Its session is that of the moment: nothing is kept."""

    @property
    def connected(self) -> bool:
        """Has this process a session?"""
        return _core.is_connected()

    @property
    def mode(self) -> int | None:
        """SCRIPT_MODE in a driver, WORKER_MODE in tasks and actors. None: without a session."""
        if not _core.is_connected():
            return None
        return WORKER_MODE if _session.is_worker() else SCRIPT_MODE

    def check_connected(self) -> None:
        """RaySystemError: there is no session."""
        _session.require_session()

    @property
    def namespace(self) -> str:
        """Of named actors."""
        self.check_connected()
        return get_runtime_context().namespace

    @property
    def node_ip_address(self) -> str:
        """Of this machine."""
        from mobula import _machine

        return _machine.address()

    @property
    def current_job_id(self) -> JobID:
        """The job that this process works for."""
        self.check_connected()
        return get_runtime_context().job_id

    @property
    def current_node_id(self) -> NodeID:
        """The node on which it is."""
        self.check_connected()
        return get_runtime_context().node_id

    @property
    def current_task_id(self) -> TaskID:
        """The task that runs here. Nil: none."""
        self.check_connected()
        return get_runtime_context().task_id or TaskID.nil()

    @property
    def worker_id(self) -> bytes:
        """The bytes of the id of this process."""
        self.check_connected()
        return WorkerID(get_runtime_context().get_worker_id()).binary()

    def __repr__(self) -> str:
        return f"<worker pid={os.getpid()} connected={self.connected}>"


global_worker = Worker()

__all__ = [
    "RESTORE_WORKER_MODE",
    "SCRIPT_MODE",
    "SPILL_WORKER_MODE",
    "WORKER_MODE",
    "BaseContext",
    "RayContext",
    "Worker",
    "cancel",
    "get",
    "get_actor",
    "get_gpu_ids",
    "global_worker",
    "init",
    "is_initialized",
    "kill",
    "put",
    "remote",
    "shutdown",
    "wait",
]
