"""Processes: what is left when a driver ends in any way, signals, stopped daemons, hogs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import leftovers
import meeting
import mobula as ray
import pytest
from conftest import start
from leftovers import wait_until
from mobula import exceptions

pytestmark = pytest.mark.mobula_only

StartScript = Callable[..., "subprocess.Popen[str]"]

# A driver that has made all there is: workers, nested tasks, objects in the store.
BUSY = """
import os, signal, sys, time
import mobula as ray
ray.init(num_cpus=2, object_store_memory=200 << 20)
print(ray.init(ignore_reinit_error=True).address_info["session_dir"], flush=True)

@ray.remote
def inner(x):
    return x

@ray.remote
def outer(data):
    return ray.get(inner.remote(data))[:1], ray.put(bytes(3_000_000))

@ray.remote
def forever():
    time.sleep(1000)

data = ray.put(bytes(5_000_000))
results = ray.get([outer.remote(data) for _ in range(4)])
running = [forever.remote() for _ in range(3)]
"""


@pytest.fixture
def before() -> Iterator[leftovers.Picture]:
    ray.shutdown()
    yield leftovers.take_picture()
    ray.shutdown()


def end_and_look(
    process: subprocess.Popen[str], before: leftovers.Picture, number: int | None = None
) -> tuple[str, str]:
    """Waits for the driver to be busy, ends it, and expects that nothing of it is left."""
    assert process.stdout is not None
    session = process.stdout.readline().strip()
    assert os.path.isdir(session)
    assert process.stdout.readline() == "ready\n"
    if number is not None:
        os.kill(process.pid, number)
    out, error = process.communicate(timeout=60)
    leftovers.expect_nothing_new(before)
    wait_until(lambda: not os.path.exists(session), f"{session} is gone")
    return out, error


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGABRT])
def test_a_driver_that_a_signal_ends_leaves_nothing(
    start_script: StartScript, before: leftovers.Picture, number: int
) -> None:
    process = start_script(BUSY + "print('ready', flush=True)\nray.get(running)\n")
    end_and_look(process, before, number)
    assert process.returncode == -number


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("", 0),
        ("ray.shutdown()", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError", 1),
        ("os._exit(4)", 4),
        ("os.abort()", -signal.SIGABRT),
        ("os.execv('/bin/true', ['true'])", 0),
        (
            "import threading; threading.Thread(target=ray.get, args=(running,), daemon=True).start()",
            0,
        ),
    ],
)
def test_a_driver_that_ends_by_itself_leaves_nothing(
    start_script: StartScript, before: leftovers.Picture, ending: str, status: int
) -> None:
    process = start_script(BUSY + f"print('ready', flush=True)\n{ending}\n")
    _, error = end_and_look(process, before)
    assert process.returncode == status, error


def test_processes_that_a_task_started_end_with_it(
    start_script: StartScript, before: leftovers.Picture, tmp_path: Path
) -> None:
    text = """
@ray.remote(num_cpus=0)
def family(folder):
    import subprocess
    subprocess.Popen(["sleep", "1000"])
    if os.fork() == 0:
        time.sleep(1000)
    open(folder + "/started", "w").close()
    time.sleep(1000)

more = family.remote(sys.argv[1])
while not os.path.exists(sys.argv[1] + "/started"):
    time.sleep(0.01)
print("ready", flush=True)
ray.get(more)
"""
    process = start_script(BUSY + text, str(tmp_path))
    end_and_look(process, before, signal.SIGKILL)


def test_ctrl_c_ends_a_get_and_the_session_goes_on(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    text = """
try:
    print("ready", flush=True)
    ray.get(running)
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert ray.get(inner.options(num_cpus=0).remote(5)) == 5
try:
    os.kill(os.getpid(), signal.SIGINT)
    ray.wait(running, num_returns=3)
except KeyboardInterrupt:
    print("again", flush=True)
"""
    process = start_script(BUSY + text)
    out, _ = end_and_look(process, before, signal.SIGINT)
    assert out.split() == ["interrupted", "again"]
    assert process.returncode == 0


def test_a_ctrl_c_on_the_terminal_reaches_no_worker(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    """A terminal sends SIGINT to the whole process group of the driver."""
    text = """
@ray.remote(num_cpus=0)
def mine():
    signal.signal(signal.SIGINT, lambda *_: os._exit(1))
    time.sleep(0.5)
    return "undisturbed"

ref = mine.options(max_retries=0).remote()
os.setpgid(0, 0)
try:
    print("ready", flush=True)
    ray.get(running)
except KeyboardInterrupt:
    print(ray.get(ref), flush=True)
"""
    process = start_script(BUSY + text)
    assert process.stdout is not None
    session = process.stdout.readline().strip()
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert out == "undisturbed\n"
    leftovers.expect_nothing_new(before)
    assert not os.path.exists(session)


def test_a_forked_child_of_a_driver_does_nothing_at_its_exit(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    text = """
child = os.fork()
if child == 0:
    assert not ray.is_initialized()
    try:
        ray.put(1)
        print("worked", flush=True)
    except RuntimeError as error:
        pass
    del data, results, running
    ray.shutdown()
    sys.exit(9)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 9
assert ray.get(inner.options(num_cpus=0).remote(5)) == 5
assert len(ray.get(data)) == 5_000_000
print("ready", flush=True)
"""
    process = start_script(BUSY + text)
    _, error = end_and_look(process, before)
    assert process.returncode == 0, error


def test_multiprocessing_beside_a_session(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    text = """
import multiprocessing

for method in ("fork", "spawn"):
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
assert ray.get(inner.options(num_cpus=0).remote(5)) == 5
print("ready", flush=True)
"""
    body = "".join(f"    {line}\n" for line in (BUSY + text).splitlines())
    process = start_script(f"if __name__ == '__main__':\n{body}")
    _, error = end_and_look(process, before)
    assert process.returncode == 0, error


def test_a_daemon_that_dies_is_reported(before: leftovers.Picture) -> None:
    start()

    @ray.remote
    def hang() -> None:
        signal.pause()

    ref = hang.remote()
    os.kill(daemon_pid(), signal.SIGKILL)
    with pytest.raises(exceptions.RayError):
        ray.get(ref)
    with pytest.raises(exceptions.RayError):
        ray.get(hang.remote())
    ray.shutdown()
    leftovers.expect_nothing_new(before)
    start()
    assert ray.get(ray.remote(lambda: 1).remote()) == 1


# ---- not on the path of a task --------------------------------------------------------------


def daemon_pid() -> int:
    from mobula import _core

    (node,) = _core.nodes()
    return node["pid"]


@pytest.fixture
def session(before: leftovers.Picture) -> Iterator[None]:
    start(num_cpus=2)
    yield
    ray.shutdown()
    leftovers.expect_nothing_new(before)


@ray.remote
def add(x: int) -> int:
    return x + 1


def test_100000_tasks_complete_while_the_daemon_is_stopped(session: None) -> None:
    pid = daemon_pid()
    assert ray.get([add.remote(i) for i in range(2000)]) == list(range(1, 2001))
    # Submitted before the stop, so that the leases cannot go back to the daemon in between.
    refs = [add.remote(i) for i in range(1000)]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: is_stopped(pid), "the daemon is stopped")
        for _ in range(99):
            refs += [add.remote(i) for i in range(1000)]
        total = sum(ray.get(refs, timeout=120))
        assert is_stopped(pid)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert total == 100 * sum(range(1, 1001))


def is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat[stat.rindex(")") + 2] == "T"


HOGS = {
    "sleeps": "import time; time.sleep(1000)",
    "computes": "while True: pass",
    "holds the GIL in C": "import ctypes; ctypes.PyDLL(None).pause()",
}


@pytest.mark.parametrize("how", HOGS.values(), ids=HOGS)
def test_a_slow_task_delays_no_other(session: None, how: str) -> None:
    """The slow one does not end before the test: whoever is queued behind it must get away."""

    @ray.remote
    def maybe_slow(i: int, is_slow: bool) -> int:
        if is_slow:
            exec(how)
        return i

    ray.get([maybe_slow.remote(i, False) for i in range(500)])
    refs = [maybe_slow.remote(i, i == 500) for i in range(1000)]
    slow = refs.pop(500)
    assert ray.get(refs, timeout=60) == [i for i in range(1000) if i != 500]
    assert ray.wait([slow], timeout=0) == ([], [slow])


def test_a_stopped_worker_delays_only_its_own_task(session: None, tmp_path: Path) -> None:
    @ray.remote
    def stop_yourself() -> int:
        os.kill(os.getpid(), signal.SIGSTOP)
        return os.getpid()

    ref = stop_yourself.remote()
    assert ray.get([add.remote(i) for i in range(1000)], timeout=60) == list(range(1, 1001))
    stopped = [pid for pid in leftovers.marked_processes() if is_stopped(pid)]
    assert len(stopped) == 1
    os.kill(stopped[0], signal.SIGCONT)
    assert ray.get(ref, timeout=60) == stopped[0]


def test_workers_are_processes_of_their_own_session(session: None) -> None:
    @ray.remote
    def who() -> tuple[int, int, int]:
        return os.getpid(), os.getsid(0), os.getpgid(0)

    pid, its_session, group = ray.get(who.remote())
    assert pid == its_session == group


def test_tasks_complete_under_a_small_limit_of_descriptors(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    text = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
import mobula as ray
ray.init(num_cpus=2, object_store_memory=300 << 20)
refs = [ray.put(bytes(200_000)) for _ in range(1200)]
assert all(len(value) == 200_000 for value in ray.get(refs))

@ray.remote
def size(value):
    return len(value)

assert ray.get([size.remote(ref) for ref in refs]) == [200_000] * 1200
"""
    process = start_script(text)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    leftovers.expect_nothing_new(before)


def test_a_signal_while_the_session_starts(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    for _ in range(3):
        process = start_script(
            "print('now', flush=True)\nimport mobula\nmobula.init()\nwhile 1: pass"
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        wait_until(lambda: len(leftovers.marked_processes()) > 2, "more processes")
        process.kill()
        process.communicate()
        leftovers.expect_nothing_new(before)


def test_meeting_is_importable_in_workers(session: None, tmp_path: Path) -> None:
    """Modules that the driver found on its sys.path are found by its workers."""
    assert ray.get(ray.remote(meeting.square).remote(4)) == 16
