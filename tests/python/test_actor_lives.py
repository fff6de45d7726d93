"""Actors: how they begin and end, come back, are named, and what they hold of the node's resources."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from actor_helpers import is_alive, wait_until
from meeting import calls, count_call, wait_for

pytestmark = pytest.mark.usefixtures("shared_session")


class Plain:
    def __init__(self) -> None:
        self.count = 0

    def pid(self) -> int:
        return os.getpid()

    def add(self) -> int:
        self.count += 1
        return self.count

    def restarted(self) -> bool:
        return bool(ray.get_runtime_context().was_current_actor_reconstructed)

    def exit_with(self, code: int) -> None:
        os._exit(code)

    def raise_signal(self, number: int) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    def leave(self) -> None:
        ray.actor.exit_actor()

    def sys_exit(self, code: int) -> None:
        sys.exit(code)

    def once_then_die(self, file: str) -> int:
        calls_so_far = count_call(file)
        if calls_so_far == 1:
            os._exit(1)
        return calls_so_far

    def wait_for(self, file: str) -> str:
        Path(file + ".started").touch()
        wait_for(file)
        return "done"


Actor = ray.remote(Plain)


# ---- beginning


def test_an_error_in_the_constructor_reaches_every_later_call() -> None:
    @ray.remote
    class Bad:
        def __init__(self) -> None:
            raise ValueError("no such thing")

        def use(self) -> None:
            pass

    bad = Bad.remote()
    for _ in range(2):
        with pytest.raises(ray.exceptions.ActorDiedError) as caught:
            ray.get(bad.use.remote())
        assert caught.value.actor_init_failed
        assert caught.value.actor_id == bad._actor_id.hex()
        text = str(caught.value)
        assert "error raised in its creation task" in text
        assert "ValueError: no such thing" in text and "Bad.__init__()" in text


def test_an_argument_of_the_constructor_that_failed_is_the_cause() -> None:
    @ray.remote
    def broken() -> None:
        raise KeyError("lost")

    @ray.remote
    class Taker:
        def __init__(self, value: Any) -> None:
            pass

        def use(self) -> None:
            pass

    with pytest.raises(ray.exceptions.ActorDiedError, match="lost"):
        ray.get(Taker.remote(broken.remote()).use.remote())


def test_a_process_that_dies_in_the_constructor_is_a_dead_actor() -> None:
    @ray.remote
    class Fatal:
        def __init__(self) -> None:
            os._exit(17)

        def use(self) -> None:
            pass

    with pytest.raises(ray.exceptions.ActorDiedError, match="17"):
        ray.get(Fatal.remote().use.remote())


# ---- end


@pytest.mark.mobula_only
@pytest.mark.parametrize(
    ("method", "argument", "reason"),
    [
        ("exit_with", 3, "exited with code 3"),
        ("raise_signal", signal.SIGKILL, "SIGKILL"),
        ("raise_signal", signal.SIGSEGV, "SIGSEGV"),
    ],
)
def test_the_error_says_how_the_process_really_ended(
    method: str, argument: int, reason: str
) -> None:
    actor = Actor.remote()
    with pytest.raises(ray.exceptions.ActorDiedError, match=reason):
        ray.get(getattr(actor, method).remote(argument))
    with pytest.raises(ray.exceptions.ActorDiedError, match=reason):
        ray.get(actor.pid.remote())


def test_calls_that_wait_behind_a_fatal_one_fail_with_its_cause() -> None:
    actor = Actor.remote()
    refs = [actor.exit_with.remote(1)] + [actor.add.remote() for _ in range(10)]
    for ref in refs:
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(ref)


@pytest.mark.parametrize("code", [0, 3])
def test_sys_exit_in_a_constructor_ends_the_process_like_anywhere_else(code: int) -> None:
    class Leaves:
        def __init__(self) -> None:
            sys.exit(code)

        def nothing(self) -> None: ...

    leaver = ray.remote(Leaves).remote()
    with pytest.raises(ray.exceptions.ActorDiedError, match="worker process has died") as caught:
        ray.get(leaver.nothing.remote(), timeout=60)
    assert "creation task" not in str(caught.value)


def test_sys_exit_with_an_error_in_a_constructor_uses_up_a_restart(tmp_path: Path) -> None:
    class LeavesOnce:
        def __init__(self) -> None:
            try:
                (tmp_path / "was here").touch(exist_ok=False)
            except FileExistsError:
                return
            sys.exit(1)

        def answer(self) -> int:
            return 42

    leaver = ray.remote(LeavesOnce).options(max_restarts=1, max_task_retries=1).remote()
    assert ray.get(leaver.answer.remote(), timeout=60) == 42


@pytest.mark.parametrize(("method", "arguments"), [("leave", ()), ("sys_exit", (0,))])
def test_an_actor_that_leaves_by_itself_does_not_come_back(
    method: str, arguments: tuple[int, ...]
) -> None:
    actor = Actor.options(max_restarts=-1).remote()
    before = actor.add.remote()
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(getattr(actor, method).remote(*arguments))
    assert ray.get(before) == 1
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.add.remote())


def test_exit_actor_outside_of_an_actor_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        ray.actor.exit_actor()


def test_kill_ends_the_process_and_the_calls(tmp_path: Path) -> None:
    actor = Actor.remote()
    pid = ray.get(actor.pid.remote())
    running = actor.wait_for.remote(str(tmp_path / "never"))
    assert wait_for(tmp_path / "never.started")
    waiting = actor.add.remote()
    ray.kill(actor)
    for ref in (actor.add.remote(), running, waiting):
        with pytest.raises(ray.exceptions.ActorDiedError, match=r"ray\.kill"):
            ray.get(ref)
    wait_until(lambda: not is_alive(pid))
    with pytest.raises(ValueError, match="only supported for actors"):
        ray.kill(running)


def test_exit_handlers_run_when_an_actor_ends_in_order(tmp_path: Path) -> None:
    @ray.remote
    class Careful:
        def __init__(self, folder: str, name: str) -> None:
            import atexit

            atexit.register(Path(folder, name).touch)

        def leave(self) -> None:
            ray.actor.exit_actor()

    by_itself = Careful.remote(str(tmp_path), "by itself")
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(by_itself.leave.remote())
    told = Careful.remote(str(tmp_path), "told")
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(told.__ray_terminate__.remote())
    dropped = Careful.remote(str(tmp_path), "dropped")
    ray.get(dropped.__ray_ready__.remote())
    del dropped
    gc.collect()
    assert all(wait_for(tmp_path / name) for name in ("by itself", "told", "dropped"))


# ---- coming back


def test_an_actor_comes_back_as_often_as_allowed_with_a_new_state() -> None:
    actor = Actor.options(max_restarts=2).remote()
    for _ in range(2):
        assert ray.get(actor.add.remote()) == 1
        pid = ray.get(actor.pid.remote())
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(actor.exit_with.remote(1))
        wait_until(lambda: _pid_of(actor) not in (None, pid))  # noqa: B023
        assert ray.get(actor.restarted.remote()) is True
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.exit_with.remote(1))
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.add.remote())


def _pid_of(actor: Any) -> int | None:
    try:
        return int(ray.get(actor.pid.remote()))
    except ray.exceptions.ActorUnavailableError:
        return None


def test_a_call_that_ran_when_the_actor_was_lost_is_unavailable() -> None:
    actor = Actor.options(max_restarts=1).remote()
    with pytest.raises(ray.exceptions.ActorUnavailableError):
        ray.get(actor.exit_with.remote(1))


def test_calls_are_unavailable_while_the_actor_comes_back(tmp_path: Path) -> None:
    @ray.remote(max_restarts=1)
    class Slow:
        def __init__(self, file: str) -> None:
            if ray.get_runtime_context().was_current_actor_reconstructed:
                wait_for(file)

        def use(self) -> str:
            return "here"

    go = tmp_path / "go"
    actor = Slow.remote(str(go))
    assert ray.get(actor.use.remote()) == "here"
    ray.kill(actor, no_restart=False)

    def is_unavailable() -> bool:
        try:
            ray.get(actor.use.remote())
        except ray.exceptions.ActorUnavailableError:
            return True
        return False

    wait_until(is_unavailable)
    patient = actor.use.options(max_task_retries=-1).remote()
    go.touch()
    assert ray.get(patient) == "here"


def test_max_task_retries_runs_a_lost_call_again(tmp_path: Path) -> None:
    file = str(tmp_path / "calls")
    actor = Actor.options(max_restarts=1, max_task_retries=1).remote()
    behind = [actor.once_then_die.remote(file), actor.add.remote(), actor.add.remote()]
    assert ray.get(behind) == [2, 1, 2]
    assert calls(file) == 2


def test_without_retries_a_lost_call_is_not_run_again(tmp_path: Path) -> None:
    file = str(tmp_path / "calls")
    actor = Actor.options(max_restarts=1).remote()
    with pytest.raises(ray.exceptions.ActorUnavailableError):
        ray.get(actor.once_then_die.remote(file))
    wait_until(lambda: _pid_of(actor) is not None)
    assert calls(file) == 1


def test_retry_exceptions_calls_a_method_again(tmp_path: Path) -> None:
    @ray.remote
    class Flaky:
        @ray.method(max_task_retries=3, retry_exceptions=[KeyError])
        def some(self, file: str, good: int) -> int:
            if count_call(file) < good:
                raise KeyError(file)
            return calls(file)

    flaky = Flaky.remote()
    assert ray.get(flaky.some.remote(str(tmp_path / "a"), 3)) == 3
    with pytest.raises(KeyError):
        ray.get(flaky.some.remote(str(tmp_path / "b"), 9))
    assert calls(tmp_path / "b") == 4
    with pytest.raises(KeyError):
        ray.get(flaky.some.options(retry_exceptions=False).remote(str(tmp_path / "c"), 2))


# ---- cancelling


def test_a_waiting_call_is_cancelled_and_the_others_go_on(tmp_path: Path) -> None:
    actor = Actor.remote()
    running = actor.wait_for.remote(str(tmp_path / "go"))
    assert wait_for(tmp_path / "go.started")
    waiting, other = actor.add.remote(), actor.add.remote()
    ray.cancel(waiting)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(waiting)
    (tmp_path / "go").touch()
    assert ray.get([running, other]) == ["done", 1]


def test_a_running_call_can_ask_whether_it_is_cancelled() -> None:
    @ray.remote
    class Patient:
        def work(self) -> str:
            while not ray.get_runtime_context().is_canceled():
                time.sleep(0.005)
            return "saw it"

        def use(self) -> str:
            return "alive"

    actor = Patient.remote()
    running = actor.work.remote()
    assert ray.wait([running], timeout=0.2) == ([], [running])
    ray.cancel(running)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(running)
    assert ray.get(actor.use.remote()) == "alive"


# ---- names


def test_a_named_actor_is_found_by_name_until_it_is_dead() -> None:
    actor = Actor.options(name="findable").remote()
    assert ray.get_actor("findable") == actor
    assert ray.get(ray.get_actor("findable").add.remote()) == 1

    @ray.remote
    def find() -> int:
        return int(ray.get(ray.get_actor("findable").add.remote()))

    assert ray.get(find.remote()) == 2
    assert "findable" in ray.util.list_named_actors()
    assert any(
        entry["name"] == "findable" for entry in ray.util.list_named_actors(all_namespaces=True)
    )
    ray.kill(actor)
    wait_until(lambda: "findable" not in ray.util.list_named_actors())
    with pytest.raises(ValueError, match="Failed to look up actor with name 'findable'"):
        ray.get_actor("findable")
    again = Actor.options(name="findable").remote()
    assert ray.get(again.add.remote()) == 1


def test_a_name_is_taken_once_in_its_namespace() -> None:
    first = Actor.options(name="one", namespace="here").remote()
    other = Actor.options(name="one", namespace="there").remote()
    assert ray.get_actor("one", namespace="here") == first
    assert ray.get_actor("one", "there") == other
    with pytest.raises(ray.exceptions.ActorAlreadyExistsError, match="already taken"):
        Actor.options(name="one", namespace="here").remote()
    with pytest.raises(ValueError, match="already taken"):
        Actor.options(name="one", namespace="here").remote()
    with pytest.raises(ValueError):
        ray.get_actor("one")


def test_get_if_exists_gives_everybody_the_same_actor() -> None:
    @ray.remote
    def get_it() -> str:
        handle = Actor.options(name="shared", get_if_exists=True).remote()
        ray.get(handle.add.remote())
        return str(handle._actor_id.hex())

    keep = Actor.options(name="shared", get_if_exists=True).remote()
    assert set(ray.get([get_it.remote() for _ in range(8)])) == {keep._actor_id.hex()}
    assert ray.get(keep.add.remote()) == 9


def test_names_of_actors_must_make_sense() -> None:
    with pytest.raises(ValueError, match="cannot be an empty string"):
        Actor.options(name="").remote()
    with pytest.raises(ValueError, match="not a valid namespace"):
        Actor.options(name="x", namespace="").remote()
    with pytest.raises(ValueError, match="must be specified to use"):
        Actor.options(get_if_exists=True).remote()
    with pytest.raises(ValueError, match="non-empty"):
        ray.get_actor("")


# ---- options


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"no_such": 1}, ValueError),
        ({"num_returns": 2}, ValueError),
        ({"max_restarts": "a"}, TypeError),
        ({"max_restarts": -2}, ValueError),
        ({"max_task_retries": -5}, ValueError),
        ({"get_if_exists": "x"}, TypeError),
        ({"num_cpus": -1}, ValueError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"concurrency_groups": {"a": 1}}, ValueError),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Actor.options(**options)


def test_method_takes_known_options_only() -> None:
    with pytest.raises(AssertionError, match="Unexpected keyword argument"):
        ray.method(no_such=1)
    with pytest.raises(ValueError, match="lifetime"):
        Actor.options(lifetime="forever").remote()


# ---- resources


def test_an_actor_takes_a_cpu_to_be_placed_and_none_to_run() -> None:
    actors = [Actor.remote() for _ in range(5)]  # There are two CPUs.
    assert len(set(ray.get([actor.pid.remote() for actor in actors]))) == 5
    wait_until(lambda: ray.available_resources().get("CPU") == 2)


def test_what_an_actor_asked_for_is_its_own_until_it_is_dead() -> None:
    whole = ray.available_resources()
    actor = Actor.options(num_cpus=1, resources={"token": 1}, num_gpus=1).remote()
    ray.get(actor.pid.remote())
    left = ray.available_resources()
    assert left["CPU"] == whole["CPU"] - 1
    assert left["token"] == whole["token"] - 1 and left["GPU"] == whole["GPU"] - 1
    ray.kill(actor)
    wait_until(lambda: ray.available_resources().get("token") == whole["token"])
    assert ray.available_resources()["CPU"] == whole["CPU"]


def test_one_that_asks_for_something_else_but_cpus_has_a_cpu_for_life() -> None:
    wait_until(lambda: ray.available_resources().get("CPU") == 2)
    actor = Actor.options(resources={"slot": 1}).remote()
    ray.get(actor.pid.remote())
    assert ray.available_resources()["CPU"] == 1
    ray.kill(actor)
    wait_until(lambda: ray.available_resources().get("CPU") == 2)


def test_an_actor_that_waits_for_resources_is_made_when_they_are_free() -> None:
    first = Actor.options(resources={"slot": 1}).remote()
    ray.get(first.pid.remote())
    second = Actor.options(resources={"slot": 1}).remote()
    waiting = second.add.remote()
    assert ray.wait([waiting], timeout=0.3) == ([], [waiting])
    ray.kill(first)
    assert ray.get(waiting) == 1


def test_a_constructor_that_waits_for_a_task_lends_it_its_cpu() -> None:
    @ray.remote(num_cpus=2)
    def wide() -> int:
        return 7

    @ray.remote(num_cpus=2)
    class Waits:
        def __init__(self) -> None:
            self.value = ray.get(wide.remote())

        def get(self) -> int:
            return int(self.value)

    wait_until(lambda: ray.available_resources().get("CPU") == 2)
    actor = Waits.remote()
    assert ray.get(actor.get.remote()) == 7


def test_an_actor_sees_its_gpus() -> None:
    @ray.remote(num_gpus=2)
    class Accelerated:
        def gpus(self) -> tuple[list[int], str]:
            return ray.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"]

    ids, visible = ray.get(Accelerated.remote().gpus.remote())
    assert len(ids) == 2
    assert visible == ",".join(str(id) for id in ids)


# ---- sessions


def test_a_program_that_ends_takes_its_actors_along(run_script: Any, tmp_path: Path) -> None:
    done = run_script(
        f"""
import atexit, os, pathlib, mobula as ray

@ray.remote
class A:
    def __init__(self):
        atexit.register(pathlib.Path({str(tmp_path / "bye")!r}).touch)
    def pid(self):
        return os.getpid()

ray.init(num_cpus=1)
kept = A.options(name="kept", lifetime="detached").remote()
plain = A.remote()
print(ray.get(kept.pid.remote()), ray.get(plain.pid.remote()))
"""
    )
    for pid in done.stdout.split():
        wait_until(lambda: not is_alive(int(pid)))  # noqa: B023
    assert (tmp_path / "bye").exists()


@pytest.mark.mobula_only
def test_a_detached_actor_outlives_its_driver_on_a_standing_daemon(
    run_script: Any, tmp_path: Path
) -> None:
    mobula = [sys.executable, "-m", "mobula"]
    folder = tempfile.mkdtemp(prefix="mobula-test-")
    environment = {**os.environ, "TMPDIR": folder}
    subprocess.run(
        [*mobula, "start", "--num-cpus", "2", "--temp-dir", folder],
        check=True,
        env=environment,
        capture_output=True,
    )
    try:
        head = """
import os, mobula as ray
ray.init(address="auto", namespace="here")
"""
        first = run_script(
            head
            + """
@ray.remote
class Counter:
    def __init__(self):
        self.count = 0
    def add(self):
        self.count += 1
        return self.count, os.getpid()

kept = Counter.options(name="kept", lifetime="detached").remote()
plain = Counter.options(name="plain").remote()
print(*ray.get(kept.add.remote()), ray.get(plain.add.remote())[1])
""",
            env=environment,
        )
        count, kept_pid, plain_pid = first.stdout.split()
        assert count == "1"
        wait_until(lambda: not is_alive(int(plain_pid)))
        again = """
kept = ray.get_actor("kept")
print(*ray.get(kept.add.remote()), *ray.util.list_named_actors())
"""
        assert run_script(head + again, env=environment).stdout.split() == ["2", kept_pid, "kept"]
        last = run_script(head + again + "ray.kill(kept)", env=environment)
        assert last.stdout.split() == ["3", kept_pid, "kept"]
        wait_until(lambda: not is_alive(int(kept_pid)))
    finally:
        subprocess.run([*mobula, "stop"], env=environment, check=True, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
