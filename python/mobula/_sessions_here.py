"""The sessions of this user on this machine: where they are, which of them live, how to reach one.

A session is a directory (0700) of its own:
    lock            locked (flock) by the daemon, and by nobody once it is dead, however it died
    session.json    what is needed to join: src/node/session_file.h says what is in it
    daemon.sock     where drivers join
    daemon.log, worker-*.out, worker-*.err, zygote-*.log
Directories are made in `root()`, or in a folder of the user's choice with a link to them in `root()`.
A standing session's name starts with STANDING, another's with PRIVATE only.

What lies there was written by other processes: nothing is believed of a directory that is not ours.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PRIVATE = "mobula-"
STANDING = "mobula-node-"
SCHEME = "unix:"

_LOCK = "lock"
_FILE_BYTES_MAX = 512 << 20
_CONNECT_SECONDS = 5.0
# A directory without a lock is just being made, unless it is this old.
_UNFINISHED_SECONDS = 3600.0
_SWEPT_AT_ONCE_MAX = 200


class SessionGoneError(ConnectionError):
    """There is no living session where one was said to be."""


@dataclasses.dataclass(frozen=True)
class SessionRecord:
    """A session that says it can be joined."""

    directory: Path
    is_standing: bool
    pid: int
    token: str
    node_id: str
    started: float  # Seconds since 1970.
    version: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    object_store_memory: int

    @property
    def address(self) -> str:
        return address_of(self.directory)

    @property
    def name(self) -> str:
        return self.directory.name


def address_of(directory: str | os.PathLike[str]) -> str:
    """What `init(address=...)` takes to join the session of this directory."""
    return f"{SCHEME}{os.fspath(directory)}"


def root() -> Path:
    """Where sessions are looked for: $XDG_RUNTIME_DIR, or the folder for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime)
    return Path(tempfile.gettempdir())


def sessions() -> list[SessionRecord]:
    """The living sessions: standing ones first, then the youngest first."""
    records = [record for folder in _folders(PRIVATE) if (record := _living(folder)) is not None]
    return sorted(records, key=lambda record: (not record.is_standing, -record.started))


def standing_session() -> SessionRecord | None:
    """The one that `mobula start` made, if it lives."""
    records = [record for folder in _folders(STANDING) if (record := _living(folder)) is not None]
    return max(records, key=lambda record: record.started, default=None)


def others_standing(directory: Path) -> list[tuple[str, SessionRecord | None]]:
    """Name and record of standing sessions besides this one. No record: it is just being started."""
    others = []
    for folder in _folders(STANDING):
        other = _link_target(folder) or folder
        if other != directory and _is_ours(other) and is_alive(other):
            others.append((other.name, _read(other)))
    return others


def session_at(address: str) -> SessionRecord:
    """The session of an address, a directory, or a name in `root()`. SessionGoneError: it does not
    live (what it left is removed). ValueError: the address is not well-formed."""
    if not address:
        raise ValueError(f"Invalid address format: {address}")
    text = address.removeprefix(SCHEME)
    path = Path(text) if os.path.isabs(text) else root() / text
    if not os.path.isabs(text) and (os.sep in text or not text.startswith(PRIVATE)):
        raise ValueError(
            f"Invalid address format: {address}. Addresses look like"
            f" {SCHEME}/run/user/1000/mobula-..."
        )
    path = Path(os.path.realpath(path))
    record = _living(path)
    if record is not None:
        return record
    remove_if_dead(path)
    raise SessionGoneError(
        f"No Mobula session lives at {address}: it has ended, or never was there."
        " `mobula status` shows those that live."
    )


def connect(record: SessionRecord) -> socket.socket:
    """A connection with the daemon, on which nothing was said yet. SessionGoneError: it is dead, or is
    another process than the record says. ConnectionError: it does not answer."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # An address of a socket holds 107 bytes only; a descriptor stands for the folder.
        folder = os.open(record.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(f"/proc/self/fd/{folder}/daemon.sock")
        finally:
            os.close(folder)
        pid, user, _ = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if (pid, user) != (record.pid, os.geteuid()):
            raise SessionGoneError(
                f"The session {record.name} is served by process {pid} of user {user}, not by process"
                f" {record.pid} of this user, as its file says."
            )
        connection.settimeout(None)
    except TimeoutError as error:
        connection.close()
        raise ConnectionError(
            f"The node daemon of session {record.name} (pid {record.pid}) does not answer: is it"
            " stopped?"
        ) from error
    except OSError as error:
        connection.close()
        if isinstance(error, SessionGoneError):
            raise
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            raise SessionGoneError(f"The session {record.name} has just ended.") from error
        raise ConnectionError(f"Cannot connect to {record.address}: {error}") from error
    return connection


def sweep() -> int:
    """Removes what dead sessions of this user left. How many there were."""
    removed = 0
    for folder in _folders(PRIVATE):
        removed += remove_if_dead(folder)
        if removed >= _SWEPT_AT_ONCE_MAX:
            break
    return removed


def lock_new(directory: Path) -> int:
    """A descriptor with the lock of a session that is being made. For the daemon to inherit."""
    unfinished = directory / f"{_LOCK}.new"
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unfinished, directory / _LOCK)  # Whoever sees the lock sees it locked.
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_alive(directory: Path) -> bool:
    """Does its daemon live, or start?"""
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


# ---- looking ---------------------------------------------------------------------------------


def _folders(prefix: str) -> Iterator[Path]:
    try:
        with os.scandir(root()) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    except OSError:
        return
    for name in names:
        yield root() / name


def _is_ours(directory: Path) -> bool:
    """A directory of this user's that nobody else can write to; not a link."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and status.st_mode & 0o077 == 0
    )


def _link_target(folder: Path) -> Path | None:
    """Where a link of ours leads to; None if it is no link of ours."""
    try:
        status = os.lstat(folder)
        if stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid():
            return Path(os.readlink(folder))
    except OSError:
        pass
    return None


def _living(folder: Path) -> SessionRecord | None:
    directory = _link_target(folder) or folder
    if not _is_ours(directory) or not is_alive(directory):
        return None
    return _read(directory)


def _read(directory: Path) -> SessionRecord | None:
    """None: it cannot be joined (yet), or what is there is not what a daemon writes."""
    try:
        descriptor = os.open(
            directory / "session.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        )
        with open(descriptor, "rb") as file:
            if os.fstat(descriptor).st_size > _FILE_BYTES_MAX:
                return None
            said = json.loads(file.read())
        return _record(directory, said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _record(directory: Path, said: Any) -> SessionRecord:
    if said["format"] != 1 or said["kind"] not in ("private", "standing"):
        raise ValueError("unknown format")
    return SessionRecord(
        directory=directory,
        is_standing=said["kind"] == "standing",
        pid=int(said["pid"]),
        token=str(said["token"]),
        node_id=str(said["node_id"]),
        started=float(said["started"]),
        version=str(said["version"]),
        resources={str(name): float(amount) for name, amount in said["resources"].items()},
        labels={str(name): str(value) for name, value in said["labels"].items()},
        object_store_memory=int(said["object_store_memory"]),
    )


def remove_if_dead(folder: Path) -> bool:
    """Removes what a dead session of ours left in this directory. Was there anything?"""
    target = _link_target(folder)
    if target is not None:
        if target.exists():
            folder, link = target, folder
        else:
            with contextlib.suppress(OSError):
                folder.unlink()
            return True
    else:
        link = None
    if not folder.name.startswith(PRIVATE) or not _is_ours(folder) or is_alive(folder):
        return False
    if not (folder / _LOCK).exists():
        try:
            age = time.time() - folder.stat().st_mtime
        except OSError:
            return False
        if age < _UNFINISHED_SECONDS:
            return False
    remove(folder, link)
    return True


def remove(directory: Path, link: Path | None) -> None:
    """Removes a session's directory and the link to it. Who is killed meanwhile leaves what others
    know as a dead session's: the lock goes last, and the link after the directory."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != _LOCK:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
    shutil.rmtree(directory, ignore_errors=True)
    if link is not None:
        with contextlib.suppress(OSError):
            link.unlink()
