"""Workers, zygotes, drivers and daemons are killed and stopped at random moments while all kinds of
tasks flow. What should end ends, with its value or a true reason, and nothing is left.

The seed is printed; MOBULA_SEED=<seed> replays the choices (not the moments). MOBULA_CHAOS_ROUNDS makes
it longer.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import chaos
import leftovers
import mobula as ray
import pytest
from mobula import _core, _sessions_here

pytestmark = [pytest.mark.mobula_only, pytest.mark.random]

ROUNDS = int(os.environ.get("MOBULA_CHAOS_ROUNDS", "4"))
# A test that takes longer hangs: then it shows where and ends.
HANG_SECONDS = 100 + 60 * ROUNDS


@pytest.fixture
def choose() -> Iterator[random.Random]:
    seed = int(os.environ.get("MOBULA_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}: MOBULA_SEED={seed} replays it")
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    yield random.Random(seed)
    faulthandler.cancel_dump_traceback_later()


class Killer:
    """A thread that does harm to a random process of the session, again and again."""

    def __init__(self, choose: random.Random, victims: Callable[[], list[int]]) -> None:
        self.choose = choose
        self.kills = 0
        self._victims = victims
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.choose.uniform(0.02, 0.5)):
            victims = self._victims()
            zygotes = [pid for pid in victims if is_zygote(pid)]
            # Who kills each zygote before it is ready lets nothing happen at all; and after three
            # starts in a row that failed it is said that none will succeed.
            if self.choose.random() < 0.8:
                victims = [pid for pid in victims if pid not in zygotes]
            victims = [pid for pid in victims if pid % 16 == 0 or not is_starting(pid)]
            if not victims:
                continue
            pid = self.choose.choice(victims)
            with contextlib.suppress(ProcessLookupError):
                if self.choose.random() < 0.3:
                    os.kill(pid, signal.SIGSTOP)
                    self._stop.wait(self.choose.uniform(0.0, 0.05))
                    if self.choose.random() < 0.3:
                        os.kill(pid, signal.SIGKILL)
                    os.kill(pid, signal.SIGCONT)
                else:
                    os.kill(pid, signal.SIGKILL)
                    self.kills += 1


def daemon_pid() -> int:
    (node,) = _core.nodes()
    return int(node["pid"])


def children_of(parent: int) -> list[int]:
    """The zygote and the workers are the daemon's children."""
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def is_zygote(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"zygote" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def is_starting(pid: int) -> bool:
    """Not yet a worker, or not yet a zygote, by its title."""
    with contextlib.suppress(OSError):
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"mobula::" not in title or title.startswith(b"mobula::worker")
    return True


def is_dead(directory: Path) -> bool:
    return not _sessions_here.is_alive(directory)


def test_everything_ends_whoever_of_workers_and_zygote_dies(choose: random.Random) -> None:
    ray.shutdown()
    before = leftovers.take_picture()
    ray.init(num_cpus=2, object_store_memory=256 << 20)
    daemon = daemon_pid()
    killer = Killer(random.Random(choose.random()), lambda: children_of(daemon))
    try:
        for _ in range(ROUNDS * 10):
            chaos.one_round(choose, print)
    finally:
        killer.stop()
    assert killer.kills > 0
    leftovers.wait_until(
        lambda: ray.available_resources().get("CPU") == 2, "all CPUs free", chaos.DEADLINE_SECONDS
    )
    assert ray.get([chaos.small.remote(i) for i in range(100)]) == list(range(100))
    ray.shutdown()
    leftovers.expect_nothing_new(before)


def test_a_daemon_that_is_stopped_for_a_moment_is_missed_by_nobody(choose: random.Random) -> None:
    ray.shutdown()
    before = leftovers.take_picture()
    ray.init(num_cpus=2, object_store_memory=256 << 20)
    daemon = daemon_pid()
    stop = threading.Event()

    def stop_and_go() -> None:
        moments = random.Random(choose.random())
        while not stop.wait(moments.uniform(0.0, 0.2)):
            os.kill(daemon, signal.SIGSTOP)
            stop.wait(moments.uniform(0.0, 0.3))
            os.kill(daemon, signal.SIGCONT)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        for _ in range(ROUNDS * 5):
            chaos.one_round(choose, print)
    finally:
        stop.set()
        thread.join()
        os.kill(daemon, signal.SIGCONT)
    ray.shutdown()
    leftovers.expect_nothing_new(before)


class Driver:
    """`chaos.py` as a driver of its own."""

    def __init__(self, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, chaos.__file__, str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first.startswith("daemon "), first + self.process.stdout.read()
        self.daemon = int(first.split()[1])

    def end(self) -> str:
        out, _ = self.process.communicate(timeout=HANG_SECONDS)
        return out


def test_nothing_is_left_of_a_driver_that_dies_at_any_moment(choose: random.Random) -> None:
    ray.shutdown()
    before = leftovers.take_picture()
    for _ in range(ROUNDS):
        driver = Driver(choose.randrange(1 << 32))
        how = choose.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
        delay = choose.uniform(0.0, 1.0)
        print(f"{how.name} after {delay:.3f} s")
        time.sleep(delay)  # The moment is the point.
        driver.process.send_signal(how)
        if how == signal.SIGSTOP:
            time.sleep(choose.uniform(0.0, 0.5))
            driver.process.kill()
        driver.end()
        leftovers.expect_nothing_new(before)


def test_a_driver_is_told_that_its_daemon_died_and_can_start_again(choose: random.Random) -> None:
    ray.shutdown()
    before = leftovers.take_picture()
    for _ in range(ROUNDS):
        driver = Driver(choose.randrange(1 << 32))
        delay = choose.uniform(0.0, 1.0)
        stopped_first = choose.random() < 0.3
        print(f"after {delay:.3f} s, stopped first: {stopped_first}")
        time.sleep(delay)
        if stopped_first:
            os.kill(driver.daemon, signal.SIGSTOP)
            time.sleep(choose.uniform(0.0, 0.3))
        os.kill(driver.daemon, signal.SIGKILL)
        out = driver.end()
        assert driver.process.returncode == 0, out
        assert "told: " in out and "daemon" in out and "over" in out, out
        leftovers.expect_nothing_new(before)


def test_a_session_that_is_killed_as_a_whole_leaves_nothing(choose: random.Random) -> None:
    """Driver and daemon at once: there is nobody who could clean up."""
    ray.shutdown()
    before = leftovers.take_picture()
    for _ in range(ROUNDS):
        driver = Driver(choose.randrange(1 << 32))
        time.sleep(choose.uniform(0.0, 0.5))
        both = [driver.process.pid, driver.daemon]
        choose.shuffle(both)
        for pid in both:
            os.kill(pid, signal.SIGKILL)
        driver.end()
        # But the directory, which the next session's daemon removes.
        left = leftovers.take_picture().new_since(before)
        leftovers.wait_until(
            lambda: set(leftovers.take_picture().new_since(before)) <= {"files"},
            f"only files are left; at first {left}",
        )
        for name in left.get("files", []):
            # A process that is going has lost its environment, by which the picture knows it,
            # before its locks.
            leftovers.wait_until(
                functools.partial(is_dead, Path(name)), f"nobody holds the lock of {name}"
            )
        ray.init(num_cpus=1)
        ray.shutdown()
        leftovers.expect_nothing_new(before)
