"""`timeout_s`: a task that runs longer is ended and fails with TaskTimeoutError."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import pytest
from mobula import exceptions

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]

# Long enough that only a bug reaches it.
FOREVER_SECONDS = 600.0


@ray.remote
def quick(value: Any) -> Any:
    return value


@ray.remote(timeout_s=0.2)
def sleeps() -> None:
    time.sleep(FOREVER_SECONDS)


@ray.remote(timeout_s=0.2)
def keeps_the_interpreter() -> None:
    mutex = ctypes.create_string_buffer(64)  # All zeros: unlocked.
    libc = ctypes.PyDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)  # Waits for itself, whatever signals come.


def test_a_task_that_ends_in_time_returns_its_value() -> None:
    limited = quick.options(timeout_s=60)
    assert ray.get([limited.remote(i) for i in range(1000)]) == list(range(1000))


def test_a_task_that_runs_too_long_fails_and_says_so() -> None:
    with pytest.raises(exceptions.TaskTimeoutError) as caught:
        ray.get(sleeps.remote())
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, exceptions.RayError)
    assert not isinstance(caught.value, exceptions.GetTimeoutError)
    assert "sleeps" in str(caught.value)
    assert "timeout_s=0.2" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_its_python_code_cleans_up_and_its_worker_lives_on(tmp_path: Path) -> None:
    @ray.remote(num_cpus=2)
    def pid() -> int:
        return os.getpid()

    @ray.remote(num_cpus=2, timeout_s=0.2)
    def with_clean_up(path: str) -> None:
        try:
            time.sleep(FOREVER_SECONDS)
        finally:
            Path(path).write_text(str(os.getpid()))

    note = tmp_path / "note"
    with pytest.raises(exceptions.TaskTimeoutError):
        ray.get(with_clean_up.remote(str(note)))
    os.kill(int(note.read_text()), 0)


def test_c_code_that_keeps_the_interpreter_is_ended_with_its_worker() -> None:
    with pytest.raises(exceptions.TaskTimeoutError, match=r"worker \(pid \d+\) was killed"):
        ray.get(keeps_the_interpreter.remote())
    assert ray.get(quick.remote(1)) == 1


def test_a_stopped_worker_is_ended_with_its_task(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    @ray.remote(timeout_s=0.3)
    def stops_itself() -> None:
        note.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)

    with pytest.raises(exceptions.TaskTimeoutError, match=r"timeout_s=0.3.*was killed"):
        ray.get(stops_itself.remote(), timeout=60)
    leftovers.wait_until(lambda: not Path("/proc", note.read_text()).exists(), "the worker is gone")
    assert ray.get(quick.options(timeout_s=60).remote(1)) == 1


def test_a_stopped_generator_is_ended_too() -> None:
    @ray.remote(timeout_s=0.3)
    def stops_itself() -> Any:
        yield 1
        os.kill(os.getpid(), signal.SIGSTOP)
        yield 2

    items = stops_itself.remote()
    assert ray.get(next(items)) == 1
    with pytest.raises(exceptions.TaskTimeoutError):
        ray.get(next(items), timeout=60)


def test_a_worker_that_goes_on_in_time_is_left_alone(tmp_path: Path) -> None:
    note, go = tmp_path / "pid", tmp_path / "go"

    @ray.remote(timeout_s=60)
    def is_stopped_for_a_while() -> str:
        note.write_text(str(os.getpid()))
        while not go.exists():
            pass
        return "done"

    ref = is_stopped_for_a_while.remote()
    leftovers.wait_until(lambda: note.exists() and note.read_text() != "", "it runs")
    os.kill(int(note.read_text()), signal.SIGSTOP)
    with pytest.raises(exceptions.GetTimeoutError):
        ray.get(ref, timeout=1.5)
    os.kill(int(note.read_text()), signal.SIGCONT)
    go.touch()
    assert ray.get(ref, timeout=60) == "done"


def test_what_a_task_makes_of_the_interruption_does_not_count() -> None:
    @ray.remote(timeout_s=0.2)
    def returns_all_the_same() -> str:
        with contextlib.suppress(TimeoutError):
            time.sleep(FOREVER_SECONDS)
        return "all is well"

    @ray.remote(timeout_s=0.2)
    def exits() -> str:
        try:
            time.sleep(FOREVER_SECONDS)
        finally:
            raise SystemExit(3)

    @ray.remote(timeout_s=0.2)
    def goes_on() -> str:
        while True:
            try:
                time.sleep(FOREVER_SECONDS)
            except Exception:
                continue

    for function in (returns_all_the_same, exits, goes_on):
        with pytest.raises(exceptions.TaskTimeoutError):
            ray.get(function.remote())


def test_it_is_not_retried(tmp_path: Path) -> None:
    @ray.remote(timeout_s=0.2, max_retries=5, retry_exceptions=True)
    def notes(path: str) -> None:
        with open(path, "a") as file:
            file.write("x")
        time.sleep(FOREVER_SECONDS)

    note = tmp_path / "note"
    with pytest.raises(exceptions.TaskTimeoutError):
        ray.get(notes.remote(str(note)))
    assert note.read_text() == "x"


def test_an_attempt_after_a_crash_has_its_full_time(tmp_path: Path) -> None:
    @ray.remote(timeout_s=60, max_retries=1)
    def dies_once(path: str) -> str:
        if not os.path.exists(path):
            Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "second"

    assert ray.get(dies_once.remote(str(tmp_path / "note"))) == "second"


def test_time_in_the_queue_does_not_count(tmp_path: Path) -> None:
    go = tmp_path / "go"

    @ray.remote(num_cpus=2)
    def holds(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.01)

    holder = holds.remote(str(go))
    limited = quick.options(timeout_s=0.05, num_cpus=2).remote("done")
    ready, _ = ray.wait([limited], timeout=0.5)
    assert not ready
    go.touch()
    ray.get(holder)
    assert ray.get(limited) == "done"


def test_a_task_that_waits_for_another_is_ended_with_it(tmp_path: Path) -> None:
    @ray.remote
    def child(path: str) -> None:
        Path(path + ".started").touch()
        try:
            time.sleep(FOREVER_SECONDS)
        finally:
            Path(path + ".ended").touch()

    @ray.remote(timeout_s=1)
    def parent(path: str) -> None:
        ray.get(child.remote(path))

    note = str(tmp_path / "note")
    with pytest.raises(exceptions.TaskTimeoutError, match="parent"):
        ray.get(parent.remote(note))
    leftovers.wait_until(
        lambda: os.path.exists(note + ".ended") or not os.path.exists(note + ".started"),
        "the child has ended",
    )
    leftovers.wait_until(lambda: ray.available_resources().get("CPU") == 2, "all CPUs free")


def test_a_generator_keeps_what_it_yielded_in_time() -> None:
    @ray.remote(timeout_s=0.5)
    def items() -> Any:
        yield 1
        yield 2
        time.sleep(FOREVER_SECONDS)

    refs = list(items.remote())
    assert len(refs) == 3
    assert ray.get(refs[:2]) == [1, 2]
    with pytest.raises(exceptions.TaskTimeoutError):
        ray.get(refs[2])


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True])
def test_limits_that_make_no_sense_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        quick.options(timeout_s=value)
    with pytest.raises(TypeError):
        quick.options(timeout_s="1")
