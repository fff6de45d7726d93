"""Actors: classes and handles, calls, their order and results, and who keeps an actor alive."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from actor_helpers import is_alive, wait_until

pytestmark = pytest.mark.usefixtures("shared_session")


@ray.remote
class Counter:
    """Counts."""

    def __init__(self, start: int = 0, *, step: int = 1) -> None:
        self.value = start
        self.step = step
        self.seen: list[Any] = []

    def add(self, amount: int | None = None) -> int:
        self.value += self.step if amount is None else amount
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def note(self, item: Any) -> list[Any]:
        self.seen.append(item)
        return list(self.seen)

    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @ray.method(num_returns=2)
    def pair(self) -> tuple[int, int]:
        return 1, 2

    def items(self, count: int) -> Any:
        yield from range(count)

    def fail(self, text: str) -> None:
        raise ValueError(text)

    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    @classmethod
    def name_and(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @property
    def half(self) -> float:
        return self.value / 2


@ray.remote
def late(seconds: float, value: Any) -> Any:
    time.sleep(seconds)
    return value


def test_an_actor_keeps_its_state_in_a_process_of_its_own() -> None:
    counter = Counter.remote(10, step=5)
    assert ray.get([counter.add.remote() for _ in range(3)]) == [15, 20, 25]
    assert ray.get(counter.add.remote(amount=1)) == 26
    other = Counter.remote()
    assert ray.get(other.add.remote()) == 1
    pids = ray.get([counter.pid.remote(), other.pid.remote()])
    assert len({os.getpid(), *pids}) == 3


def test_a_class_is_not_instantiated_and_a_method_is_not_called_directly() -> None:
    with pytest.raises(TypeError, match="Actors cannot be instantiated directly"):
        Counter()
    counter = Counter.remote()
    with pytest.raises(TypeError, match="cannot be called directly"):
        counter.add()


def test_arguments_are_checked_at_creation_and_at_the_call() -> None:
    with pytest.raises(TypeError, match="too many positional arguments"):
        Counter.remote(1, 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        Counter.remote(z=1)
    counter = Counter.remote()
    with pytest.raises(TypeError, match="missing a required argument: 'item'"):
        counter.note.remote()
    with pytest.raises(TypeError, match="too many positional arguments"):
        counter.pid.remote(1)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = counter.nothing
    with pytest.raises(AttributeError):  # Properties are no methods.
        _ = counter.half


def test_static_methods_class_methods_several_returns_and_generators() -> None:
    counter = Counter.remote()
    assert ray.get(counter.double.remote(4)) == 8
    assert ray.get(counter.name_and.remote(4)) == ("Counter", 4)
    assert ray.get(counter.pair.remote()) == [1, 2]
    assert [ray.get(ref) for ref in counter.items.remote(4)] == [0, 1, 2, 3]
    assert ray.get(counter.items.options(num_returns=2).remote(2)) == [0, 1]


def test_what_a_method_raises_reaches_the_caller_and_the_actor_lives() -> None:
    counter = Counter.remote()
    with pytest.raises(ValueError, match="oh no") as caught:
        ray.get(counter.fail.remote("oh no"))
    assert "Counter.fail()" in str(caught.value)
    assert ray.get(counter.add.remote()) == 1


def test_calls_run_in_the_order_of_submission_even_if_arguments_are_late() -> None:
    counter = Counter.remote()
    refs = [counter.note.remote(late.remote(0.2, "first")), counter.note.remote("second")]
    assert ray.get(refs) == [["first"], ["first", "second"]]


def test_an_argument_that_failed_fails_its_call_and_no_other() -> None:
    @ray.remote
    def broken() -> None:
        raise KeyError("gone")

    counter = Counter.remote()
    bad = counter.note.remote(broken.remote())
    good = counter.note.remote(1)
    with pytest.raises(KeyError):
        ray.get(bad)
    assert ray.get(good) == [1]


def test_what_runs_side_by_side_cannot_be_asked_to_run_in_order() -> None:
    class Loop:
        async def echo(self, value: int) -> int:
            return value

    for remote_class, options, kind in (
        (ray.remote(Loop), {}, "async actors"),
        (Counter, {"max_concurrency": 2}, "multi-threaded actors"),
    ):
        with pytest.raises(ValueError, match=f"using {kind}.*allow_out_of_order_execution=True"):
            remote_class.options(allow_out_of_order_execution=False, **options).remote()  # type: ignore[attr-defined]
    actor = ray.remote(Loop).options(allow_out_of_order_execution=True).remote()
    assert ray.get(actor.echo.remote(1)) == 1


def test_deriving_from_a_remote_class_names_both() -> None:
    with pytest.raises(TypeError, match="define subclass 'Derived' of actor class 'Counter'") as e:

        class Derived(Counter):  # type: ignore[misc, valid-type]
            pass

    assert type(e.value).__name__ == "ActorClassInheritanceException"
    with pytest.raises(TypeError, match="must be applied to either a function or a class"):
        ray.remote(Counter)  # type: ignore[call-overload]


def test_a_group_is_named_in_one_way() -> None:
    from mobula.util.placement_group import PlacementGroup

    group = PlacementGroup.empty()
    with pytest.raises(ValueError, match="specified via the scheduling_strategy option"):
        Counter.options(scheduling_strategy="SPREAD", placement_group=group).remote()


def test_the_context_of_an_actor_names_its_method_and_id() -> None:
    @ray.remote
    class Curious:
        def look(self) -> tuple[str | None, Any]:
            context = ray.get_runtime_context()
            return context.get_task_function_name(), context.get()

    actor = Curious.remote()
    name, known = ray.get(actor.look.remote())
    assert name is not None and name.endswith(".Curious.look")
    assert known["actor_id"] == actor._actor_id
    with pytest.raises(AssertionError):
        ray.get_runtime_context().was_current_actor_reconstructed  # noqa: B018
    with pytest.raises(RuntimeError, match="only available in an actor"):
        ray.get_runtime_context().current_actor  # noqa: B018


def test_allow_out_of_order_execution_lets_ready_calls_pass() -> None:
    counter = Counter.options(allow_out_of_order_execution=True).remote()
    first = counter.note.remote(late.remote(0.5, "late"))
    assert ray.get(counter.note.remote("ready")) == ["ready"]
    assert ray.get(first) == ["ready", "late"]


def test_a_constructor_gets_the_values_of_refs() -> None:
    counter = Counter.remote(late.remote(0.1, 40), step=ray.put(2))
    assert ray.get(counter.add.remote()) == 42


def test_handles_compare_hash_and_print() -> None:
    one, other = Counter.remote(), Counter.remote()
    (same,) = ray.get(ray.put([one]))
    assert same == one and hash(same) == hash(one) and same is not one
    assert one != other and len({one, same, other}) == 2
    assert repr(one) == f"Actor(Counter, {one._actor_id.hex()})"
    assert len(one._actor_id.hex()) == 32


def test_handles_travel_in_arguments_containers_closures_and_to_other_actors() -> None:
    counter = Counter.remote()

    @ray.remote
    def use(handle: Any) -> int:
        return int(ray.get(handle.add.remote()))

    @ray.remote
    def use_all(handles: dict[str, list[Any]]) -> int:
        return int(ray.get(handles["here"][0].add.remote()))

    @ray.remote
    def captured() -> int:
        return int(ray.get(counter.add.remote()))

    @ray.remote
    class Other:
        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def use(self) -> int:
            return int(ray.get(self.handle.add.remote()))

        def give(self) -> Any:
            return self.handle

    assert ray.get(use.remote(counter)) == 1
    assert ray.get(use_all.remote({"here": [counter]})) == 2
    assert ray.get(captured.remote()) == 3
    other = Other.remote(counter)
    assert ray.get(other.use.remote()) == 4
    assert ray.get(other.give.remote()) == counter


def test_many_threads_call_one_actor() -> None:
    counter = Counter.remote()
    results: list[int] = []

    def call() -> None:
        results.extend(ray.get([counter.add.remote() for _ in range(100)]))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 801))


def test_the_process_ends_when_the_last_handle_goes_but_not_before_its_calls_are_done() -> None:
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    pending = counter.sleep.remote(0.5)
    del counter
    gc.collect()
    assert ray.get(pending) == 0.5
    wait_until(lambda: not is_alive(pid))


def reader_rests() -> bool:
    """Does the thread that keeps this process's queues moving sleep for good?"""

    def switches() -> str:
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().startswith("mobula-reader"):
                return (task / "status").read_text().split("\nvoluntary_ctxt_switches:")[1]
        return ""

    before = switches()
    time.sleep(0.02)
    return switches() == before


@pytest.mark.mobula_only
def test_a_handle_that_goes_while_nothing_happens_ends_its_actor() -> None:
    actor = Counter.remote()
    pid = ray.get(actor.pid.remote())
    wait_until(reader_rests)
    del actor
    wait_until(lambda: not is_alive(pid))


def test_a_temporary_handle_is_enough_for_a_call() -> None:
    assert ray.get(Counter.remote(1).add.remote()) == 2


def test_a_bound_method_keeps_the_actor() -> None:
    add = Counter.remote().add
    gc.collect()
    assert ray.get(add.remote()) == 1


def test_a_handle_inside_a_stored_value_keeps_the_actor() -> None:
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    box = ray.put({"counter": counter})
    del counter
    gc.collect()
    assert ray.get(ray.get(box)["counter"].add.remote()) == 1
    del box
    gc.collect()
    wait_until(lambda: not is_alive(pid))


def test_classes_can_be_derived_and_use_super() -> None:
    class Base:
        def __init__(self, name: str) -> None:
            self.name = name

        def who(self) -> str:
            return "base " + self.name

    @ray.remote
    class Derived(Base):
        def __init__(self, name: str) -> None:
            super().__init__(name.upper())

        def who(self) -> str:
            return "derived " + super().who()

    assert ray.get(Derived.remote("x").who.remote()) == "derived base X"
    with pytest.raises(TypeError):

        class Further(Derived):  # type: ignore[misc,valid-type]
            pass


def test_actors_make_actors() -> None:
    @ray.remote
    class Parent:
        def __init__(self) -> None:
            self.children = [Counter.remote(10 * i) for i in range(3)]

        def ask(self) -> list[int]:
            return list(ray.get([child.add.remote() for child in self.children]))

    assert ray.get(Parent.remote().ask.remote()) == [1, 11, 21]


def test_an_actor_calls_itself_without_waiting() -> None:
    @ray.remote
    class Recursive:
        def start(self) -> Any:
            me = ray.get_runtime_context().current_actor
            return me.end.remote()

        def end(self) -> str:
            return "done"

    assert ray.get(ray.get(Recursive.remote().start.remote())) == "done"


class Remembering:
    """Keeps a handle of itself."""

    def __init__(self) -> None:
        self.own: Any = ray.get_runtime_context().current_actor

    def pid(self) -> int:
        return os.getpid()

    def ask_itself(self) -> Any:
        return [self.own.pid.remote(), self.own]


def test_a_handle_that_an_actor_has_of_itself_works_and_does_not_keep_it() -> None:
    actor = ray.remote(Remembering).remote()
    pid = ray.get(actor.pid.remote())
    ref, own = ray.get(actor.ask_itself.remote())
    assert own == actor
    assert hash(own) == hash(actor)
    assert ray.get(ref) == pid == ray.get(own.pid.remote())
    del own, ref
    del actor
    gc.collect()
    wait_until(lambda: not is_alive(pid))


class Finalized:
    limit = 7

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @staticmethod
    def twice(value: int) -> int:
        return 2 * value

    def pid(self) -> int:
        return os.getpid()

    def __del__(self) -> None:
        Path(self.folder, "finalized").touch()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_object_is_finalized_when_its_actor_ends_in_order(
    tmp_path: Path, concurrency: int
) -> None:
    actor = ray.remote(Finalized).options(max_concurrency=concurrency).remote(str(tmp_path))
    ray.get(actor.pid.remote())
    del actor
    gc.collect()
    wait_until((tmp_path / "finalized").exists)


def test_an_actor_class_has_what_its_class_has() -> None:
    made: Any = ray.remote(Finalized)
    assert (made.limit, made.twice(4)) == (7, 8)
    assert {"limit", "twice", "pid", "options", "remote"} <= set(dir(made))
    with pytest.raises(AttributeError):
        _ = made.nothing


def test_the_context_tells_an_actor_who_it_is() -> None:
    @ray.remote(num_cpus=1, resources={"slot": 1})
    class Curious:
        def ask(self) -> dict[str, Any]:
            context = ray.get_runtime_context()
            return {
                "id": context.get_actor_id(),
                "name": context.get_actor_name(),
                "task": context.get_task_name(),
                "resources": context.get_assigned_resources(),
                "again": context.was_current_actor_reconstructed,
                "me": context.current_actor,
            }

    curious = Curious.options(name="curious").remote()
    told = ray.get(curious.ask.remote())
    assert told["id"] == curious._actor_id.hex()
    assert told["name"] == "curious"
    assert told["task"] == "Curious.ask"
    assert told["resources"] == {"CPU": 1.0, "slot": 1.0}
    assert told["again"] is False
    assert told["me"] == curious
    assert ray.get_runtime_context().get_actor_id() is None


def test_special_methods() -> None:
    counter = Counter.remote(5)
    assert ray.get(counter.__ray_ready__.remote()) is True
    assert ray.get(counter.__ray_call__.remote(lambda self, k: self.value + k, 2)) == 7
    pid = ray.get(counter.pid.remote())
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(counter.__ray_terminate__.remote())
    wait_until(lambda: not is_alive(pid))


def test_a_large_array_is_seen_without_a_copy() -> None:
    numpy = pytest.importorskip("numpy")

    @ray.remote
    class Reader:
        def look(self, array: Any) -> tuple[bool, float]:
            return array.flags.writeable, float(array.sum())

    array = numpy.ones(1 << 20)
    assert ray.get(Reader.remote().look.remote(array)) == (False, float(1 << 20))


def test_objects_that_an_actor_returns_and_keeps_outlive_the_call() -> None:
    @ray.remote
    class Keeper:
        def keep(self, refs: list[Any]) -> None:
            self.refs = refs

        def make(self) -> Any:
            return [ray.put("made")]

        def read(self) -> Any:
            return ray.get(self.refs)

    keeper = Keeper.remote()
    ref = ray.put("given")
    ray.get(keeper.keep.remote([ref]))
    del ref
    gc.collect()
    assert ray.get(keeper.read.remote()) == ["given"]
    assert ray.get(ray.get(keeper.make.remote())[0]) == "made"


@pytest.mark.parametrize("has_repr", [False, True])
def test_what_an_actor_prints_carries_its_name_and_pid(capfd: Any, has_repr: bool) -> None:
    class Base:
        if has_repr:

            def __repr__(self) -> str:
                return "Talker(7)"

    @ray.remote
    class Talker(Base):
        def talk(self) -> int:
            print("hello from the actor")
            sys.stdout.flush()
            return os.getpid()

    talker = Talker.remote()
    pid = ray.get(talker.talk.remote())
    seen = ""

    def arrived() -> bool:
        nonlocal seen
        seen += capfd.readouterr().out
        return "hello from the actor" in seen

    wait_until(arrived)
    assert f"({'Talker(7)' if has_repr else 'Talker'} pid={pid})" in seen
