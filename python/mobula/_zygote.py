"""The zygote: one warm, single-threaded interpreter of a job from which the daemon has workers forked.

The daemon starts it (and, where forking is not safe, fresh workers) as
`python -c <bootstrap> zygote|worker <socket> <daemon's pid> <memory>`, with the driver's sys.path,
working directory and environment. It imports what every worker needs and nothing of the user's. If the
memory (`_setup_memory.py`) has a spec, it first becomes the interpreter of that runtime environment
(`_environment_setup.py`).

Packets on the socket, JSON:
    to the zygote      {"op": "fork", "worker": N}  with descriptors: socket, stdout, stderr of worker N
    to the daemon      {"ready": true}, once; or {"unfit": why}: the environment cannot be prepared
                       {"worker": N, "pid": P}  or  {"worker": N, "error": why}: start it afresh

A worker is forked by a process in between, which ends at once, so that it is the child of the daemon.
End of file on the socket ends the zygote.
"""

from __future__ import annotations

import gc
import importlib.machinery
import json
import os
import signal
import socket
import sys
from typing import NoReturn

from mobula import _from_driver, _setup_memory

# Thread pools of numerical libraries do not survive a fork: a .pth file or sitecustomize that imports
# one here gets a pool of one thread. Workers set what their tasks' num_cpus says.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_PACKET_BYTES_MAX = 1024


def main(arguments: list[str], texts: list[str]) -> None:
    """arguments: role, number of the socket, pid of the daemon. texts: those of the memory behind
    sys.path."""
    role, descriptor, daemon_pid = arguments[0], int(arguments[1]), int(arguments[2])
    late = _setup_memory.variables(texts[1:])
    if texts[0]:
        from mobula import _environment_setup

        _environment_setup.main(role, descriptor, daemon_pid, texts[0], late)
    os.environ.update(late)
    _from_driver.take()
    sys.argv = [""]
    if role == "worker":
        _become_worker(descriptor, daemon_pid)
    pinned = [name for name in _THREAD_VARIABLES if name not in os.environ]
    for name in pinned:
        os.environ[name] = "1"
    # With everything that a worker imports.
    from mobula import _after_task, _titles, _worker  # noqa: F401

    _titles.name_process("zygote", "mobula::zygote")

    # What there is in the directories of sys.path is then known: the first import of a worker, that of
    # the user's module, need not list them all. Python looks at their times before it believes this.
    importlib.machinery.PathFinder.find_spec("__no_such_module__")
    _after_task.modules_of_package()
    # Objects made so far are never collected: their pages stay shared with the workers.
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=descriptor), daemon_pid, pinned)


def _serve(control: socket.socket, daemon_pid: int, pinned: list[str]) -> None:
    control.send(json.dumps({"ready": True}).encode())
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, _PACKET_BYTES_MAX, 3)
        if not packet:
            return
        request = json.loads(packet)
        try:
            if request["op"] != "fork" or len(descriptors) != 3:
                raise ValueError(
                    f"unexpected request {request} with {len(descriptors)} descriptors"
                )
            _fork(control, request["worker"], descriptors, daemon_pid, pinned)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _fork(
    control: socket.socket,
    worker: int,
    descriptors: list[int],
    daemon_pid: int,
    pinned: list[str],
) -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        why = f"there are {threads} threads (started by an import at interpreter start?)"
        _answer(control, {"worker": worker, "error": why})
        return
    from mobula import _core  # Not before this is the interpreter of its environment.

    try:
        pid = _core.fork_for_daemon()
    except OSError as error:
        _answer(control, {"worker": worker, "error": f"fork: {error.strerror}"})
        return
    if pid != 0:
        _answer(control, {"worker": worker, "pid": pid})
        return
    os.setsid()
    for name in pinned:
        del os.environ[name]
    os.dup2(descriptors[1], 1)
    os.dup2(descriptors[2], 2)
    os.dup2(descriptors[0], 3, inheritable=False)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    control.detach()  # Closed just now, or replaced.
    _become_worker(3, daemon_pid)


def _answer(control: socket.socket, message: dict[str, object]) -> None:
    control.send(json.dumps(message).encode())


def _become_worker(descriptor: int, daemon_pid: int) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from mobula import _core, _titles, _worker

    # Wait for the adoption: the signal is for the end of whoever is the parent when it is asked for.
    while os.getppid() != daemon_pid:
        if os.getppid() == 1 or not os.path.exists(f"/proc/{daemon_pid}"):
            os._exit(1)  # The daemon is gone already.
        os.sched_yield()
    _core.die_with_parent()
    if os.getppid() != daemon_pid:
        os._exit(1)
    _titles.name_process("IDLE", "mobula::worker")
    _worker.main(descriptor)
