"""Starts and ends the private node daemon of a driver.

The daemon is the packaged executable `mobula node`, connected with this process by a socket pair only.
It ends when the connection does, and removes its session directory; `PrivateDaemon.stop` waits for
that, and does both itself if the daemon cannot any more.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

EXECUTABLE = Path(__file__).parent / "bin" / "mobula"

_END_SECONDS = 15.0  # For a daemon whose driver has left; it takes milliseconds.
_LOG_TAIL_BYTES = 4000


class PrivateDaemon:
    """The daemon process of this driver. Use from one thread at a time."""

    def __init__(self, process: subprocess.Popen[bytes], driver_end: socket.socket, folder: Path):
        self.pid = process.pid
        self.session_directory = folder
        self._process = process
        self._socket: socket.socket | None = driver_end
        self._owner = os.getpid()

    def take_socket(self) -> int:
        """The descriptor of the driver's end. It is the caller's from now on."""
        if self._socket is None:
            raise RuntimeError("the socket was taken before")
        descriptor = self._socket.detach()
        self._socket = None
        return descriptor

    def stop(self) -> None:
        """Waits for the end of the daemon, whose connection must be closed or is closed here. Leaves
        nothing of it behind. Does nothing in a forked child."""
        if os.getpid() != self._owner:
            return
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)  # Its children die with it.
            self._process.wait()
        shutil.rmtree(self.session_directory, ignore_errors=True)

    def last_words(self) -> str:
        """The end of the daemon's log, for an error message; "" if there is none."""
        try:
            text = (self.session_directory / "daemon.log").read_bytes()
        except OSError:
            return ""
        return text[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()


def start_private_daemon(
    *,
    resources: Mapping[str, float],
    object_store_memory: int,
    temp_dir: str | os.PathLike[str] | None = None,
    log_level: str | None = None,
) -> PrivateDaemon:
    """Starts a daemon for this process. Its welcome, or its refusal, comes over the socket.

    resources: amounts by name. object_store_memory: bytes. temp_dir: where the session directory is
    made; $XDG_RUNTIME_DIR or the system's folder for temporary files by default. log_level: debug,
    info, warning or error; $MOBULA_LOG_LEVEL or info by default. ConnectionError: it could not be
    started.
    """
    root = _session_root(temp_dir)
    folder = Path(tempfile.mkdtemp(prefix="mobula-", dir=root))  # 0700
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [
        str(EXECUTABLE),
        "node",
        f"--driver-fd={theirs.fileno()}",
        f"--resources={json.dumps(dict(resources))}",
        f"--object-store-memory={int(object_store_memory)}",
        f"--session-dir={folder}",
        f"--log-level={log_level or os.environ.get('MOBULA_LOG_LEVEL', 'info')}",
    ]
    try:
        with theirs, open(folder / "daemon.log", "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )
    except OSError as error:
        ours.close()
        shutil.rmtree(folder, ignore_errors=True)
        raise ConnectionError(f"cannot start the node daemon {EXECUTABLE}: {error}") from error
    return PrivateDaemon(process, ours, folder)


def _session_root(temp_dir: str | os.PathLike[str] | None) -> str:
    if temp_dir is not None:
        os.makedirs(temp_dir, exist_ok=True)
        return os.fspath(temp_dir)
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        return runtime
    return tempfile.gettempdir()
