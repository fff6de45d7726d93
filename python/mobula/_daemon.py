"""Starts node daemons, and ends them.

A daemon is the packaged executable `mobula node`. A private one is connected with the driver that
started it by a socket pair, ends when its last driver has left, and removes its session directory;
`PrivateDaemon.stop` waits for that where it can, and does both itself if the daemon cannot any more. A
standing one (`mobula start`) ends when it is told to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mobula import _sessions_here, _setup_memory

EXECUTABLE = Path(__file__).parent / "bin" / "mobula"

_END_SECONDS = 15.0  # For a daemon whose driver has left; it takes milliseconds.
_READY_SECONDS = 30.0
_LAST_WORDS_SECONDS = 2.0
_LOG_TAIL_BYTES = 4000


class Daemon(Protocol):
    """The daemon of this driver's session."""

    session_directory: Path

    def take_socket(self) -> int:
        """The descriptor of the driver's end. It is the caller's from now on."""

    def stop(self, ends: bool = True) -> None:
        """The session of this driver is over: its connection is closed, or is closed here. `ends`: the
        daemon ends, too. Does nothing in a forked child."""

    def last_words(self) -> str:
        """The end of the daemon's log, for an error message; "" if there is none."""


class _Connection:
    """This process's end of a socket with a daemon."""

    def __init__(self, driver_end: socket.socket, folder: Path) -> None:
        self.session_directory = folder
        self._socket: socket.socket | None = driver_end
        self._owner = os.getpid()

    def take_socket(self) -> int:
        if self._socket is None:
            raise RuntimeError("the socket was taken before")
        descriptor = self._socket.detach()
        self._socket = None
        return descriptor

    def _close(self) -> bool:
        """False in a forked child."""
        if os.getpid() != self._owner:
            return False
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        return True

    def last_words(self) -> str:
        return _log_tail(self.session_directory)


class PrivateDaemon(_Connection):
    """The daemon that this driver started. Use from one thread at a time."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        driver_end: socket.socket,
        folder: Path,
        link: Path | None,
    ) -> None:
        super().__init__(driver_end, folder)
        self.pid = process.pid
        self._process = process
        self._link = link

    def last_words(self) -> str:
        """Waits a moment for a daemon that is ending: it says why after its socket is closed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_SECONDS)
        words = super().last_words()
        end = _how_it_ended(self._process.returncode, says_why=bool(words))
        return "\n".join(filter(None, (end, words)))

    def stop(self, ends: bool = True) -> None:
        """Waits for the end of the daemon, and leaves nothing of it behind. Not if it goes on for
        other drivers: whoever of them comes last ends it."""
        if not self._close():
            return
        if ends:
            _end(self._process, self.session_directory, self._link)
        else:
            # It is our child: collected here when it has ended, if we are still there.
            threading.Thread(target=self._process.wait, name="mobula-collect", daemon=True).start()


class JoinedDaemon(_Connection):
    """A daemon that somebody else has started."""

    def __init__(self, record: _sessions_here.SessionRecord) -> None:
        _fill_standard_descriptors()
        super().__init__(_sessions_here.connect(record), record.directory)
        self.record = record

    def stop(self, ends: bool = True) -> None:
        """Waits for the end of the daemon if it ends. It removes everything itself."""
        if not self._close() or not ends:
            return
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(self.record.pid)
            try:
                if _sessions_here.is_alive(
                    self.session_directory
                ):  # Else it is another's number now.
                    select.select([pidfd], [], [], _END_SECONDS)
            finally:
                os.close(pidfd)
        _sessions_here.remove_if_dead(self.session_directory)  # Nothing, unless it was killed.


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """What a daemon is started with."""

    resources: Mapping[str, float]
    """Amounts by name."""
    object_store_memory: int
    """In bytes."""
    labels: Mapping[str, str] | None = None
    temp_dir: str | os.PathLike[str] | None = None
    """Where the session directory is made; None: in $XDG_RUNTIME_DIR or the system's folder for
    temporary files."""
    metrics_port: int = 0
    """On loopback, for Prometheus; 0: one that is free, -1: none."""
    log_level: str | None = None
    """debug, info, warning or error; None: $MOBULA_LOG_LEVEL or info."""
    object_spilling_directory: str | None = None
    """None: in the session directory."""

    def settings(self) -> bytes:
        """What may be larger than an argument."""
        settings = {"resources": dict(self.resources), "labels": dict(self.labels or {})}
        return json.dumps(settings).encode()

    def arguments(self) -> list[str]:
        spilling = self.object_spilling_directory
        return [
            f"--object-store-memory={int(self.object_store_memory)}",
            f"--log-level={self.log_level or os.environ.get('MOBULA_LOG_LEVEL', 'info')}",
            f"--metrics-port={self.metrics_port}",
            *([] if spilling is None else [f"--object-spilling-directory={spilling}"]),
        ]


def start_private_daemon(node: NodeSettings) -> PrivateDaemon:
    """Starts a daemon for this process. Its welcome, or its refusal, comes over the socket.
    ConnectionError: it could not be started."""
    _fill_standard_descriptors()
    place = _Place(_sessions_here.PRIVATE, node.temp_dir)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            process = place.start(node, "--driver-fd", theirs.fileno())
        except BaseException:
            ours.close()
            raise
    _sessions_here.sweep()
    return PrivateDaemon(process, ours, place.directory, place.link)


def start_standing_daemon(
    node: NodeSettings,
) -> tuple[_sessions_here.SessionRecord, subprocess.Popen[bytes]]:
    """Starts a daemon that outlives this process, and waits until drivers can join it.
    AlreadyRunningError: there is one. ConnectionError: it could not be started."""
    _fill_standard_descriptors()
    place = _Place(_sessions_here.STANDING, node.temp_dir)
    try:
        _be_the_only_one(place.directory)
    except BaseException:
        place.abandon()
        raise
    ready, theirs = os.pipe()
    try:
        try:
            process = place.start(node, "--ready-fd", theirs)
        finally:
            os.close(theirs)
        said = _read_line(ready, _READY_SECONDS)
    finally:
        os.close(ready)
    try:
        if said != "ready":
            words = said or "the node daemon ended at once"
            raise ConnectionError(f"{words}\n{_log_tail(place.directory)}".strip())
        record = _sessions_here.session_at(str(place.directory))
    except BaseException:
        process.kill()
        _end(process, place.directory, place.link)
        raise
    _sessions_here.sweep()
    return record, process


def _fill_standard_descriptors() -> None:
    """In a program that closed some of 0, 1 and 2 our sockets would get their numbers: what prints
    would write into them, and the daemon's own would replace them. They lead to nowhere instead."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


class AlreadyRunningError(ConnectionError):
    """There is a standing session."""


def _be_the_only_one(directory: Path) -> None:
    """Of several that are started at the same time one stays: whoever sees that another one, of a
    smaller name, is being started, gives way; the other waits for that. Each sees those that were there
    before it."""
    end = time.monotonic() + _READY_SECONDS
    while others := _sessions_here.others_standing(directory):
        for name, record in others:
            if record is not None:
                raise AlreadyRunningError(
                    f"the session {name} is running already (pid {record.pid}). Programs join it by"
                    " mobula.init(); `mobula stop` ends it."
                )
            if name < directory.name or time.monotonic() > end:
                raise AlreadyRunningError(f"the session {name} is just being started.")
        time.sleep(0.01)


class _Place:
    """A directory for a new session, locked as long as its daemon lives."""

    def __init__(self, prefix: str, temp_dir: str | os.PathLike[str] | None) -> None:
        try:
            self._make(prefix, temp_dir)
        except OSError as error:
            raise ConnectionError(
                f"cannot make a directory for the session: {error}{_file_size_hint()}"
            ) from error

    def _make(self, prefix: str, temp_dir: str | os.PathLike[str] | None) -> None:
        root = _sessions_here.root()
        folder = root if temp_dir is None else Path(os.path.abspath(temp_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))  # 0700
        self.link: Path | None = None
        self._lock = -1
        try:
            self._lock = _sessions_here.lock_new(self.directory)
            if folder != root:
                self.link = root / self.directory.name
                os.symlink(self.directory, self.link)
        except BaseException:
            self._remove()
            raise

    def start(self, node: NodeSettings, option: str, descriptor: int) -> subprocess.Popen[bytes]:
        """The daemon. It inherits the lock and `descriptor`, of which the option tells it. Once."""
        command = [
            str(EXECUTABLE),
            "node",
            f"--session-dir={self.directory}",
            f"--lock-fd={self._lock}",
            *([f"--session-link={self.link}"] if self.link else []),
            f"{option}={descriptor}",
            *node.arguments(),
        ]
        # What it does not get its drivers hand to their workers.
        environ, _ = _setup_memory.split(os.environ)
        try:
            with (
                open(self.directory / "daemon.log", "ab") as log,
                os.fdopen(os.memfd_create("mobula-settings"), "w+b") as settings,
            ):
                settings.write(node.settings())
                settings.seek(0)
                return subprocess.Popen(
                    command,
                    stdin=settings,
                    stdout=log,
                    stderr=log,
                    pass_fds=(descriptor, self._lock),
                    start_new_session=True,
                    cwd="/",
                    env=environ,
                )
        except OSError as error:
            self._remove()
            hint = _file_size_hint() if error.errno == errno.EFBIG else ""
            if error.errno == errno.EMFILE:
                hint = " (is `ulimit -n` low?)"
            raise ConnectionError(
                f"cannot start the node daemon {EXECUTABLE}: {error}{hint}"
            ) from error
        except BaseException:
            self._remove()
            raise
        finally:
            os.close(self._lock)

    def abandon(self) -> None:
        """Instead of `start`."""
        self._remove()
        os.close(self._lock)

    def _remove(self) -> None:
        _sessions_here.remove(self.directory, self.link)


def _read_line(descriptor: int, seconds: float) -> str:
    """What the daemon says when it is ready; "" if it said nothing in time, or ended."""
    end = time.monotonic() + seconds
    text = b""
    while (left := end - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        chunk = os.read(descriptor, 4096)
        if not chunk:
            break
        text += chunk
    return text.decode(errors="replace")


def _end(process: subprocess.Popen[bytes], directory: Path, link: Path | None) -> None:
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)  # Its children die with it.
        process.wait()
    _sessions_here.remove(directory, link)


def _how_it_ended(code: int | None, says_why: bool) -> str:
    """What is to be said of a daemon's exit status. `says_why`: its log does, if it ended by itself."""
    if not code or (code > 0 and says_why):
        return ""
    if code > 0:
        return f"It ended with exit code {code}."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"It was killed by {name}.{_file_size_hint() if -code == signal.SIGXFSZ else ''}"


def _file_size_hint() -> str:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    return (
        f" (Files are limited to {limit} bytes, by RLIMIT_FSIZE or `ulimit -f`, and shared memory"
        " counts as files.)"
    )


def _log_tail(directory: Path) -> str:
    try:
        text = (directory / "daemon.log").read_bytes()
    except OSError:
        return ""
    return text[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
