"""What a task leaves behind in its worker: the next one finds streams, timers and signals as they
were; other things a worker keeps."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import mobula as ray
import pytest
from conftest import start
from leftovers import wait_until

pytestmark = pytest.mark.mobula_only

RunScript = Callable[..., subprocess.CompletedProcess[str]]

kept: list[Any] = []  # In the worker.


@pytest.fixture(scope="module", autouse=True)
def one_worker() -> Iterator[None]:
    ray.shutdown()
    start(num_cpus=1, log_to_driver=False)
    yield
    ray.shutdown()


def state() -> dict[str, Any]:
    """What a task sees of its process."""
    print("seen")
    print("seen", file=sys.stderr)
    return {
        "pid": os.getpid(),
        "descriptors": [(os.fstat(i).st_dev, os.fstat(i).st_ino) for i in range(3)],
        "streams": [
            (type(s).__name__, s.closed, s.encoding, s.errors, s.line_buffering, s.fileno())
            for s in (sys.stdout, sys.stderr)
        ],
        "input": (sys.stdin.closed, sys.stdin.fileno(), sys.stdin.read()),
        "originals": (sys.__stdout__ is sys.stdout, sys.__stderr__ is sys.stderr),
        "own attributes": [sorted(vars(s)) for s in (sys.stdout, sys.stderr)],
        "timers": [
            signal.getitimer(i)[0] > 0
            for i in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
        ],
        "handlers": {
            str(number): str(signal.getsignal(number))
            for number in sorted(signal.valid_signals())
            if number != signal.SIGUSR1
        },
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "traced": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "wakeup": signal.set_wakeup_fd(-1),
        "dumps crashes": faulthandler.is_enabled(),
        "limits": [
            resource.getrlimit(what)[0]
            for what in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
        ],
        "a directory": os.path.isdir(os.getcwd()),
        "mobula": "mobula" in sys.modules,
    }


def tracer(*arguments: Any) -> None:
    return None


# ---- what a task may leave -----------------------------------------------------------------------


def wraps_the_buffer() -> None:
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    out.write("via wrapper\n")


def keeps_a_wrapper_of_the_buffer() -> None:
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="latin-1")


def closes_stdout() -> None:
    sys.stdout.close()


def closes_the_buffers() -> None:
    sys.stdout.buffer.close()
    sys.stderr.buffer.raw.close()  # type: ignore[attr-defined]


def detaches() -> None:
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="latin-1")  # type: ignore[union-attr]
    sys.stderr.buffer.detach()  # type: ignore[attr-defined]


def replaces_stdout() -> None:
    sys.stdout = io.StringIO()


def has_no_stdout() -> None:
    sys.stdout = None  # type: ignore[assignment]
    del sys.stderr


def stays_in_a_redirection() -> None:
    kept.append(contextlib.redirect_stdout(io.StringIO()))
    kept[-1].__enter__()


def replaces_the_originals() -> None:
    sys.__stdout__ = sys.__stderr__ = None  # type: ignore[misc]


def reconfigures() -> None:
    sys.stdout.reconfigure(encoding="ascii", errors="strict", line_buffering=False)  # type: ignore
    sys.stdout.write("unfinished")


def patches_write() -> None:
    sys.stdout.write = len  # type: ignore
    sys.stderr.flush = lambda: 1 / 0  # type: ignore


def closes_descriptors() -> None:
    os.close(0)
    os.close(1)
    os.close(2)


def leads_descriptors_elsewhere() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def opens_a_file_as_stdout() -> None:
    os.close(1)
    kept.append(tempfile.TemporaryFile())  # noqa: SIM115
    assert kept[-1].fileno() == 1


def closes_by_an_own_file() -> None:
    with open(2, "w") as own:
        own.write("by the way\n")


def closes_stdin() -> None:
    sys.stdin.close()


def has_no_stdin() -> None:
    sys.stdin = io.StringIO("left behind")


def leaves_an_alarm() -> None:
    signal.alarm(1)


def leaves_a_timer_with_a_handler() -> None:
    def handler(number: int, frame: object) -> None:
        raise TimeoutError("of the task before")

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)


def leaves_timers_of_the_cpu() -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.2)
    signal.setitimer(signal.ITIMER_PROF, 0.2)


def ignores_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def handles_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGPROF):
        signal.signal(number, tracer)


def ignores_the_ends_of_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def dies_of_broken_pipes() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def takes_the_signal_of_cancelling() -> None:
    signal.signal(signal.SIGRTMIN + 5, signal.SIG_IGN)


def blocks_all_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())


def traces() -> None:
    sys.settrace(tracer)


def profiles() -> None:
    sys.setprofile(tracer)


def traces_threads() -> None:
    threading.settrace(tracer)
    threading.setprofile(tracer)


def wakes_a_descriptor() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    os.close(reading)


def dumps_later() -> None:
    faulthandler.dump_traceback_later(0.3, exit=True)


def dumps_no_crashes() -> None:
    faulthandler.disable()
    sys.stdout.flush()


def lowers_limits() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def removes_its_directory() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)


def forgets_mobula() -> None:
    del sys.modules["mobula"]


LEAVINGS = [
    wraps_the_buffer,
    keeps_a_wrapper_of_the_buffer,
    closes_stdout,
    closes_the_buffers,
    detaches,
    replaces_stdout,
    has_no_stdout,
    stays_in_a_redirection,
    replaces_the_originals,
    reconfigures,
    patches_write,
    closes_descriptors,
    leads_descriptors_elsewhere,
    opens_a_file_as_stdout,
    closes_by_an_own_file,
    closes_stdin,
    has_no_stdin,
    leaves_an_alarm,
    leaves_a_timer_with_a_handler,
    leaves_timers_of_the_cpu,
    ignores_ctrl_c,
    handles_signals,
    ignores_the_ends_of_children,
    dies_of_broken_pipes,
    takes_the_signal_of_cancelling,
    blocks_all_signals,
    traces,
    profiles,
    traces_threads,
    wakes_a_descriptor,
    dumps_later,
    dumps_no_crashes,
    lowers_limits,
    removes_its_directory,
    forgets_mobula,
]


def _run(function: Callable[[], Any], lasts: float) -> Any:
    if lasts:
        time.sleep(lasts)
    return function()


run = ray.remote(max_retries=0)(_run)


@pytest.mark.parametrize("leaves", LEAVINGS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("when", ["later", "at once"])
def test_the_next_task_finds_the_process_as_it_was(leaves: Callable[[], None], when: str) -> None:
    before = ray.get(run.remote(state, 0))
    if when == "later":  # A look is due after a function's first task.
        ray.get(ray.remote(max_retries=0)(leaves).remote())
        after = ray.get(run.remote(state, 0))
    else:  # It waits in the worker. A look is due after a millisecond.
        left, seen = run.remote(leaves, 0.002), run.remote(state, 0)
        ray.get(left)
        after = ray.get(seen)
    assert after == before


def test_what_is_left_does_not_reach_later_tasks() -> None:
    """Alarms and the like strike after a while: the worker lives on."""
    pid = ray.get(run.remote(os.getpid, 0))
    for leaves in (leaves_an_alarm, leaves_timers_of_the_cpu, dumps_later):
        ray.get(run.remote(leaves, 0.002))
    assert ray.get(run.remote(os.getpid, 1.3)) == pid


def test_a_task_can_be_cancelled_after_one_that_took_its_signal(tmp_path: Any) -> None:
    ray.get(run.remote(takes_the_signal_of_cancelling, 0.002))
    gate = tmp_path / "gate"

    def sleeps() -> None:
        gate.touch()
        time.sleep(100)

    ref = run.remote(sleeps, 0)
    wait_until(gate.exists, "the task runs")
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=30)


def test_a_worker_whose_limit_cannot_be_raised_again_is_replaced() -> None:
    def lowers_for_good() -> int:
        resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))
        return os.getpid()

    pid = ray.get(run.remote(lowers_for_good, 0.002))
    assert ray.get(run.remote(lambda: resource.getrlimit(resource.RLIMIT_CPU)[0], 0)) != 1000
    # Who may raise it again does.
    assert (ray.get(run.remote(os.getpid, 0)) == pid) == may_raise_limits()


def may_raise_limits() -> bool:
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> 24 & 1)  # CAP_SYS_RESOURCE


def write_to_nobody() -> None:
    """A full pipe, and more to write into it, when the stream is flushed or dropped."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(1 << 16))
    os.set_blocking(writing, True)
    kept.append(reading)
    sys.stdout = open(writing, "w")  # noqa: SIM115
    print("for nobody")


def test_a_stream_that_nobody_reads_holds_nothing_up() -> None:
    ray.get(run.remote(write_to_nobody, 0.002), timeout=60)
    ray.get(ray.remote(write_to_nobody).remote(), timeout=60)
    assert ray.get(run.remote(lambda: sys.stdout.fileno(), 0), timeout=60) == 1


def write_to_who_reads() -> None:
    reading, writing = os.pipe()
    sys.stdout = open(writing, "w")  # noqa: SIM115
    kept.extend((reading, sys.stdout))
    print("read")


def read_it() -> bytes:
    return os.read(kept[-2], 100)


def test_what_a_stream_of_a_task_holds_is_written_to_who_reads() -> None:
    ray.get(run.remote(write_to_who_reads, 0.002))
    assert ray.get(run.remote(read_it, 0), timeout=60) == b"read\n"


def test_what_a_worker_keeps() -> None:
    """As in Ray: what a library sets when it is imported is there for all tasks."""

    def sets(directory: str) -> None:
        os.environ["LEFT"] = "here"
        os.chdir(directory)
        os.umask(0o027)
        sys.setrecursionlimit(2345)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        sys.excepthook = tracer
        warnings.simplefilter("error", ImportWarning)
        gc.disable()
        sys.modules["left_here"] = sys
        kept.append("left")

    def sees() -> list[Any]:
        found = [
            os.environ.pop("LEFT"),
            os.getcwd(),
            os.umask(0o022),
            sys.getrecursionlimit(),
            signal.signal(signal.SIGUSR1, signal.SIG_DFL),
            sys.excepthook is tracer,
            warnings.filters.pop(0)[0],  # type: ignore[attr-defined]
            gc.isenabled(),
            sys.modules.pop("left_here") is sys,
        ]
        gc.enable()
        sys.excepthook = sys.__excepthook__
        sys.setrecursionlimit(1000)
        return found

    with tempfile.TemporaryDirectory() as directory:
        ray.get(run.remote(lambda: sets(directory), 0))
        found = ray.get(run.remote(sees, 0))
    assert found == ["here", directory, 0o027, 2345, signal.SIG_IGN, True, "error", False, True]


def test_an_actor_keeps_what_it_has_set() -> None:
    @ray.remote
    class Redirects:
        def __init__(self) -> None:
            self.stream = sys.stdout = io.StringIO()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.setitimer(signal.ITIMER_REAL, 1000)

        def say(self) -> None:
            print("said")

        def found(self) -> list[Any]:
            is_on = signal.setitimer(signal.ITIMER_REAL, 0)[0] > 0
            return [self.stream.getvalue(), signal.getsignal(signal.SIGINT), is_on]

    actor = Redirects.remote()
    ray.get(actor.say.remote())
    assert ray.get(actor.found.remote()) == ["said\n", signal.SIG_IGN, True]
    ray.kill(actor)


def test_an_actor_that_closes_its_streams_can_go_on() -> None:
    @ray.remote
    class Closes:
        def closes(self) -> None:
            wraps_the_buffer()
            sys.stderr.close()
            os.close(1)

        def opens(self) -> int:
            with tempfile.TemporaryFile() as file:
                print("goes on")
                print("goes on", file=sys.stderr)
                return file.fileno()

    actor = Closes.remote()
    ray.get(actor.closes.remote())
    assert ray.get(actor.opens.remote()) > 2
    ray.kill(actor)


def test_lines_come_whatever_tasks_before_have_done(run_script: RunScript) -> None:
    done = run_script(
        """
import io, os, sys
import mobula as ray

ray.init(num_cpus=1)

@ray.remote
def wraps():
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    out.write("via wrapper\\n")

@ray.remote
def redirects():
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="latin-1")
    print("redirected \\xe4", end="")

@ray.remote
def closes():
    os.close(1)
    os.close(2)

@ray.remote
def innocent(i):
    print("innocent", i)
    print("innocent", i, file=sys.stderr)

for i, leaves in enumerate([wraps, redirects, closes]):
    ray.get([leaves.remote(), innocent.remote(i)])
    ray.get(innocent.remote(i))
ray.shutdown()
"""
    )
    lines = [
        line.replace(line[line.index(" pid=") : line.index(")")], "")
        for line in done.stdout.splitlines()
    ]
    assert lines == [
        "(wraps) via wrapper",
        "(innocent) innocent 0",
        "(innocent) innocent 0",
        "(redirects) redirected \N{REPLACEMENT CHARACTER}",
        "(innocent) innocent 1",
        "(innocent) innocent 1",
        "(innocent) innocent 2",
        "(innocent) innocent 2",
    ]
    assert done.stderr.count("innocent)") + done.stderr.count("(innocent") == 6
