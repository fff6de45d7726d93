"""Several drivers at one daemon: each has a job of its own, and none notices how another ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import pytest
from conftest import start
from leftovers import wait_until
from mobula import _core, _sessions_here, exceptions

pytestmark = pytest.mark.mobula_only

StartScript = Callable[..., "subprocess.Popen[str]"]

# A driver that does what it is told, line by line, and answers each line.
OBEYS = """
import os, signal, sys, time
import mobula as ray
ray.init(address=sys.argv[1] if len(sys.argv) > 1 else None)

@ray.remote
def pid():
    return os.getpid()

@ray.remote
def forever():
    time.sleep(1000)

@ray.remote
def say(text):
    print(text)

@ray.remote
def evaluate(text):
    import os
    import mobula as ray
    return eval(text, locals())

def error_of(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__ + ": " + str(error)

context = ray.get_runtime_context()
print(context.gcs_address, flush=True)
for line in sys.stdin:
    # In one write: what workers print comes in between otherwise.
    sys.stdout.write("=" + repr(eval(line)) + "\\n")
    sys.stdout.flush()
"""


class Driver:
    """Such a driver. `address` is that of its session."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self._in, self._out = process.stdin, process.stdout
        self.printed = ""  # Besides its answers.
        self.address = self._out.readline().strip()

    def eval(self, text: str) -> object:
        self._in.write(text + "\n")
        self._in.flush()
        while not (line := self._out.readline()).startswith("="):
            assert line, self.process.stderr and self.process.stderr.read()
            self.printed += line
        return eval(line[1:])

    def end(self, number: int | None = None) -> None:
        """Lets it end, or kills it."""
        if number is not None:
            self.process.send_signal(number)
        self._in.close()
        self.printed += (
            self._out.read()
        )  # Not communicate(): it knows nothing of what was read ahead.
        error = self.process.stderr.read() if self.process.stderr is not None else ""
        for pipe in (self._out, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process.stdin = self.process.stdout = self.process.stderr = None
        assert self.process.wait(60) == (0 if number is None else -number), error


StartDriver = Callable[..., Driver]


@pytest.fixture
def start_driver(start_script: StartScript) -> Iterator[StartDriver]:
    """Starts such drivers. Nothing of them, nor of this process's session, is left at the end."""
    ray.shutdown()
    before = leftovers.take_picture()

    started: list[subprocess.Popen[str]] = []

    def start_it(*arguments: str, **options: object) -> Driver:
        started.append(start_script(OBEYS, *arguments, stdin=subprocess.PIPE, **options))
        return Driver(started[-1])

    yield start_it
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
    ray.shutdown()
    leftovers.expect_nothing_new(before)


@ray.remote
def pid_of_worker() -> int:
    return os.getpid()


@ray.remote
def wait_for_ever() -> None:
    signal.pause()


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def daemon_pid() -> int:
    (node,) = _core.nodes()
    return node["pid"]


def test_two_drivers_have_a_job_each_at_one_daemon(start_driver: StartDriver) -> None:
    context = start()
    other = start_driver(context.address_info["address"])
    assert other.address == context.address_info["address"]
    mine, its = ray.get(pid_of_worker.remote()), other.eval("ray.get(pid.remote())")
    assert mine != its
    assert other.eval("ray.nodes()[0]['NodeID']") == ray.nodes()[0]["NodeID"]
    jobs = [ray.get_runtime_context().get_job_id(), other.eval("context.get_job_id()")]
    assert jobs == ["00000001", "00000002"]
    assert (
        other.eval("ray.get(evaluate.remote('ray.get_runtime_context().get_job_id()'))") == jobs[1]
    )
    names = [ray.get_runtime_context().namespace, other.eval("context.namespace")]
    assert names[0] != names[1]
    other.end()
    assert ray.get(pid_of_worker.remote()) != os.getpid()


def test_the_first_driver_leaves_and_the_second_goes_on(start_driver: StartDriver) -> None:
    first = start_driver()
    daemon = first.eval(
        "ray.nodes()[0]['NodeManagerHostname'], __import__('mobula')._core.nodes()[0]"
    )
    assert isinstance(daemon, tuple)
    pid = daemon[1]["pid"]
    ray.init(address=first.address)
    ref = ray.put(bytes(1_000_000))
    assert first.eval("ray.shutdown()") is None
    assert not is_gone(pid)
    assert ray.get(pid_of_worker.remote()) != os.getpid()
    assert len(ray.get(ref)) == 1_000_000
    ray.shutdown()
    wait_until(lambda: is_gone(pid), "the daemon ends with its last driver")
    assert not os.path.exists(first.address.removeprefix("unix:"))
    # The process that started it is still there, and can start another.
    assert first.eval("ray.init() and ray.get(pid.remote()) > 0") is True
    first.end()


@pytest.mark.parametrize("killed", ["the first", "the second"])
def test_a_killed_driver_takes_only_its_job_along(start_driver: StartDriver, killed: str) -> None:
    first = start_driver()
    second = start_driver(first.address)
    dies, lives = (first, second) if killed == "the first" else (second, first)
    orphan = dies.eval("[ray.get(pid.remote()), [forever.options(num_cpus=0).remote()]][0]")
    worker = lives.eval("ray.get(pid.remote())")
    assert isinstance(orphan, int) and isinstance(worker, int)
    dies.end(signal.SIGKILL)
    wait_until(lambda: is_gone(orphan), "the worker of the killed driver is gone")
    assert isinstance(lives.eval("ray.get(pid.remote())"), int)
    lives.end()


def test_a_killed_daemon_is_told_to_every_driver(start_driver: StartDriver) -> None:
    address = start().address_info["address"]
    other = start_driver(address)
    mine = wait_for_ever.options(num_cpus=0).remote()
    other.eval("globals().update(ref=forever.options(num_cpus=0).remote())")
    os.kill(daemon_pid(), signal.SIGKILL)
    with pytest.raises(exceptions.RayError, match="daemon"):
        ray.get(mine, timeout=60)
    assert "daemon" in str(other.eval("error_of(lambda: ray.get(ref, timeout=60))"))
    other.end()
    ray.shutdown()
    with pytest.raises(ConnectionError, match="No Mobula session lives at"):
        ray.init(address=address)


def test_who_puts_while_the_daemon_dies_is_told_so() -> None:
    start()
    daemon = daemon_pid()
    leftovers.stop_process(daemon)  # So that it never answers.
    killer = threading.Timer(0.3, os.kill, [daemon, signal.SIGKILL])
    killer.start()
    with pytest.raises(exceptions.RaySystemError, match="the node daemon is gone"):
        ray.put(bytes(50 << 20))
    killer.join()


def test_what_a_daemon_complained_of_before_its_end_is_told(start_driver: StartDriver) -> None:
    directory = start().address_info["session_dir"]
    ref = wait_for_ever.remote()
    with open(f"{directory}/daemon.log", "a") as log:  # As a failed check would.
        log.write("check failed: one == other\n")
    os.kill(daemon_pid(), signal.SIGKILL)
    with pytest.raises(exceptions.RayError, match="check failed: one == other"):
        ray.get(ref, timeout=60)


def test_workers_have_what_their_own_driver_has(start_driver: StartDriver, tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "their_module.py").write_text(f"value = {name!r}")
        folders.append(folder)
    environments = [
        {**os.environ, "WHO": name, "PYTHONPATH": str(folders[i])} for i, name in enumerate("ab")
    ]
    first = start_driver(env=environments[0], cwd=folders[0])
    second = start_driver(first.address, env=environments[1], cwd=folders[1])
    what = "os.environ['WHO'], os.getcwd(), __import__('their_module').value"
    ask = f"ray.get(evaluate.remote({what!r}))"
    assert first.eval(ask) == ("a", str(folders[0]), "one")
    assert second.eval(ask) == ("b", str(folders[1]), "two")
    first.end()
    assert second.eval(ask) == ("b", str(folders[1]), "two")
    second.end()


def test_output_reaches_its_own_driver_once_and_in_order(start_driver: StartDriver) -> None:
    first = start_driver()
    second = start_driver(first.address)
    for driver, name in ((first, "first"), (second, "second")):
        driver.eval(f"[ray.get(say.remote(f'{name} {{i}}')) for i in range(50)] and None")
    for driver, name in ((first, "first"), (second, "second")):
        driver.end()
        spoken = [line for line in driver.printed.splitlines() if line.startswith("(say")]
        of_workers: dict[str, list[int]] = {}  # By what stands in front: "(say pid=12)".
        for line in spoken:
            worker, text = line.split(") ", 1)
            assert text.startswith(name)
            of_workers.setdefault(worker, []).append(int(text.split()[1]))
        assert all(numbers == sorted(numbers) for numbers in of_workers.values())
        everything = [number for numbers in of_workers.values() for number in numbers]
        assert sorted(everything) == list(range(50)), driver.printed


def test_a_driver_with_many_tasks_does_not_keep_another_waiting(start_driver: StartDriver) -> None:
    context = start(num_cpus=1)
    other = start_driver(context.address_info["address"])

    @ray.remote
    def short() -> None:
        pass

    refs = [short.remote() for _ in range(50_000)]
    assert isinstance(other.eval("ray.get(pid.remote(), timeout=60)"), int)
    other.end()
    ray.get(refs, timeout=120)


# ---- which session ---------------------------------------------------------------------------


def test_addresses_that_are_none(start_driver: StartDriver) -> None:
    for address in ("nonsense", "", "unix:nonsense", "relative/path"):
        with pytest.raises(ValueError, match="Invalid address format"):
            ray.init(address=address)
    for address in ("unix:/nowhere/mobula-x", "127.0.0.1:6379", "ray://127.0.0.1:10001", "auto"):
        with pytest.raises(ConnectionError):
            ray.init(address=address)
    with pytest.raises(TypeError):
        ray.init(address=5)  # type: ignore[arg-type]


def test_auto_joins_what_there_is(start_driver: StartDriver) -> None:
    first = start_driver()
    assert ray.init(address="auto").address_info["address"] == first.address
    ray.shutdown()
    assert start(address="local").address_info["address"] != first.address
    ray.shutdown()
    assert start().address_info["address"] != first.address  # A program's session is its own.
    first.end()


def test_the_environment_says_which_session(
    start_driver: StartDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start_driver()
    monkeypatch.setenv("MOBULA_ADDRESS", first.address)
    for address in (None, "auto"):
        assert ray.init(address=address).address_info["address"] == first.address
        ray.shutdown()
    assert start(address="local").address_info["address"] != first.address
    ray.shutdown()
    with pytest.raises(ValueError, match="num_cpus"):
        ray.init(num_cpus=3)
    first.end()
    with pytest.raises(ConnectionError):
        ray.init()
    monkeypatch.delenv("MOBULA_ADDRESS")
    monkeypatch.setenv("RAY_ADDRESS", first.address)  # Only for programs that say `import ray`.
    assert start().address_info["address"] != first.address


def test_who_joins_cannot_say_what_the_node_has(start_driver: StartDriver) -> None:
    address = start().address_info["address"]
    other = start_driver(address)
    other.eval("ray.shutdown()")
    for option in (
        "num_cpus=1",
        "num_gpus=1",
        "resources={'x': 1}",
        "labels={'x': 'y'}",
        "object_store_memory=100_000_000",
    ):
        said = str(other.eval(f"error_of(lambda: ray.init(address={address!r}, {option}))"))
        assert said.startswith("ValueError: When connecting to an existing cluster")
        assert option.split("=")[0] in said
    other.end()


# ---- who is let in ---------------------------------------------------------------------------


def the_record() -> _sessions_here.SessionRecord:
    (record,) = _sessions_here.sessions()
    return record


TRIES_TO_JOIN = """
import sys
from mobula import _core, _sessions_here
(record,) = _sessions_here.sessions()
try:
    _core.connect(_sessions_here.connect(record).detach(), {"is_driver": True, "token": sys.argv[1]})
except ConnectionError as error:
    print(error)
"""


@pytest.mark.parametrize("token", ["", "0" * 64, "00"])
def test_who_does_not_know_the_token_is_refused(
    start_driver: StartDriver, start_script: StartScript, token: str
) -> None:
    start()
    out, _ = start_script(TRIES_TO_JOIN, token).communicate(timeout=60)
    assert "wrong token" in out
    assert ray.get(pid_of_worker.remote()) != os.getpid()


def test_only_this_user_can_reach_the_session(start_driver: StartDriver) -> None:
    start()
    directory = the_record().directory
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "session.json").stat().st_mode & 0o777 == 0o600
    assert (directory / "daemon.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_shown_out_even_if_the_door_is_open(start_driver: StartDriver) -> None:
    start()
    directory = the_record().directory
    os.chmod(directory.parent, 0o755)
    os.chmod(directory, 0o755)
    os.chmod(directory / "daemon.sock", 0o666)
    code = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.connect(sys.argv[1])\n"
        "s.settimeout(60)\n"
        "try:\n    print('closed' if not s.recv(100) else 'open')\n"
        "except ConnectionError:\n    print('closed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory / "daemon.sock")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "closed\n", done.stderr
    assert ray.get(pid_of_worker.remote()) != os.getpid()


def test_strangers_that_say_nonsense_or_nothing_disturb_nobody(start_driver: StartDriver) -> None:
    start()
    record = the_record()
    silent = [_sessions_here.connect(record) for _ in range(20)]
    for text in (b"nonsense", b"\0" * 1000, bytes(range(256))):
        with _sessions_here.connect(record) as talker:
            talker.settimeout(60)
            talker.send(text)
            while True:  # It may say why, and closes.
                try:
                    if not talker.recv(1 << 17):
                        break
                except ConnectionResetError:
                    break
    assert ray.get([pid_of_worker.remote() for _ in range(10)])
    for connection in silent:
        connection.close()


def test_an_observer_only_asks(start_driver: StartDriver, start_script: StartScript) -> None:
    start()
    code = """
import mobula as ray
from mobula import _cli, _sessions_here
(record,) = _sessions_here.sessions()
with _cli.observing_session(record):
    print(ray.cluster_resources()["CPU"], len(ray.nodes()))
    try:
        ray.get(ray.remote(lambda: 1).remote(), timeout=60)
    except ray.exceptions.RayError as error:
        print("refused")
"""
    out, error = start_script(code).communicate(timeout=60)
    assert out.split() == ["2.0", "1", "refused"], error
    assert ray.get(pid_of_worker.remote()) != os.getpid()


# ---- what the dead leave ---------------------------------------------------------------------


def test_a_new_session_removes_what_dead_ones_left(start_driver: StartDriver) -> None:
    first = start_driver()
    directory = Path(first.address.removeprefix("unix:"))
    (record,) = _sessions_here.sessions()
    first.process.send_signal(signal.SIGSTOP)  # It cannot clean up after its daemon.
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: not _sessions_here.is_alive(directory), "the daemon is dead")
    first.process.kill()
    first.process.communicate()
    assert directory.is_dir()
    foreign = directory.parent / "mobula-of-somebody"
    foreign.mkdir(mode=0o755)  # Others can write there or look into it: none of ours.
    start(address="local")
    assert not directory.exists()
    assert foreign.is_dir()
    foreign.rmdir()


@pytest.mark.parametrize("removed", range(4))
def test_what_was_removed_in_part_is_swept(monkeypatch: pytest.MonkeyPatch, removed: int) -> None:
    """Whoever removes a dead session's directory may be killed after any file."""
    directory = _sessions_here.root() / "mobula-dead"
    directory.mkdir(mode=0o700)
    for name in ("daemon.log", "a", "z"):
        (directory / name).touch()
    os.close(_sessions_here.lock_new(directory))
    unlink, left = os.unlink, iter(range(removed))

    def unlink_some(*args: Any, **kwargs: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        unlink(*args, **kwargs)

    monkeypatch.setattr(os, "unlink", unlink_some)
    with pytest.raises(KeyboardInterrupt):
        _sessions_here.remove_if_dead(directory)
    monkeypatch.undo()
    assert directory.is_dir()
    _sessions_here.sweep()
    assert not directory.exists()


def test_a_living_session_is_not_swept(start_driver: StartDriver) -> None:
    first = start_driver()
    (record,) = _sessions_here.sessions()
    leftovers.stop_process(record.pid)
    try:
        _sessions_here.sweep()
        assert record.directory.is_dir()
    finally:
        os.kill(record.pid, signal.SIGCONT)
    assert isinstance(first.eval("ray.get(pid.remote())"), int)
    first.end()


def test_a_long_temp_dir_can_be_joined(start_driver: StartDriver, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    context = start(_temp_dir=str(folder))
    assert context.address_info["session_dir"].startswith(str(folder))
    other = start_driver(context.address_info["address"])
    assert isinstance(other.eval("ray.get(pid.remote())"), int)
    other.end()
    ray.shutdown()
    assert list(folder.iterdir()) == []


def test_a_forked_child_of_a_joined_driver_does_nothing_at_its_exit(
    start_driver: StartDriver,
) -> None:
    first = start_driver()
    ray.init(address=first.address)
    child = os.fork()
    if child == 0:
        ray.shutdown()
        os._exit(0)
    os.waitpid(child, 0)
    assert ray.get(pid_of_worker.remote()) != os.getpid()
    ray.shutdown()
    assert isinstance(first.eval("ray.get(pid.remote())"), int)
    first.end()
