"""Private names of Ray that programs and their tests use all the same."""

from __future__ import annotations

from typing import Any

import mobula as ray
import pytest
from mobula._common.test_utils import Semaphore, SignalActor, wait_for_condition
from mobula._private import test_utils, worker

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]


def test_the_global_worker_says_where_it_is() -> None:
    @ray.remote
    def in_task() -> tuple[int | None, bool, str, str]:
        here = worker.global_worker
        return here.mode, here.connected, here.current_job_id.hex(), here.current_task_id.hex()

    ref = in_task.remote()
    here = worker.global_worker
    assert (here.mode, here.connected) == (ray.SCRIPT_MODE, True)
    assert here.current_task_id.is_nil()
    assert ray.get(ref) == (
        ray.WORKER_MODE,
        True,
        here.current_job_id.hex(),
        ref.task_id().hex(),
    )
    assert here.current_node_id.hex() == ray.nodes()[0]["NodeID"]
    assert ray.get_runtime_context().worker is here


def test_tasks_wait_for_a_signal() -> None:
    signal = SignalActor.remote()

    @ray.remote
    def wait(signal: Any) -> str:
        ray.get(signal.wait.remote())
        return "went on"

    ref = wait.remote(signal)
    wait_for_condition(lambda: ray.get(signal.cur_num_waiters.remote()) == 1, timeout=60)
    ray.get(signal.wait.remote(should_wait=False))
    assert ray.wait([ref], timeout=0)[0] == []
    ray.get(signal.send.remote())
    assert ray.get(ref, timeout=60) == "went on"
    assert ray.get(signal.cur_num_waiters.remote()) == 0


def test_a_cleared_signal_lets_only_those_go_on_who_wait() -> None:
    signal = SignalActor.remote()
    first = signal.wait.remote()
    wait_for_condition(lambda: ray.get(signal.cur_num_waiters.remote()) == 1, timeout=60)
    ray.get(signal.send.remote(clear=True))
    ray.get(first, timeout=60)
    later = signal.wait.remote()
    wait_for_condition(lambda: ray.get(signal.cur_num_waiters.remote()) == 1, timeout=60)
    ray.get(signal.send.remote())
    ray.get(later, timeout=60)


def test_a_semaphore_is_taken_and_given_back() -> None:
    semaphore = Semaphore.remote(1)
    ray.get(semaphore.acquire.remote())
    assert ray.get(semaphore.locked.remote())
    waiting = semaphore.acquire.remote()
    assert ray.wait([waiting], timeout=0)[0] == []
    ray.get(semaphore.release.remote())
    ray.get(waiting, timeout=60)


def test_a_condition_that_is_not_met_says_what_was_raised_last() -> None:
    with pytest.raises(RuntimeError, match="wasn't met before the timeout expired") as caught:
        test_utils.wait_for_condition(lambda: 1 / 0, timeout=0, retry_interval_ms=1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        wait_for_condition(lambda: 1 / 0, raise_exceptions=True)
    wait_for_condition(lambda value: value, value=True)


def test_a_summary_of_memory_names_objects_and_who_holds_them() -> None:
    import mobula._private.internal_api as internal_api

    ref = ray.put(b"x" * 1_000_000)
    text = internal_api.memory_summary(units="MB")
    assert ref.hex() in text
    assert "LOCAL_REFERENCE" in text
    stats = internal_api.memory_summary(stats_only=True)
    assert "in memory" in stats
    assert ref.hex() not in stats
    for wrong in ({"group_by": "COLOUR"}, {"units": "PB"}, {"num_entries": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            internal_api.memory_summary(**wrong)
