"""What Python workers run, and where: their interpreter, directory and sys.path.

sys.path is their driver's, also when it changes after `init`. The daemon is told the path when a driver
comes. A later change is written into a file of the session, at the last moment at which it can matter:
before the driver imports a module (`_Teller` is the first finder of sys.meta_path and compares), and
before a function or a class of actors goes out for the first time. A worker looks at the file before
it imports a module that it does not have (`_Follower`). So no task pays for it, and all workers of the
job follow: those that run, those that come, detached actors.

What the driver removes stays in workers, at the end: what it imported from there can still be found.
Entries are absolute, as a worker may have another working directory.

Threads: any, in both.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mobula import _from_driver

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_REMOVED_MAX = 200


def of_driver(code_search_path: Sequence[str] = ()) -> list[str]:
    """Modules beside the script are found there whatever the worker's working directory is.
    `code_search_path`: of a JobConfig; its last entry comes first, right after the script's folder."""
    own = _absolute(sys.path)
    more = _absolute(reversed(code_search_path))
    at = 0 if _starts_without_script() else 1
    first = [entry for entry in own[:at] if entry not in more]
    return [*first, *more, *(entry for entry in own[at:] if entry not in more)]


def interpreter() -> str:
    """That of the driver. ConnectionError: workers cannot be started with it."""
    given: Any = sys.executable
    if not isinstance(given, str) or not given:
        why = "it names no program"
    elif shutil.which(given) is not None:
        return given
    else:
        why = "it cannot be executed" if os.path.exists(given) else "there is no such program"
    raise ConnectionError(
        f"Workers run the driver's interpreter, but sys.executable is {given!r}: {why}. Set it to"
        " that of a Python before init."
    )


def working_directory() -> str:
    """Where workers begin: where the driver is, or in / if that was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def new_file(session_directory: str | os.PathLike[str]) -> str:
    """For what this driver will tell its workers."""
    return os.path.join(session_directory, f"sys-path-{uuid.uuid4().hex}.json")


def begin_telling(file: str, told: list[str], code_search_path: Sequence[str]) -> None:
    """From now on the workers of this driver learn of changes. `told`: what they start with."""
    global _teller
    end_telling()
    _teller = _Teller(file, told, code_search_path)
    sys.meta_path.insert(0, _teller)


def end_telling() -> None:
    """The session is over."""
    global _teller
    if _teller is not None and _teller in sys.meta_path:
        sys.meta_path.remove(_teller)
    _teller = None


def tell_changes() -> None:
    """Something that workers have to import goes out."""
    if _teller is not None:
        _teller.tell()


def follow() -> None:
    """This worker's sys.path is that of its driver from now on."""
    file = _from_driver.text(_from_driver.SYS_PATH_FILE)
    if file:
        sys.meta_path.insert(0, _Follower(file))


def _starts_without_script() -> bool:
    return bool(sys.flags.isolated or getattr(sys.flags, "safe_path", False))


def _is_absolute(entry: object) -> bool:
    return isinstance(entry, str) and os.path.isabs(entry)


def _absolute(entries: Iterable[object]) -> list[str]:
    """Without those that Python passes over. A working directory that was removed has no modules."""
    texts = [entry for entry in entries if isinstance(entry, str) and "\0" not in entry]
    try:
        return list(dict.fromkeys(os.path.abspath(entry) for entry in texts))
    except FileNotFoundError:
        return list(dict.fromkeys(filter(os.path.isabs, texts)))


# ---- the driver's part -------------------------------------------------------------------------


class _Teller:
    def __init__(self, file: str, told: list[str], code_search_path: Sequence[str]) -> None:
        self._file = file
        self._pid = os.getpid()
        self._at_start = told
        self._told = told
        self._code_search_path = code_search_path
        self._removed: list[str] = []
        # As it was last seen. None: it says something else in another working directory.
        self._seen: list[Any] | None = None
        self._lock = threading.RLock()  # Telling may import.
        self._is_telling = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Finds nothing."""
        if path is None:
            self.tell(waits=False)
        return None

    def tell(self, waits: bool = True) -> None:
        """Writes down what has changed. Who is importing must not wait: another thread that tells may
        import as well, what this one holds the lock of."""
        if sys.path == self._seen or self._pid != os.getpid():
            return
        if not self._lock.acquire(blocking=waits):
            return
        failure = None
        try:
            if self._is_telling:
                return
            self._is_telling = True
            try:
                self._tell()
            except OSError as error:
                failure = error
                self._seen = list(sys.path)  # One warning for each change.
            finally:
                self._is_telling = False
        finally:
            self._lock.release()
        if failure is not None:
            logging.getLogger(__name__).warning(
                "Workers are not told that sys.path has changed: %s", failure
            )

    def _tell(self) -> None:
        seen = list(sys.path)
        now = of_driver(self._code_search_path)
        if now != self._told:
            gone = [entry for entry in self._told if entry not in now]
            kept = [entry for entry in self._removed if entry not in now and entry not in gone]
            removed = [*kept, *gone][-_REMOVED_MAX:]
            text = json.dumps({"at_start": self._at_start, "now": [*now, *removed]})
            unfinished = f"{self._file}.new"
            with open(unfinished, "w", opener=_private) as file:
                file.write(text)
            os.replace(unfinished, self._file)
            self._told, self._removed = now, removed
        self._seen = seen if all(map(_is_absolute, seen)) else None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_teller: _Teller | None = None


# ---- a worker's part ---------------------------------------------------------------------------


class _Follower:
    def __init__(self, file: str) -> None:
        self._file = file
        self._version: tuple[int, int] | None = None
        self._followed: list[str] | None = None
        self._is_following = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Finds nothing."""
        if path is None and not self._is_following:
            try:
                status = os.stat(self._file)
            except OSError:  # Nothing has changed, or the session is over.
                return None
            version = (status.st_ino, status.st_mtime_ns)
            if version != self._version:
                self._is_following = True
                try:
                    self._follow(version)
                except OSError:
                    return None
                finally:
                    self._is_following = False
        return None

    def _follow(self, version: tuple[int, int]) -> None:
        with open(self._file) as file:
            said = json.load(file)
        before = said["at_start"] if self._followed is None else self._followed
        sys.path[:] = merged(sys.path, before, said["now"])
        self._followed, self._version = said["now"], version


def merged(own: Sequence[Any], before: Sequence[str], now: Sequence[str]) -> list[Any]:
    """A worker's path, which was made of the driver's path `before`, made of `now` instead. What is the
    worker's own stays: at its head, or before the same entry of the driver's. What it removed stays
    away."""
    theirs, kept = set(before), set(now)
    head: list[Any] | None = None
    groups: dict[str, list[Any]] = {}
    pending: list[Any] = []
    for entry in own:
        if not isinstance(entry, str) or (entry not in theirs and entry not in kept):
            pending.append(entry)
            continue
        if head is None:
            head, pending = pending, []
        if entry in kept:
            groups.setdefault(entry, []).extend(pending)
            pending = []
    result: list[Any] = list(head or [])
    for entry in now:
        if entry in theirs and entry not in groups:
            continue
        result += [*groups.get(entry, ()), entry]
    return [*result, *pending]


# ---- environments ------------------------------------------------------------------------------


def _is_installed(entry: str) -> bool:
    return os.path.basename(entry) in ("site-packages", "dist-packages")


def with_site_packages(path: list[str], more: list[str]) -> list[str]:
    """`more` before what is installed otherwise, after the program's own modules."""
    rest = [entry for entry in path if entry not in more]
    at = next((i for i, entry in enumerate(rest) if _is_installed(entry)), len(rest))
    return [*rest[:at], *more, *rest[at:]]
