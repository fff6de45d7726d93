"""cancel: of tasks that wait, are queued, run, have children, or have ended."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from leftovers import wait_until
from mobula.exceptions import TaskCancelledError, WorkerCrashedError

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
def mark_and_sleep(path: str, seconds: float = 1000) -> str:
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
    return "done"


@ray.remote
def nop(value: Any = None) -> Any:
    return value


def expect_cancelled(ref: Any, kinds: Any = TaskCancelledError) -> None:
    with pytest.raises(kinds):
        ray.get(ref, timeout=30)


def started(path: Path) -> Any:
    return lambda: path.exists() and path.read_text() != ""


def all_free() -> bool:
    return ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]


def test_a_running_task_is_interrupted_and_its_worker_goes_on(tmp_path: Path) -> None:
    ref = mark_and_sleep.remote(str(tmp_path / "a"))
    wait_until(started(tmp_path / "a"), "started")
    pid = int((tmp_path / "a").read_text())
    ray.cancel(ref)
    expect_cancelled(ref)
    os.kill(pid, 0)
    wait_until(all_free, "all CPUs free")


def test_the_error_names_task_and_function(tmp_path: Path) -> None:
    ref = mark_and_sleep.remote(str(tmp_path / "a"))
    wait_until(started(tmp_path / "a"), "started")
    ray.cancel(ref)
    with pytest.raises(TaskCancelledError, match="mark_and_sleep") as caught:
        ray.get(ref)
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert caught.value.task_id == ref.task_id()


def test_who_catches_the_interruption_may_return_a_value(tmp_path: Path) -> None:
    @ray.remote
    def stubborn(path: str) -> str:
        try:
            Path(path).write_text("x")
            time.sleep(1000)
        except KeyboardInterrupt:
            return "caught"
        return "not interrupted"

    ref = stubborn.remote(str(tmp_path / "a"))
    wait_until(started(tmp_path / "a"), "started")
    ray.cancel(ref)
    assert ray.get(ref, timeout=30) == "caught"


def test_python_code_that_never_sleeps_is_interrupted(tmp_path: Path) -> None:
    @ray.remote
    def spin(path: str) -> None:
        Path(path).write_text("x")
        while True:
            pass

    ref = spin.remote(str(tmp_path / "a"))
    wait_until(started(tmp_path / "a"), "started")
    ray.cancel(ref)
    expect_cancelled(ref)


def test_force_kills_the_worker_and_does_not_retry(tmp_path: Path) -> None:
    ref = mark_and_sleep.remote(str(tmp_path / "a"))
    wait_until(started(tmp_path / "a"), "started")
    pid = int((tmp_path / "a").read_text())
    ray.cancel(ref, force=True)
    expect_cancelled(ref, (TaskCancelledError, WorkerCrashedError))
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the worker is gone")
    wait_until(all_free, "all CPUs free")


def test_force_ends_a_stopped_worker(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    @ray.remote
    def stops_itself() -> None:
        note.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)

    ref = stops_itself.remote()
    wait_until(lambda: note.exists() and note.read_text() != "", "it runs")
    ray.cancel(ref, force=True)
    with pytest.raises((TaskCancelledError, WorkerCrashedError)):
        ray.get(ref, timeout=60)


def test_queued_tasks_never_start(tmp_path: Path) -> None:
    running = [mark_and_sleep.remote(str(tmp_path / str(i))) for i in range(2)]
    for i in range(2):
        wait_until(started(tmp_path / str(i)), "started")
    queued = [mark_and_sleep.remote(str(tmp_path / f"queued{i}")) for i in range(20)]
    for ref in queued:
        ray.cancel(ref)
    for ref in queued:
        expect_cancelled(ref)
    for ref in running:
        ray.cancel(ref)
    for ref in running:
        expect_cancelled(ref)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]


def test_a_task_that_waits_for_its_argument_is_withheld(tmp_path: Path) -> None:
    first = mark_and_sleep.remote(str(tmp_path / "a"))
    second = nop.remote(first)
    third = nop.remote(second)
    ray.cancel(second)
    expect_cancelled(second)
    expect_cancelled(third)
    ray.cancel(first)
    expect_cancelled(first)


def test_who_depends_on_a_cancelled_task_fails_too(tmp_path: Path) -> None:
    first = mark_and_sleep.remote(str(tmp_path / "a"))
    last = nop.remote(nop.remote(first))
    wait_until(started(tmp_path / "a"), "started")
    ray.cancel(first)
    expect_cancelled(last)


def test_children_are_cancelled_with_their_parent(tmp_path: Path) -> None:
    @ray.remote
    def parent(path: str) -> Any:
        return ray.get(mark_and_sleep.remote(path))

    ref = parent.remote(str(tmp_path / "a"))
    wait_until(started(tmp_path / "a"), "started")
    ray.cancel(ref)
    expect_cancelled(ref)
    wait_until(all_free, "all CPUs free")


def test_children_live_on_if_not_recursive(tmp_path: Path) -> None:
    @ray.remote
    def parent(path: str, done: str) -> Any:
        try:
            return ray.get(child.remote(path, done))
        except KeyboardInterrupt:
            Path(path).write_text("go on")
            raise

    @ray.remote
    def child(path: str, done: str) -> None:
        Path(path).write_text("started")
        while Path(path).read_text() != "go on":
            time.sleep(0.01)
        Path(done).write_text("yes")

    ref = parent.remote(str(tmp_path / "a"), str(tmp_path / "b"))
    wait_until(started(tmp_path / "a"), "started")
    ray.cancel(ref, recursive=False)
    expect_cancelled(ref)
    wait_until(started(tmp_path / "b"), "started")


def test_a_finished_task_keeps_its_value() -> None:
    ref = nop.remote(7)
    assert ray.get(ref) == 7
    ray.cancel(ref)
    ray.cancel(ref, force=True)
    assert ray.get(ref) == 7


def test_a_borrowed_ref_can_be_cancelled(tmp_path: Path) -> None:
    @ray.remote
    def cancel_it(refs: list[Any]) -> None:
        ray.cancel(refs[0])

    ref = mark_and_sleep.remote(str(tmp_path / "a"))
    wait_until(started(tmp_path / "a"), "started")
    ray.get(cancel_it.remote([ref]))
    expect_cancelled(ref)


def test_the_ref_of_an_item_stands_for_its_generator() -> None:
    @ray.remote
    def endless() -> Any:
        while True:
            yield 1

    @ray.remote
    def cancel_in_a_task(refs: list[Any]) -> None:
        ray.cancel(refs[0])

    for cancel in (ray.cancel, lambda ref: ray.get(cancel_in_a_task.remote([ref]))):
        items = endless.remote()
        first = next(items)
        assert ray.get(first) == 1
        cancel(first)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            for ref in items:
                ray.get(ref)
        assert ray.get(first) == 1
        cancel(first)  # Nothing happens to it any more.


def test_a_generator_is_cancelled_between_its_items(tmp_path: Path) -> None:
    @ray.remote
    def endless(path: str) -> Any:
        yield 1
        Path(path).write_text("x")
        while True:
            time.sleep(0.01)

    items = endless.remote(str(tmp_path / "a"))
    assert ray.get(next(items)) == 1
    wait_until(started(tmp_path / "a"), "started")
    ray.cancel(items)
    expect_cancelled(next(items))
    with pytest.raises(StopIteration):
        next(items)


@pytest.mark.parametrize("wrong", [1, "ref", None, [1]])
def test_only_refs_can_be_cancelled(wrong: Any) -> None:
    with pytest.raises(TypeError):
        ray.cancel(wrong)


def test_ten_thousand_short_tasks_at_random_moments() -> None:
    """Every task ends, with its value or as cancelled; nobody else's is hit."""

    @ray.remote
    def short(i: int) -> int:
        total = 0
        for k in range(i % 50):
            total += k
        return i

    seed = int(os.environ.get("MOBULA_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}: MOBULA_SEED={seed} replays it")
    choose = random.Random(seed)
    cancelled = 0
    untouched = 0
    for _ in range(20):
        refs = [short.remote(i) for i in range(500)]
        victims = {i for i in range(500) if choose.random() < 0.5}
        for i in choose.sample(sorted(victims), len(victims)):
            ray.cancel(refs[i])
            if choose.random() < 0.05:
                ray.wait(refs, num_returns=choose.randrange(1, 500), timeout=0.01)
        for i, ref in enumerate(refs):
            try:
                assert ray.get(ref, timeout=60) == i
                untouched += i not in victims
            except TaskCancelledError:
                assert i in victims
                cancelled += 1
    assert untouched > 0 and cancelled > 0
    wait_until(all_free, "all CPUs free")


def test_a_cancelled_task_is_not_retried(tmp_path: Path) -> None:
    @ray.remote(retry_exceptions=True, max_retries=5)
    def stubborn(path: str) -> None:
        with open(path, "a") as file:
            file.write("x")
        try:
            time.sleep(1000)
        except KeyboardInterrupt:
            assert ray.get_runtime_context().is_canceled()
            raise ValueError("of its own") from None

    ref = stubborn.remote(str(tmp_path / "a"))
    wait_until(started(tmp_path / "a"), "started")
    ray.cancel(ref)
    with pytest.raises(ValueError, match="of its own"):
        ray.get(ref, timeout=30)
    assert (tmp_path / "a").read_text() == "x"
