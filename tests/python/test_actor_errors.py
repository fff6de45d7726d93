"""What errors of actors say, and what is refused before anything is sent."""

from __future__ import annotations

import abc
import os
import pickle
import signal
import threading
from typing import Any

import mobula as ray
import pytest
from actor_helpers import wait_until
from mobula.util.scheduling_strategies import NodeAffinitySchedulingStrategy

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
class Counter:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Counter at {self.value}"

    def add(self) -> int:
        self.value += 1
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def fail(self) -> None:
        raise ValueError("on purpose")


def test_an_error_of_a_method_says_which_actor_and_what_it_calls_itself() -> None:
    actor = Counter.remote(3)
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(actor.fail.remote())
    first = str(caught.value).splitlines()[0]
    actor_id = actor._actor_id.hex()
    assert f"Counter.fail() (pid={ray.get(actor.pid.remote())}, ip=" in first
    assert f"actor_id={actor_id}, repr=Counter at 3)" in first


@pytest.mark.mobula_only
def test_the_fields_of_an_error_of_a_method_tell_the_actor() -> None:
    actor = Counter.remote(3)
    with pytest.raises(ValueError, match="on purpose") as caught:
        ray.get(actor.fail.remote())
    error: Any = caught.value
    assert (error.actor_id, error.actor_repr) == (actor._actor_id.hex(), "Counter at 3")
    again = pickle.loads(pickle.dumps(error))
    assert again.actor_id == error.actor_id
    with pytest.raises(ZeroDivisionError) as caught_of_task:
        ray.get(ray.remote(lambda: 1 / 0).remote())
    of_task: Any = caught_of_task.value
    assert of_task.actor_id is None


def test_the_error_of_a_dead_actor_says_where_it_was() -> None:
    actor = Counter.options(name="where", namespace="errors").remote()
    pid = ray.get(actor.pid.remote())
    os.kill(pid, signal.SIGKILL)

    def error() -> str:
        try:
            ray.get(actor.pid.remote())
        except ray.exceptions.ActorDiedError as died:
            return str(died)
        except ray.exceptions.RayActorError:
            pass
        return ""

    wait_until(error)
    for part in (
        "class_name: Counter",
        f"actor_id: {actor._actor_id.hex()}",
        f"pid: {pid}",
        "name: where",
        "namespace: errors",
        "ip: ",
    ):
        assert part in error()


def test_hard_affinity_to_a_node_that_there_is_not_fails() -> None:
    nowhere = NodeAffinitySchedulingStrategy(node_id="0" * 56, soft=False)
    actor = Counter.options(scheduling_strategy=nowhere).remote()
    with pytest.raises(ray.exceptions.ActorUnschedulableError):
        ray.get(actor.add.remote(), timeout=60)
    soft = NodeAffinitySchedulingStrategy(node_id="0" * 56, soft=True)
    assert ray.get(Counter.options(scheduling_strategy=soft).remote().add.remote()) == 1


def test_a_handle_can_be_pickled_by_any_pickler_and_loaded_elsewhere() -> None:
    actor = Counter.remote()
    data = pickle.dumps(actor)
    assert pickle.loads(data) == actor

    @ray.remote
    def call(data: bytes) -> Any:
        return ray.get(pickle.loads(data).add.remote())

    assert ray.get(call.remote(data)) == 1
    assert ray.get(pickle.loads(pickle.dumps(actor.add)).remote()) == 2


@pytest.mark.mobula_only
def test_a_pickled_handle_of_an_actor_that_is_forgotten_says_so() -> None:
    data = pickle.dumps(Counter.remote()).replace(
        Counter.remote()._actor_id.hex()[:8].encode(), b"00000000"
    )
    with pytest.raises(ray.exceptions.ActorHandleNotFoundError, match="no actor 00000000"):
        pickle.loads(data)


def test_options_that_a_call_does_not_have_are_refused() -> None:
    actor = Counter.remote()
    for options in ({"num_cpus": 1}, {"unknown": 1}):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            actor.add.options(**options).remote()
    with pytest.raises(ValueError, match="generator"):
        actor.add.options(num_returns="streaming").remote()
    with pytest.raises(TypeError):
        actor.add.options(num_returns="many").remote()


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": -1},
        {"max_pending_calls": -2},
        {"lifetime": "for ever"},
        {"scheduling_strategy": "WRONG"},
    ],
)
def test_values_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Counter.options(**options).remote()


def test_an_abstract_class_is_refused_and_a_complete_one_is_not() -> None:
    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self) -> int: ...

    class Square(Shape):
        def area(self) -> int:
            return 4

    with pytest.raises(TypeError, match="abstract"):
        ray.remote(Shape)
    assert ray.get(ray.remote(Square).remote().area.remote()) == 4


def test_a_class_that_cannot_be_serialized_is_named() -> None:
    lock = threading.Lock()

    class Locked:
        def get(self) -> Any:
            return lock

    with pytest.raises(TypeError, match=r"Could not serialize the actor class .*Locked"):
        ray.remote(Locked).remote()


def test_a_method_of_a_group_that_is_not_declared_is_refused() -> None:
    class Grouped:
        @ray.method(concurrency_group="io")
        def f(self) -> int:
            return 1

    with pytest.raises((ValueError, AssertionError)):
        ray.remote(Grouped).remote()
    made = ray.remote(concurrency_groups={"io": 1})(Grouped)
    assert ray.get(made.remote().f.remote()) == 1


def test_method_without_parentheses_and_the_class_behind_an_actor_class() -> None:
    @ray.remote
    class Plain:
        @ray.method
        def f(self) -> int:
            return 5

    assert ray.get(Plain.remote().f.remote()) == 5
    assert Plain.__ray_metadata__.modified_class().f() == 5


def test_the_context_is_there_in_the_constructor() -> None:
    @ray.remote(num_cpus=1)
    class Curious:
        def __init__(self) -> None:
            context = ray.get_runtime_context()
            self.seen = (
                context.get_actor_id(),
                context.get_task_name(),
                context.get_assigned_resources(),
            )

        def get(self) -> Any:
            return self.seen, ray.get_runtime_context().get_task_function_name()

    actor = Curious.remote()
    (actor_id, name, resources), function = ray.get(actor.get.remote())
    assert actor_id == actor._actor_id.hex()
    assert name == "Curious.__init__"
    assert resources == {"CPU": 1.0}
    assert function.endswith(".Curious.get")


def test_an_argument_that_cannot_be_serialized_is_named_with_its_method() -> None:
    class Takes:
        def __init__(self, first: Any = None, second: Any = None) -> None: ...

        def take(self, what: Any) -> None: ...

    takes = ray.remote(Takes)
    with pytest.raises(TypeError, match=r"Could not serialize the argument <unlocked.*__init__"):
        takes.remote(1, second=threading.Lock())
    with pytest.raises(TypeError, match=r"Could not serialize the argument <unlocked.*Takes\.take"):
        takes.remote().take.remote(threading.Lock())
