"""The state API: tasks, workers, jobs and nodes as lists, filtered, one by one and summed up."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import conftest
import leftovers
import mobula as ray
import pytest
from mobula import exceptions
from mobula._private import state as private_state
from mobula.util import state
from mobula.util.state import schema as state_schema
from mobula.util.state.exception import RayStateApiException

pytestmark = [pytest.mark.mobula_only]


@pytest.fixture
def session(no_session: None) -> Iterator[None]:
    conftest.start(num_cpus=2)
    yield


@ray.remote
def quick(value: Any = None) -> Any:
    return value


@ray.remote
def until(path: str) -> int:
    while not os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


def states_of(name: str) -> list[str]:
    return [task.state for task in state.list_tasks(filters=[("name", "=", name)])]


def wait_for_state(name: str, wanted: str) -> None:
    leftovers.wait_until(lambda: wanted in states_of(name), f"{name} is {wanted}")


def test_every_state_of_a_task_is_told(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    @ray.remote(num_cpus=100)
    def infeasible() -> None: ...

    @ray.remote
    def failing() -> None:
        raise ValueError("on purpose")

    @ray.remote
    def waiting(refs: list[Any]) -> Any:
        return ray.get(refs)

    with pytest.raises(ValueError):
        ray.get(failing.remote())
    ray.get(quick.remote())

    @ray.remote
    def watching(refs: list[Any]) -> Any:
        return ray.wait(refs)

    runs = until.remote(gate)
    watches = watching.remote([runs])
    depends = quick.options(name="depends").remote(runs)
    waits = waiting.remote([runs])
    never = infeasible.remote()
    wait_for_state("until", "RUNNING")
    wait_for_state("waiting", "RUNNING_IN_RAY_GET")
    wait_for_state("watching", "RUNNING_IN_RAY_WAIT")
    assert states_of("depends") == ["PENDING_ARGS_AVAIL"]
    assert states_of("infeasible") == ["PENDING_NODE_ASSIGNMENT"]
    assert states_of("failing") == ["FAILED"]
    assert states_of("quick") == ["FINISHED"]
    Path(gate).touch()
    assert ray.get(depends) == ray.get(waits)[0]
    assert states_of("until") == ["FINISHED"]
    assert len(ray.get(watches)[0]) == 1
    ray.cancel(never)
    assert states_of("infeasible") == ["FAILED"]
    (cancelled,) = state.list_tasks(filters=[("name", "=", "infeasible")], detail=True)
    assert cancelled.error_type == "TASK_CANCELLED"


def test_runtime_environments_are_listed_with_how_they_came(session: None) -> None:
    good = quick.options(runtime_env={"env_vars": {"A": "1"}})
    bad = quick.options(runtime_env={"py_executable": "/no/such/interpreter"})
    ray.get(good.remote())
    with pytest.raises(exceptions.RuntimeEnvSetupError):
        ray.get(bad.remote())
    rows = {row.success: row for row in state.list_runtime_envs(detail=True)}
    assert rows[True].runtime_env == {"env_vars": {"A": "1"}}
    assert rows[True].creation_time_ms > 0
    assert rows[True].ref_cnt >= 0
    assert rows[False].runtime_env == {"py_executable": "/no/such/interpreter"}
    assert "/no/such/interpreter" in rows[False].error
    assert [row.success for row in state.list_runtime_envs(filters=[("success", "=", True)])] == [
        True
    ]


def test_no_more_ended_tasks_are_fetched_than_are_listed(session: None) -> None:
    ray.get([quick.options(name="ended").remote() for _ in range(300)])
    newest = quick.options(name="newest").remote()
    ray.get(newest)
    listed = state.list_tasks(limit=3)
    assert [task.name for task in listed] == ["newest", "ended", "ended"]
    assert len(state.list_tasks(filters=[("name", "=", "ended")], limit=250)) == 250
    # Others than name, state and id are applied to all of them.
    job = [("job_id", "=", ray.get_runtime_context().get_job_id()), ("name", "!=", "ended")]
    assert [task.name for task in state.list_tasks(filters=job, limit=3)] == ["newest"]


def test_the_fields_of_a_task(session: None) -> None:
    ref = quick.options(name="named", num_cpus=0.5).remote(7)
    assert ray.get(ref) == 7
    (task,) = state.list_tasks(filters=[("name", "=", "named")], detail=True)
    assert task.task_id == str(ref.task_id())
    assert task["task_id"] == task.task_id == task.get("task_id")
    assert task.attempt_number == 0
    assert task.job_id == ray.get_runtime_context().get_job_id()
    assert task.node_id == ray.get_runtime_context().get_node_id()
    assert task.type == "NORMAL_TASK"
    assert task.parent_task_id == "f" * 40 + task.job_id
    assert task.required_resources == {"CPU": 0.5}
    assert task.worker_pid in [worker.pid for worker in state.list_workers()]
    assert task.start_time_ms <= task.end_time_ms <= time.time() * 1000 + 1000
    assert task.error_type is None
    assert "task_id" in task
    assert task.asdict()["name"] == "named"
    (short,) = state.list_tasks(filters=[("name", "=", "named")])
    assert short.required_resources is None
    with pytest.raises(AttributeError):
        short["no such field"]


def test_a_failed_task_says_how(session: None) -> None:
    @ray.remote(max_retries=1)
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @ray.remote
    def raises() -> None:
        raise KeyError("the key")

    @ray.remote
    def items() -> Any:
        yield 1
        raise RuntimeError("no second item")

    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(dies.remote())
    failed = raises.remote()
    with pytest.raises(KeyError):
        ray.get(failed)
    with pytest.raises(KeyError):
        ray.get(quick.options(name="depends").remote(failed))
    with pytest.raises(RuntimeError):
        ray.get(list(items.remote()))
    found = {}
    leftovers.wait_until(
        lambda: len(state.list_tasks(filters=[("state", "=", "FAILED")])) >= 5, "five failures"
    )
    for task in state.list_tasks(filters=[("state", "=", "FAILED")], detail=True):
        found[(task.name, task.attempt_number)] = task
    assert set(found) == {
        ("dies", 0),
        ("dies", 1),
        ("raises", 0),
        ("depends", 0),
        ("items", 0),
    }
    assert found[("dies", 0)].error_type == "WORKER_DIED"
    assert "SIGKILL" in found[("dies", 1)].error_message
    assert found[("raises", 0)].error_type == "TASK_EXECUTION_EXCEPTION"
    assert "KeyError" in found[("raises", 0)].error_message
    assert "the key" in found[("raises", 0)].error_message
    assert found[("depends", 0)].error_type == "DEPENDENCY_RESOLUTION_FAILED"
    assert "no second item" in found[("items", 0)].error_message


def test_rows_name_the_function_beside_the_name_that_is_shown(
    session: None, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    waits = until.options(name="shown while it waits", num_cpus=0).remote(gate)
    wait_for_state("shown while it waits", "RUNNING")
    later = quick.options(name="shown while it is queued").remote(waits)
    ray.get(quick.options(name="shown").remote())
    rows = {row.name: row.func_or_class_name for row in state.list_tasks()}
    assert rows["shown"] == "quick"
    assert rows["shown while it waits"] == "until"
    assert rows["shown while it is queued"] == "quick"
    summary = state.summarize_tasks()["cluster"]["summary"]
    assert summary["shown"]["func_or_class_name"] == "quick"
    assert summary["shown"]["state_counts"] == {"FINISHED": 1}
    gate.touch()
    ray.get(later)


def test_nested_tasks_name_their_parents(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    @ray.remote
    def middle() -> Any:
        done = ray.get(quick.options(name="leaf").remote(1))
        left = until.options(name="left").remote(gate)
        return done, [left]

    @ray.remote
    def top() -> Any:
        return ray.get(middle.remote())

    ref = top.remote()
    done, (left,) = ray.get(ref)
    assert done == 1
    by_name = {task.name: task for task in state.list_tasks(detail=True)}
    assert by_name["middle"].parent_task_id == by_name["top"].task_id == str(ref.task_id())
    assert by_name["leaf"].parent_task_id == by_name["middle"].task_id
    # Its parent has ended, and it has not.
    assert by_name["left"].parent_task_id == by_name["middle"].task_id
    Path(gate).touch()
    ray.get(left)


def test_filters_limits_and_what_is_no_filter(session: None) -> None:
    ray.get([quick.remote(i) for i in range(20)])
    ray.get([quick.options(name="other").remote(i) for i in range(3)])
    assert len(state.list_tasks(filters=[("name", "=", "other")])) == 3
    assert len(state.list_tasks(filters=[("name", "=", "OTHER"), ("state", "=", "finished")])) == 3
    assert len(state.list_tasks(filters=[("name", "!=", "other")])) == 20
    assert len(state.list_tasks(filters=[("attempt_number", "=", "0")])) == 23
    assert len(state.list_tasks(filters=[("attempt_number", "=", 0)], limit=5)) == 5
    assert state.list_tasks(limit=0) == []
    assert state.list_tasks(filters=[("name", "=", "unheard of")]) == []
    assert len(state.list_workers(filters=[("is_alive", "=", "true")])) >= 2
    with pytest.raises(RayStateApiException, match="stat is not supported"):
        state.list_tasks(filters=[("stat", "=", "FINISHED")])
    with pytest.raises(RayStateApiException, match="required_resources"):
        state.list_tasks(filters=[("required_resources", "=", "CPU")])
    with pytest.raises(ValueError, match="predicate"):
        state.list_tasks(filters=[("state", ">", "FINISHED")])
    with pytest.raises(ValueError):
        state.list_tasks(filters=[("state", "FINISHED")])  # type: ignore[list-item]
    with pytest.raises(ValueError):
        state.list_tasks(filters="state=FINISHED")  # type: ignore[arg-type]
    with pytest.raises(RayStateApiException, match="100000"):
        state.list_tasks(limit=100000)
    with pytest.raises(RayStateApiException):
        state.list_tasks(limit=-1)


def test_one_by_its_id(session: None) -> None:
    ref = quick.remote(1)
    ray.get(ref)
    for asked in (ref, str(ref.task_id())):
        task = state.get_task(asked)
        assert task is not None
        assert task.state == "FINISHED"
    assert state.get_task("0" * 48) is None
    assert state.get_task("no id") is None
    (node,) = state.list_nodes()
    assert state.get_node(node.node_id) == state.list_nodes(detail=True)[0]
    worker = state.list_workers(detail=True)[0]
    assert state.get_worker(worker.worker_id) == worker
    assert state.get_worker("no id") is None
    (job,) = state.list_jobs()
    found = state.get_job(str(job.job_id))
    assert found is not None
    assert found.status == "RUNNING"
    assert str(os.getpid()) == found.driver_info.pid  # type: ignore[union-attr]


def test_workers_that_have_ended_say_how(session: None) -> None:
    @ray.remote(max_retries=0)
    def exits() -> None:
        os._exit(11)

    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(exits.remote())
    dead = state.list_workers(filters=[("is_alive", "=", False)], detail=True)
    assert len(dead) == 1
    assert dead[0].exit_type == "SYSTEM_ERROR"
    assert dead[0].exit_detail is not None
    assert "11" in dead[0].exit_detail
    drivers = state.list_workers(filters=[("worker_type", "=", "DRIVER")])
    assert [driver.pid for driver in drivers] == [os.getpid()]


def summary() -> dict[str, dict[str, int]]:
    cluster = state.summarize_tasks()["cluster"]
    return {name: entry["state_counts"] for name, entry in cluster["summary"].items()}


def test_the_summary_counts_all_also_those_that_were_dropped(session: None) -> None:
    many = 60_000  # More than the traces of the workers keep.
    for _ in range(10):
        ray.get([quick.remote() for _ in range(many // 10)])
    leftovers.wait_until(lambda: summary()["quick"] == {"FINISHED": many}, "all are counted")
    assert state.summarize_tasks()["cluster"]["total_tasks"] == many
    assert len(state.list_tasks(limit=10_000)) == 10_000


def test_workers_that_are_gone_and_forgotten_still_count(session: None) -> None:
    @ray.remote(max_calls=1)
    def once() -> None: ...

    calls = 90  # Each in a worker of its own; the daemon keeps fewer traces.
    ray.get([once.remote() for _ in range(calls)])
    leftovers.wait_until(lambda: summary()["once"].get("FINISHED") == calls, "all are counted")


def test_a_million_are_not_needed_to_find_one_among_many(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    blockers = [until.remote(gate) for _ in range(2)]
    wait_for_state("until", "RUNNING")
    queued = [quick.remote() for _ in range(30_000)]
    special = quick.options(name="special").remote()
    queued += [quick.remote() for _ in range(30_000)]
    assert states_of("special") == ["PENDING_NODE_ASSIGNMENT"]
    task = state.get_task(special)
    assert task is not None
    assert task.name == "special"
    assert len(state.list_tasks(filters=[("state", "=", "RUNNING")])) == 2
    counts = summary()
    assert counts["quick"] == {"PENDING_NODE_ASSIGNMENT": 60_000}
    Path(gate).touch()
    ray.get([*blockers, special, *queued])


def test_it_is_asked_from_within_a_task_too(session: None) -> None:
    @ray.remote
    def look() -> list[tuple[str, str]]:
        return [(task.name, task.state) for task in state.list_tasks()]

    ray.get(quick.remote())
    seen = ray.get(look.remote())
    assert ("look", "RUNNING") in seen
    assert ("quick", "FINISHED") in seen


def test_a_stopped_worker_delays_the_answer_by_a_moment(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    @ray.remote
    def parent() -> Any:
        return ray.get(until.options(name="child").remote(gate))

    ref = parent.remote()
    wait_for_state("child", "RUNNING")
    (task,) = state.list_tasks(filters=[("name", "=", "parent")])
    assert task.worker_pid is not None
    leftovers.stop_process(task.worker_pid)
    try:
        with pytest.raises(RayStateApiException, match=str(task.worker_pid)):
            state.list_tasks()
        with pytest.warns(UserWarning, match=str(task.worker_pid)):
            rows = state.list_tasks(raise_on_missing_output=False)
        # Its own tasks are still seen where they run.
        assert ("child", "RUNNING") in [(row.name, row.state) for row in rows]
        assert state.list_workers()
    finally:
        os.kill(task.worker_pid, signal.SIGCONT)
    Path(gate).touch()
    ray.get(ref)


def test_queries_while_tasks_come_and_go(session: None) -> None:
    stop = threading.Event()
    seen = []

    def look() -> None:
        while not stop.is_set():
            seen.append(len(state.list_tasks(limit=50)))
            state.summarize_tasks()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(20):
            assert sum(ray.get([quick.remote(i) for i in range(500)])) == sum(range(500))
    finally:
        stop.set()
        watcher.join()
    assert seen


def test_what_workers_print_can_be_read(session: None) -> None:
    @ray.remote
    def speak() -> int:
        print("first line")
        print("second line")
        return os.getpid()

    ref = speak.remote()
    pid = ray.get(ref)

    def text(**asked: Any) -> str:
        try:
            return "".join(state.get_log(**asked))
        except RayStateApiException:
            return ""

    leftovers.wait_until(lambda: "second line" in text(pid=pid), "it is in the file")
    assert text(pid=pid, tail=1) == "second line\n"
    assert "first line" in text(task_id=str(ref.task_id()))
    names = state.list_logs()
    assert any(str(pid) in name for name in names["worker_out"])
    assert "daemon.log" in names["daemon"]
    assert state.list_logs(glob_filter="daemon*").keys() == {"daemon"}
    assert text(filename="daemon.log")
    with pytest.raises(RayStateApiException):
        list(state.get_log(filename="../daemon.log"))
    with pytest.raises(ValueError):
        list(state.get_log())
    with pytest.raises(RayStateApiException):
        list(state.get_log(actor_id="ab" * 16))


def test_what_an_actor_prints_can_be_read_by_its_id(session: None) -> None:
    @ray.remote
    class Speaker:
        def speak(self) -> str:
            print("an actor speaks")
            return ray.get_runtime_context().get_actor_id()

    speaker = Speaker.remote()
    actor_id = ray.get(speaker.speak.remote())

    def text() -> str:
        try:
            return "".join(state.get_log(actor_id=actor_id))
        except RayStateApiException:
            return ""

    leftovers.wait_until(lambda: "an actor speaks" in text(), "it is in the file")


def test_without_a_session_it_says_so(no_session: None) -> None:
    with pytest.raises(exceptions.RaySystemError):
        state.list_tasks()


def test_the_modules_of_ray_are_there(run_script: Callable[..., Any]) -> None:
    text = """
import mobula.ray as alias
alias.install()
import ray
from ray.util.state import list_tasks, list_nodes, summarize_tasks
from ray.util.state.common import TaskState
from ray.util.state.exception import RayStateApiException
ray.init(num_cpus=1)
ray.get(ray.remote(lambda: 1).remote())
assert isinstance(list_tasks()[0], TaskState)
print(len(list_nodes()))
"""
    assert run_script(text).stdout.split() == ["1"]


@ray.remote
class Cell:
    def __init__(self, path: str = "") -> None:
        if path:
            while not os.path.exists(path):
                time.sleep(0.005)

    def nothing(self) -> None: ...

    def wait(self, path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.005)

    def nested(self) -> Any:
        return ray.get(quick.options(name="of a call").remote(1))


def test_actors_and_their_calls(session: None, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    cell = Cell.options(name="the cell").remote()
    ray.get([cell.nothing.remote() for _ in range(3)])
    ray.get(cell.nested.remote())
    running = cell.wait.remote(gate)
    waiting = [cell.nothing.remote() for _ in range(500)]
    wait_for_state("Cell.wait", "RUNNING")
    (actor,) = state.list_actors(filters=[("state", "=", "ALIVE")], detail=True)
    assert actor.class_name == "Cell"
    assert actor.name == "the cell"
    assert state.get_actor(actor.actor_id) == actor
    (task,) = state.list_tasks(filters=[("name", "=", "Cell.wait")])
    assert task.type == "ACTOR_TASK"
    assert task.actor_id == actor.actor_id
    assert task.worker_pid == actor.pid
    assert summary()["Cell.nothing"]["FINISHED"] == 3
    unfinished = {k: n for k, n in summary()["Cell.nothing"].items() if k != "FINISHED"}
    assert sum(unfinished.values()) == 500
    assert state.summarize_tasks()["cluster"]["total_actor_tasks"] == 505
    assert state.summarize_actors()["cluster"]["summary"]["Cell"]["state_counts"] == {"ALIVE": 1}
    by_name = {row.name: row for row in state.list_tasks(limit=10_000)}
    assert by_name["of a call"].parent_task_id == by_name["Cell.nested"].task_id
    said = state.explain(waiting[-1])
    assert "Cell" in said
    assert "Cell.wait since" in said
    Path(gate).touch()
    ray.get([running, *waiting])
    ray.kill(cell)
    leftovers.wait_until(
        lambda: [row.state for row in state.list_actors()] in (["DEAD"], []), "it is dead"
    )


class Named:
    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"Named(\x00{self.number} \N{WHALE})"

    def nothing(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        ray.actor.exit_actor()


class Unmakeable:
    def __init__(self) -> None:
        raise RuntimeError("no luck")


def row_of(actor_id: str, wanted: str) -> state_schema.ActorState:
    """When it is in this state."""

    def there() -> list[state_schema.ActorState]:
        return state.list_actors(
            filters=[("actor_id", "=", actor_id), ("state", "=", wanted)], detail=True
        )

    leftovers.wait_until(lambda: bool(there()), f"it is {wanted}", 60)
    return there()[0]


def test_rows_of_actors_say_what_they_call_themselves_and_how_they_died(session: None) -> None:
    remote_class = ray.remote(Named)
    actor = remote_class.options(name="named").remote(5)
    pid = ray.get(actor.nothing.remote())
    actor_id = actor._actor_id.hex()
    row = row_of(actor_id, "ALIVE")
    assert (row.repr_name, row.pid, row.death_cause) == ("Named(5 \N{WHALE})", pid, None)
    ray.kill(actor)
    row = row_of(actor_id, "DEAD")
    del actor
    assert (row.repr_name, row.pid, row.name) == ("Named(5 \N{WHALE})", pid, "named")
    assert row.death_cause is not None
    context = row.death_cause["actor_died_error_context"]
    assert context["reason"] == "RAY_KILL"
    assert context["error_message"] == "The actor is dead because it was killed by `ray.kill`."
    assert (context["pid"], context["never_started"]) == (pid, False)

    cell = Cell.options().remote()
    ray.get(cell.nothing.remote())
    actor_id = cell._actor_id.hex()
    assert row_of(actor_id, "ALIVE").repr_name == ""
    del cell
    row = row_of(actor_id, "DEAD")
    assert row.death_cause is not None
    context = row.death_cause["actor_died_error_context"]
    assert context["reason"] == "OUT_OF_SCOPE"
    assert context["error_message"] == (
        "The actor is dead because all references to the actor were removed."
    )

    leaver = remote_class.remote(6)
    leaver.leave.remote()
    context = row_of(leaver._actor_id.hex(), "DEAD").death_cause["actor_died_error_context"]  # type: ignore[index]
    assert context["reason"] == "WORKER_DIED"
    assert "exit_actor() is called." in context["error_message"]

    failing = ray.remote(Unmakeable).remote()
    row = row_of(failing._actor_id.hex(), "DEAD")
    assert row.death_cause is not None
    assert "no luck" in str(row.death_cause["creation_task_failure_context"])


def test_the_last_actors_that_are_gone_have_rows_the_living_first(session: None) -> None:
    for _ in range(3):
        cell = Cell.remote()
        ray.get(cell.nothing.remote())
        gone = cell._actor_id.hex()
        del cell
        row_of(gone, "DEAD")
    cell = Cell.remote()
    ray.get(cell.nothing.remote())
    assert [row.state for row in state.list_actors()] == ["ALIVE", "DEAD", "DEAD", "DEAD"]
    assert state.list_actors()[1].actor_id == gone
    assert state.get_actor(gone).state == "DEAD"
    rows = private_state.actors()
    assert rows[gone]["State"] == "DEAD"
    assert rows[gone]["DeathCause"]["actor_died_error_context"]["reason"] == "OUT_OF_SCOPE"
    row = private_state.actors(cell._actor_id.hex())
    assert (row["State"], row["ActorClassName"], row["NumRestarts"]) == ("ALIVE", "Cell", 0)
    assert row["Pid"] > 0 and row["Address"]["NodeID"] == ray.nodes()[0]["NodeID"]
    assert private_state.actors("0" * 32) == {}
    assert list(private_state.actors(actor_state_name="ALIVE")) == [cell._actor_id.hex()]
    with pytest.raises(ValueError, match="not a valid actor state"):
        private_state.actors(actor_state_name="WELL")
    (job,) = private_state.jobs()
    assert (job["DriverPid"], job["IsDead"]) == (os.getpid(), False)
    assert private_state.state.actor_table() == private_state.actors()


def test_a_call_whose_actor_cannot_be_placed_says_so(session: None) -> None:
    cell = Cell.options(num_cpus=40).remote()
    ref = cell.nothing.remote()
    leftovers.wait_until(
        lambda: "no node can ever hold an actor" in state.explain(ref), "it says so", 10
    )
    assert "PENDING_CREATION" in state.explain(ref)
    ray.kill(cell)
