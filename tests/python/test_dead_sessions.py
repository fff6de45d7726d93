"""What a session leaves whose daemon was killed goes, also if the kernel still works on its death when
the next session starts. (test_drivers.py and test_spilling.py have what is gone by then.)"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mobula as ray
import pytest
from conftest import start
from leftovers import wait_until
from mobula import _sessions_here

pytestmark = [pytest.mark.usefixtures("no_session"), pytest.mark.mobula_only]

MIB = 1 << 20


class HeldSession:
    """The directory of a session whose lock is still held: its daemon is just being taken apart."""

    def __init__(self, folder: Path, name: str) -> None:
        self.directory = folder / name
        self.directory.mkdir(mode=0o700)
        (self.directory / "daemon.log").write_text("killed\n")
        spilled = self.directory / "spill" / "mobula-spill-abcdef"
        spilled.mkdir(parents=True, mode=0o700)
        (spilled / "00000001.values").write_bytes(bytes(1000))
        self._lock = _sessions_here.lock_new(self.directory)

    def die(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@pytest.fixture
def held(request: pytest.FixtureRequest) -> Iterator[HeldSession]:
    session = HeldSession(_sessions_here.root(), "mobula-held")
    yield session
    session.die()
    _sessions_here.remove_if_dead(session.directory)


def test_a_session_that_dies_late_is_removed_by_one_that_lives(held: HeldSession) -> None:
    start(address="local")
    assert held.directory.is_dir()
    held.die()
    wait_until(lambda: not held.directory.exists(), "its directory is gone")
    log = own_directory() / "daemon.log"
    wait_until(lambda: "its session is dead" in log.read_text(), "it is told")


def test_a_link_to_a_session_that_dies_late_goes_too(tmp_path: Path) -> None:
    session = HeldSession(tmp_path, "mobula-elsewhere")
    link = _sessions_here.root() / session.directory.name
    link.symlink_to(session.directory)
    start(address="local")
    assert session.directory.is_dir()
    session.die()
    wait_until(lambda: not session.directory.exists() and not link.is_symlink(), "both are gone")


def test_a_session_beside_one_with_a_folder_of_its_own_is_removed(
    held: HeldSession, tmp_path: Path
) -> None:
    start(address="local", _temp_dir=tmp_path)
    held.die()
    wait_until(lambda: not held.directory.exists(), "its directory is gone")


def test_spilled_values_of_a_session_that_dies_late_are_removed(tmp_path: Path) -> None:
    spilled = tmp_path / "mobula-spill-abcdef"
    spilled.mkdir(mode=0o700)
    (spilled / "00000001.values").write_bytes(bytes(MIB))
    lock = _sessions_here.lock_new(spilled)
    start(address="local", object_spilling_directory=tmp_path)
    assert spilled.is_dir()
    os.close(lock)
    wait_until(lambda: not spilled.exists(), "the spilled values are gone")
    assert len(list(tmp_path.glob("mobula-spill-*"))) == 1  # Our own.


def test_what_is_none_of_ours_stays(held: HeldSession) -> None:
    root = _sessions_here.root()
    strange = {
        "without_a_lock": root / "mobula-without-a-lock",
        "for_others": root / "mobula-for-others",
        "of_another_name": root / "nebula-12345",
    }
    for name, folder in strange.items():
        folder.mkdir(mode=0o755 if name == "for_others" else 0o700)
        if name != "without_a_lock":
            (folder / "lock").touch()
    (strange["of_another_name"] / "link").symlink_to(strange["for_others"])
    leads_away = root / "mobula-link"
    leads_away.symlink_to(strange["of_another_name"])
    try:
        start(address="local")
        held.die()
        wait_until(lambda: not held.directory.exists(), "the dead one's directory is gone")
        assert all(folder.is_dir() for folder in strange.values())
        assert leads_away.is_symlink()
    finally:
        leads_away.unlink()
        (strange["of_another_name"] / "link").unlink()
        for folder in strange.values():
            (folder / "lock").unlink(missing_ok=True)
            folder.rmdir()


NEIGHBOUR = """
import sys
import mobula as ray
ray.init("local", num_cpus=1, object_spilling_directory=sys.argv[1], object_store_memory=80 << 20)
print("ready", flush=True)
sys.stdin.read()
assert ray.get(ray.remote(lambda: 7).remote()) == 7
"""


def test_sessions_that_sweep_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    spilled = tmp_path / "mobula-spill-abcdef"
    spilled.mkdir(mode=0o700)
    for number in range(3000):
        (spilled / f"{number:08}.values").touch()
    lock = _sessions_here.lock_new(spilled)
    neighbours = [
        subprocess.Popen(
            [sys.executable, "-c", NEIGHBOUR, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        for neighbour in neighbours:
            assert neighbour.stdout is not None
            assert neighbour.stdout.readline() == b"ready\n"
        os.close(lock)
        wait_until(lambda: not spilled.exists(), "the dead one's values are gone")
        assert len(list(tmp_path.glob("mobula-spill-*"))) == 2
        for neighbour in neighbours:
            neighbour.communicate(timeout=60)
            assert neighbour.returncode == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.communicate()


KILLED = """
import os, signal, sys
import mobula as ray
import numpy as np

ray.init("local", num_cpus=1, object_store_memory=600 << 20, object_spilling_directory=sys.argv[1])
refs = [ray.put(np.full(100 << 20, i, dtype="u1")) for i in range(8)]
from mobula import _sessions_here
(record,) = _sessions_here.sessions()
print(record.directory, flush=True)
os.kill(record.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_daemon_killed_with_much_memory_leaves_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, timeout=120
    )
    assert ended.returncode == -signal.SIGKILL
    directory = Path(ended.stdout.decode().strip())
    assert len(list(tmp_path.glob("mobula-spill-*"))) == 1
    start(address="local", object_spilling_directory=tmp_path)
    wait_until(lambda: not directory.exists(), "the directory of the dead session is gone")
    wait_until(lambda: len(list(tmp_path.iterdir())) == 1, "what it spilled is gone")


def own_directory() -> Path:
    (record,) = _sessions_here.sessions()
    assert ray.is_initialized()
    return record.directory
