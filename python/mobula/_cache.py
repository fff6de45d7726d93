"""A cache of folders by content, shared by all sessions of this user.

    <root>/<kind>/<key>/            made by one process, then never changed
    <root>/<kind>/<key>/.complete   is there when it is whole; its time says when it was used last
    <root>/<kind>/<key>.lock        held while it is made or removed; shared by those who use it

The root is $MOBULA_CACHE_DIR, else $XDG_CACHE_HOME/mobula, else ~/.cache/mobula. A folder that a dead
process left half made has no mark, and is made anew. When one is made, those that were not used for
longest are removed as long as the kind has more bytes than it may, unless somebody uses them.

Threads: any; processes exclude each other by locks on files, which end with their holders.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_COMPLETE = ".complete"
_BYTES_MAX_DEFAULT = 10 << 30  # Of each kind; $MOBULA_CACHE_GB says otherwise.
# Who has found a folder complete gets so long to lock it, or to copy what it needs.
_SPARED_SECONDS = 600.0


def root() -> Path:
    given = os.environ.get("MOBULA_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "mobula"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"mobula-cache-{os.getuid()}"
        folder.mkdir(exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to another user") from None
    return folder


def get_or_make(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder; `make` fills it if it is not there yet. What `make` raises leaves nothing."""
    folder = root() / kind / key
    if _is_used(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(_lock_path(folder)):
        if _is_used(folder):  # Made meanwhile.
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            make(folder)
            (folder / _COMPLETE).write_text(str(_bytes_in(folder)))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    _remove_old(folder.parent)
    return folder


def hold(folder: Path) -> int:
    """A descriptor: the folder is not removed while it, or a copy of it, is open."""
    descriptor = os.open(_lock_path(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _is_used(folder: Path) -> bool:
    try:
        os.utime(folder / _COMPLETE)
    except OSError:
        return False
    return True


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


@contextlib.contextmanager
def _locked(path: Path, flags: int = fcntl.LOCK_EX) -> Iterator[None]:
    """BlockingIOError if `flags` say so and another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, flags)
        yield
    finally:
        os.close(descriptor)


def _bytes_in(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_size
    return total


def _bytes_max() -> int:
    try:
        return int(float(os.environ["MOBULA_CACHE_GB"]) * (1 << 30))
    except (KeyError, ValueError):
        return _BYTES_MAX_DEFAULT


def _remove_old(kind: Path) -> None:
    entries = []
    for mark in kind.glob("*/" + _COMPLETE):
        with contextlib.suppress(OSError, ValueError):
            entries.append((mark.stat().st_mtime, int(mark.read_text()), mark.parent))
    total = sum(size for _, size, _ in entries)
    for used, size, folder in sorted(entries):
        if total <= _bytes_max() or time.time() - used < _SPARED_SECONDS:
            return
        # The lock's file stays: who waits for it must find the same one.
        with (
            contextlib.suppress(OSError),
            _locked(_lock_path(folder), fcntl.LOCK_EX | fcntl.LOCK_NB),
        ):
            (folder / _COMPLETE).unlink()
            shutil.rmtree(folder)
            total -= size
