"""What a driver may leave behind: one picture of it, to be taken before and after and compared.

Every process that the tests start carries a mark in its environment (processes inherit it), so a
picture shows what this test run made and nothing that others run on the machine.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

MARK_VARIABLE = "MOBULA_TEST_RUN"
DEADLINE_SECONDS = 30.0


def mark_this_process() -> None:
    """Call once, before anything is started. The mark of an outer run stays. Sessions get a folder of
    their own to put their directories into."""
    if MARK_VARIABLE not in os.environ:
        os.environ[MARK_VARIABLE] = uuid.uuid4().hex
        folder = tempfile.mkdtemp(prefix="tests-of-sessions-")
        os.environ["XDG_RUNTIME_DIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def heed_interrupts() -> None:
    """Call once, before anything is started. A shell starts what runs in its background without
    SIGINT and SIGQUIT, programs pass that on to those they start, and tests send these signals."""
    for number, default in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


def wait_until(
    condition: Callable[[], object], what: str, deadline: float = DEADLINE_SECONDS
) -> None:
    """Returns once `condition()` is true; fails after a deadline that only a bug reaches."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"after {deadline} s still not: {what}")
        time.sleep(0.02)


def stop_process(pid: int) -> None:
    """Returns once all its threads stand: the signal alone leaves them a moment."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    wait_until(
        lambda: all(") T " in (thread / "stat").read_text() for thread in threads.iterdir()),
        f"process {pid} stands",
    )


@dataclasses.dataclass(frozen=True)
class Picture:
    """Everything that could be left behind, as names for people."""

    processes: frozenset[str]
    descriptors: tuple[str, ...]  # Of this process, sorted, without numbers.
    memfds: tuple[str, ...]  # Descriptors and mappings of shared memory, of this process and ours.
    files: frozenset[str]  # Session directories and /dev/shm.
    cgroups: frozenset[str]

    def new_since(self, before: Picture) -> dict[str, list[str]]:
        """What is here and was not there; empty if all is well."""
        found = {
            "processes": sorted(self.processes - before.processes),
            "descriptors": _more(self.descriptors, before.descriptors),
            "memfds": _more(self.memfds, before.memfds),
            "files": sorted(self.files - before.files),
            "cgroups": sorted(self.cgroups - before.cgroups),
        }
        return {kind: names for kind, names in found.items() if names}


def take_picture() -> Picture:
    return Picture(
        processes=frozenset(_describe(pid) for pid in marked_processes() if _is_other(pid)),
        descriptors=tuple(sorted(_descriptors(os.getpid()))),
        memfds=tuple(sorted(_memfds())),
        files=frozenset(_files()),
        cgroups=frozenset(_cgroups()),
    )


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Fails if the block leaves anything, a moment granted to processes that are just going."""
    before = take_picture()
    yield
    expect_nothing_new(before)


def expect_nothing_new(before: Picture) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while True:
        left = take_picture().new_since(before)
        if not left:
            return
        if time.monotonic() > end:
            raise AssertionError(f"left behind: {left}")
        time.sleep(0.02)


def marked_processes() -> list[int]:
    """All processes with our mark, this one included; zombies have no environment and count if
    their parent is ours."""
    mark = f"{MARK_VARIABLE}={os.environ[MARK_VARIABLE]}".encode()
    marked: list[int] = []
    unknown: list[tuple[int, int]] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        environment = _read(f"/proc/{pid}/environ")
        if environment is not None and mark in environment.split(b"\0"):
            marked.append(pid)
        elif not environment:
            unknown.append((pid, _parent(pid)))
    if os.getpid() not in marked:
        marked.append(os.getpid())  # Marked after it was started.
    marked.extend(pid for pid, parent in unknown if parent in marked)
    return marked


def _is_other(pid: int) -> bool:
    """Not this process, nor one that it runs inside of."""
    ancestor = os.getpid()
    while ancestor > 1:
        if pid == ancestor:
            return False
        ancestor = _parent(ancestor)
    return True


def _describe(pid: int) -> str:
    command = (_read(f"/proc/{pid}/cmdline") or b"").replace(b"\0", b" ").decode(errors="replace")
    return f"{pid} {command.strip() or '(defunct)'}"


def _parent(pid: int) -> int:
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[1])


def _descriptors(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    for number in _list(folder):
        try:
            target = os.readlink(f"{folder}/{number}")
        except OSError:
            continue
        if target.startswith(f"/proc/{pid}/fd"):
            continue  # The descriptor by which we look.
        yield target.split(":[")[0] if target.startswith(("socket:", "pipe:")) else target


def _memfds() -> Iterator[str]:
    for pid in marked_processes():
        if _is_other(pid) or pid == os.getpid():
            yield from (name for name in _descriptors(pid) if name.startswith("/memfd:"))
            for line in (_read(f"/proc/{pid}/maps") or b"").decode().splitlines():
                if "/memfd:" in line:
                    yield "mapping of /memfd:" + line.split("/memfd:", 1)[1]


def _files() -> Iterator[str]:
    for folder in ("/dev/shm", os.environ["XDG_RUNTIME_DIR"]):
        yield from (f"{folder}/{name}" for name in _list(folder) if "mobula" in name)


def _cgroups() -> Iterator[str]:
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        yield from (str(Path(folder, name)) for name in folders if "mobula" in name)


def _more(now: tuple[str, ...], before: tuple[str, ...]) -> list[str]:
    left = list(before)
    more = []
    for name in now:
        if name in left:
            left.remove(name)
        else:
            more.append(name)
    return more


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
