"""Placement groups: bundles that are reserved together, what runs in them, and what becomes of it."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import leftovers
import mobula as ray
import pytest
from conftest import AGAINST_RAY, start
from mobula.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from mobula.util.placement_group import PlacementGroup
from mobula.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from mobula.util.scheduling_strategies import PlacementGroupSchedulingStrategy as InGroup

pytestmark = pytest.mark.usefixtures("shared_session")


@pytest.fixture
def make() -> Iterator[Callable[..., PlacementGroup]]:
    """placement_group(), of groups that are removed after the test, with all they hold given back."""
    made: list[PlacementGroup] = []

    def make_it(*args: Any, **options: Any) -> PlacementGroup:
        group = placement_group(*args, **options)
        made.append(group)
        return group

    yield make_it
    for group in made:
        remove_placement_group(group)
    wait_for_resources(CPU=2, GPU=4, slot=1, token=2)


def wait_for_resources(**amounts: float) -> None:
    """Until so much is available."""
    deadline = time.monotonic() + 30
    while True:
        available = ray.available_resources()
        if all(available.get(name, 0) == amount for name, amount in amounts.items()):
            return
        assert time.monotonic() < deadline, f"{available} is left, not {amounts}"
        time.sleep(0.05)


def state_of(group: PlacementGroup) -> str:
    return str(placement_group_table(group)["state"])


@ray.remote(num_cpus=1)
def where() -> tuple[str | None, bool, list[int]]:
    context = ray.get_runtime_context()
    return (
        context.get_placement_group_id(),
        context.should_capture_child_tasks_in_placement_group,
        [int(gpu) for gpu in ray.get_gpu_ids()],
    )


@ray.remote(num_cpus=1)
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@ray.remote(num_cpus=1)
def stay(mark: str) -> None:
    """Says by a file that it has started, and stays."""
    Path(mark).touch()
    time.sleep(1000)


def start_staying(mark: Path, **options: Any) -> Any:
    """The ref of a task that runs."""
    ref = stay.options(**options).remote(str(mark))
    deadline = time.monotonic() + 30
    while not mark.exists():
        assert time.monotonic() < deadline, "the task has not started"
        time.sleep(0.01)
    return ref


@ray.remote
class Place:
    def where(self) -> str | None:
        return ray.get_runtime_context().get_placement_group_id()

    def child(self) -> str | None:
        group: str | None = ray.get(where.remote())[0]
        return group


# ---- making groups


def test_a_group_is_ready_when_its_resources_are_reserved(make: Any) -> None:
    group = make([{"CPU": 1, "token": 1}, {"CPU": 1, "GPU": 1}])
    ready = ray.get(group.ready(), timeout=30)
    assert ready == group and hash(ready) == hash(group)
    assert ready.bundle_specs == [{"CPU": 1.0, "token": 1.0}, {"CPU": 1.0, "GPU": 1.0}]
    assert group.wait(5) is True
    assert group.bundle_count == 2 and not group.is_empty
    available = ray.available_resources()
    assert available.get("CPU", 0) == 0
    assert available["GPU"] == 3 and available["token"] == 1


def test_the_table_says_what_is_reserved_where(make: Any) -> None:
    group = make([{"CPU": 1}], strategy="STRICT_PACK", name="table")
    assert group.wait(30)
    row = placement_group_table(group)
    assert row["placement_group_id"] == group.id.hex()
    assert row["name"] == "table" and row["strategy"] == "STRICT_PACK"
    assert row["state"] == "CREATED" and row["bundles"] == {0: {"CPU": 1.0}}
    assert row["bundles_to_node_id"] == {0: ray.get_runtime_context().get_node_id()}
    assert row["stats"]["scheduling_state"] == "FINISHED"
    assert placement_group_table()[group.id.hex()] == row


@pytest.mark.parametrize(
    "bundles",
    [
        [],
        {},
        [{}],
        [{"CPU": "a"}],
        [{"CPU": 0}],
        [{1: 1}],
        [{"CPU": 1}, {"CPU": 0}],
        [5],
        ["a"],
        ({"CPU": 1},),
        None,
    ],
)
def test_what_is_no_list_of_bundles_is_refused(bundles: Any) -> None:
    with pytest.raises(ValueError, match=r"[Bb]undles"):
        placement_group(bundles)


@pytest.mark.mobula_only
@pytest.mark.parametrize("bundle", [{"CPU": -1}, {"CPU": float("nan")}, {"GPU": 1.5}])
def test_impossible_amounts_in_a_bundle_are_refused(bundle: Any) -> None:
    with pytest.raises(ValueError):
        placement_group([bundle])


def test_unknown_strategies_and_lifetimes_are_refused() -> None:
    with pytest.raises(ValueError, match="Invalid placement group strategy BAD"):
        placement_group([{"CPU": 1}], strategy="BAD")
    with pytest.raises(ValueError, match="must be either `None` or 'detached'"):
        placement_group([{"CPU": 1}], lifetime="x")
    with pytest.raises(TypeError):
        placement_group([{"CPU": 1}], name=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only works with STRICT_PACK"):
        placement_group([{"CPU": 1}], _soft_target_node_id="ab")


def test_one_that_the_node_can_never_hold_stays_pending(make: Any) -> None:
    for group in (
        make([{"CPU": 100}]),
        make([{"CPU": 1}, {"CPU": 1}, {"CPU": 1}]),
        make([{"token": 1}] * 2, strategy="STRICT_SPREAD"),
        make([{"nothing like that": 1}]),
    ):
        assert not group.wait(0.2)
        assert state_of(group) == "PENDING"
        assert placement_group_table(group)["bundles_to_node_id"][0] == ""


def test_a_group_waits_for_running_tasks_and_gets_what_they_leave(
    make: Any, tmp_path: Path
) -> None:
    @ray.remote(num_cpus=1)
    def run(number: int) -> int:
        (tmp_path / str(number)).touch()
        time.sleep(0.5)
        return number

    running = [run.remote(number) for number in range(2)]
    # One that the group comes before would wait until the group is removed.
    end = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < end
        time.sleep(0.005)
    group = make([{"CPU": 2}])
    assert group.wait(30)
    assert ray.get(running, timeout=60) == [0, 1]


@pytest.mark.mobula_only  # In Ray it waits for all tasks before it.
def test_a_group_is_placed_while_other_tasks_keep_coming(make: Any) -> None:
    pending = [sleep.remote(0.01) for _ in range(300)]
    group = make([{"CPU": 2}])
    assert group.wait(30)
    assert len(ray.wait(pending, num_returns=len(pending), timeout=0)[1]) > 0
    remove_placement_group(group)
    assert len(ray.get(pending, timeout=60)) == 300


def test_a_second_group_waits_until_the_first_is_removed(make: Any) -> None:
    first = make([{"CPU": 2}])
    assert first.wait(30)
    second = make([{"CPU": 1}])
    assert not second.wait(0.2)
    remove_placement_group(first)
    assert second.wait(30)


def test_who_waits_for_a_group_in_a_task_gives_up_the_cpu_that_it_needs(make: Any) -> None:
    @ray.remote(num_cpus=2)
    def wait_inside() -> tuple[bool, str]:
        group = placement_group([{"CPU": 2}])
        there = ray.get(group.ready(), timeout=30) == group
        remove_placement_group(group)
        return there, placement_group_table(group)["state"]

    assert ray.get(wait_inside.remote(), timeout=60) == (True, "REMOVED")


def test_groups_travel_and_compare_by_what_they_name(make: Any) -> None:
    group = make([{"CPU": 1}])
    copy = pickle.loads(pickle.dumps(group))
    assert copy == group and copy.id == group.id and copy.bundle_specs == group.bundle_specs

    @ray.remote(num_cpus=0)
    def look(there: PlacementGroup) -> tuple[bool, int]:
        return there.wait(30), there.bundle_count

    assert ray.get(look.remote(group)) == (True, 1)
    assert PlacementGroup.empty().is_empty and PlacementGroup.empty() == PlacementGroup.empty()
    assert group != PlacementGroup.empty() and group != 5


# ---- tasks and actors in it


def test_tasks_run_in_the_group_and_outside_of_it(make: Any) -> None:
    group = make([{"CPU": 1}, {"CPU": 1, "GPU": 1}])
    assert ray.get(where.options(scheduling_strategy=InGroup(group)).remote())[0] == group.id.hex()
    both = where.options(scheduling_strategy=InGroup(group, 1, True), num_gpus=1)
    in_group, captures, gpus = ray.get(both.remote())
    assert (in_group, captures) == (group.id.hex(), True) and len(gpus) == 1
    outside = where.options(num_cpus=0)
    assert ray.get(outside.remote())[:2] == (None, False)
    assert ray.get(where.options(num_cpus=0, scheduling_strategy=InGroup(None)).remote())[0] is None
    assert get_current_placement_group() is None
    assert ray.get_runtime_context().get_placement_group_id() is None


def test_the_options_of_old_programs_work_too(make: Any) -> None:
    group = make([{"CPU": 1}])
    old = where.options(placement_group=group, placement_group_bundle_index=0)
    assert ray.get(old.remote())[0] == group.id.hex()
    assert ray.get(where.options(placement_group=None).remote())[0] is None
    actor = Place.options(placement_group=group).remote()
    assert ray.get(actor.where.remote()) == group.id.hex()
    with pytest.raises(ValueError, match="bundle index must be -1"):
        where.options(placement_group_bundle_index=1).remote()


def test_no_more_runs_in_a_bundle_than_it_reserves(make: Any) -> None:
    @ray.remote(num_cpus=1)
    def overlap(seconds: float) -> tuple[float, float]:
        begin = time.time()
        time.sleep(seconds)
        return begin, time.time()

    group = make([{"CPU": 1}, {"CPU": 1}])
    assert group.wait(30)
    in_one = overlap.options(scheduling_strategy=InGroup(group, 0))
    times = sorted(ray.get([in_one.remote(0.1) for _ in range(4)], timeout=60))
    assert all(one[1] <= next_one[0] for one, next_one in itertools.pairwise(times))


def test_tasks_without_resources_wait_for_their_group_too(make: Any) -> None:
    first = make([{"CPU": 2}])
    assert first.wait(30)
    second = make([{"CPU": 1}])
    free = where.options(num_cpus=0, scheduling_strategy=InGroup(second))
    ref = free.remote()
    assert ray.wait([ref], timeout=0.3)[0] == []
    remove_placement_group(first)
    assert ray.get(ref, timeout=30)[0] == second.id.hex()


def test_requests_that_fit_no_bundle_are_refused_at_once(make: Any) -> None:
    group = make([{"CPU": 1, "token": 1}, {"CPU": 1}])
    with pytest.raises(ValueError, match=r"bundle index 5 is invalid.*0-2"):
        where.options(scheduling_strategy=InGroup(group, 5)).remote()
    with pytest.raises(ValueError, match="bundle index -2 is invalid"):
        where.options(scheduling_strategy=InGroup(group, -2)).remote()
    with pytest.raises(ValueError, match="Cannot schedule where with the placement group"):
        where.options(scheduling_strategy=InGroup(group), num_cpus=2).remote()
    with pytest.raises(ValueError, match="cannot fit into any bundles"):
        Place.options(scheduling_strategy=InGroup(group), num_gpus=1).remote()


@pytest.mark.mobula_only
def test_a_request_that_fits_another_bundle_only_fails_and_says_so(make: Any) -> None:
    group = make([{"CPU": 1, "token": 1}, {"CPU": 1}])
    task = where.options(scheduling_strategy=InGroup(group, 1), resources={"token": 1})
    with pytest.raises(ray.exceptions.TaskUnschedulableError, match="bundle 1 of its placement"):
        ray.get(task.remote(), timeout=30)
    actor = Place.options(scheduling_strategy=InGroup(group, 1), resources={"token": 1}).remote()
    with pytest.raises(ray.exceptions.ActorUnschedulableError, match="bundle 1 of its placement"):
        ray.get(actor.where.remote(), timeout=30)


def test_an_actor_in_a_bundle_holds_what_it_asked_for(make: Any) -> None:
    group = make([{"CPU": 1}])
    actor = Place.options(scheduling_strategy=InGroup(group, 0), num_cpus=1).remote()
    assert ray.get(actor.where.remote(), timeout=30) == group.id.hex()
    waits = where.options(scheduling_strategy=InGroup(group, 0)).remote()
    assert ray.wait([waits], timeout=0.3)[0] == []
    ray.kill(actor)
    assert ray.get(waits, timeout=30)[0] == group.id.hex()


def test_an_actor_of_no_resources_leaves_its_bundle_to_others(make: Any) -> None:
    group = make([{"CPU": 1}])
    actors = [Place.options(scheduling_strategy=InGroup(group)).remote() for _ in range(3)]
    assert ray.get([a.where.remote() for a in actors], timeout=60) == [group.id.hex()] * 3
    task = where.options(scheduling_strategy=InGroup(group)).remote()
    assert ray.get(task, timeout=30)[0] == group.id.hex()


def test_a_parent_that_waits_in_its_bundle_leaves_it_to_its_child(make: Any) -> None:
    group = make([{"CPU": 1}])

    @ray.remote(num_cpus=1)
    def parent() -> Any:
        return ray.get(where.remote())

    strategy = InGroup(group, 0, placement_group_capture_child_tasks=True)
    in_group, captures, _ = ray.get(
        parent.options(scheduling_strategy=strategy).remote(), timeout=30
    )
    assert (in_group, captures) == (group.id.hex(), True)


# ---- capture


def test_children_are_in_the_group_only_if_it_captures_them(make: Any) -> None:
    group = make([{"CPU": 1}])

    @ray.remote(num_cpus=0)
    def parent(how: str) -> str | None:
        if how == "escape":
            out = where.options(num_cpus=0, scheduling_strategy=InGroup(None))
            return ray.get(out.remote())[0]  # type: ignore[no-any-return]
        if how == "current":
            return get_current_placement_group().id.hex()  # type: ignore[union-attr]
        return ray.get(where.remote())[0]  # type: ignore[no-any-return]

    @ray.remote(num_cpus=0)
    def grandparent() -> str | None:
        return ray.get(parent.remote("plain"))  # type: ignore[no-any-return]

    captures = InGroup(group, -1, True)
    run = parent.options(scheduling_strategy=captures)
    assert ray.get(run.remote("plain"), timeout=30) == group.id.hex()
    assert ray.get(run.remote("escape"), timeout=30) is None
    assert ray.get(run.remote("current"), timeout=30) == group.id.hex()
    grand = grandparent.options(scheduling_strategy=captures)
    assert ray.get(grand.remote(), timeout=30) == group.id.hex()
    plain = parent.options(scheduling_strategy=InGroup(group))
    assert ray.get(plain.remote("plain"), timeout=30) is None


def test_captured_children_that_fit_no_bundle_are_refused_at_once(make: Any) -> None:
    @ray.remote(num_cpus=2)
    def two() -> int:
        return 2

    @ray.remote(num_cpus=0, resources={"token": 1})
    def token() -> int:
        return 3

    @ray.remote(num_cpus=2)
    class Two:
        def two(self) -> int:
            return 2

    @ray.remote
    class PlacedByACpu:
        pass

    @ray.remote(num_cpus=0)
    def parent() -> list[str]:
        said = []
        for submit in (two.remote, token.remote, Two.remote, PlacedByACpu.remote, two.remote):
            try:
                submit()
                said.append("nothing")
            except ValueError as error:
                said.append(str(error))
        return said

    group = make([{"slot": 1}])
    run = parent.options(scheduling_strategy=InGroup(group, -1, True))
    said = ray.get(run.remote(), timeout=60)
    bundles = "cannot fit into any bundles for the placement group, [{'slot': 1.0}]."
    for text, name, request in (
        (said[0], "two", "{'CPU': 2}"),
        (said[1], "token", "{'token': 1, 'CPU': 0}"),
        (said[2], "Two", "{'CPU': 2}"),
        (said[4], "two", "{'CPU': 2}"),
    ):
        assert text.startswith("Cannot schedule ")
        because = (
            f"{name} with the placement group because the resource request {request} {bundles}"
        )
        assert text.endswith(because)
    assert "the actor requires 1 CPU for creation" in said[3]
    # The same worker, in no group, is not held to what its last task was told.
    assert ray.get(parent.remote(), timeout=60) == ["nothing"] * 5


def test_who_names_a_strategy_is_not_captured(make: Any) -> None:
    @ray.remote(num_cpus=0)
    def parent() -> list[str | None]:
        refs = [
            where.options(num_cpus=0, scheduling_strategy=one).remote()
            for one in (
                "DEFAULT",
                "SPREAD",
                NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), False),
                InGroup(None),
            )
        ]
        refs += [where.options(num_cpus=0).remote()]
        return [place for place, _, _ in ray.get(refs)]

    group = make([{"CPU": 1}])
    run = parent.options(scheduling_strategy=InGroup(group, -1, True))
    assert ray.get(run.remote(), timeout=60) == [None] * 4 + [group.id.hex()]


@pytest.mark.mobula_only
def test_a_parent_that_goes_on_in_its_bundle_gets_its_cpu_back(make: Any, tmp_path: Path) -> None:
    log = tmp_path / "ran"

    @ray.remote(num_cpus=1)
    def child(number: int) -> int:
        time.sleep(0.02)
        with log.open("a") as file:
            file.write(f"{number}\n")
        return number

    @ray.remote(num_cpus=1)
    def parent() -> tuple[bool, int]:
        refs = [child.remote(number) for number in range(1000)]
        ray.wait(refs, num_returns=3)
        # It works on. Within a while its children give up the CPU that it lent them.
        last, quiet_since = -1, time.monotonic()
        deadline = time.monotonic() + 30
        while time.monotonic() < min(deadline, quiet_since + 1.0):
            done = len(log.read_text().splitlines())
            if done != last:
                last, quiet_since = done, time.monotonic()
        for ref in refs:
            ray.cancel(ref)
        return time.monotonic() < deadline, last

    group = make([{"CPU": 1}])
    run = parent.options(scheduling_strategy=InGroup(group, 0, True), max_retries=0)
    is_quiet, done = ray.get(run.remote(), timeout=120)
    assert is_quiet
    assert 3 <= done < 900


def test_an_actor_captures_what_it_submits_and_the_actors_that_it_makes(make: Any) -> None:
    group = make([{"CPU": 1}])

    @ray.remote(num_cpus=0)
    class Parent:
        def child(self) -> str | None:
            return ray.get(where.remote())[0]  # type: ignore[no-any-return]

        def actor(self) -> str | None:
            return ray.get(Place.options(num_cpus=0).remote().where.remote())  # type: ignore[no-any-return]

    parent = Parent.options(scheduling_strategy=InGroup(group, -1, True)).remote()
    assert ray.get(parent.child.remote(), timeout=30) == group.id.hex()
    assert ray.get(parent.actor.remote(), timeout=30) == group.id.hex()
    other = Parent.options(scheduling_strategy=InGroup(group)).remote()
    assert ray.get(other.child.remote(), timeout=30) is None


# ---- removal


def test_removal_fails_tasks_that_wait_and_kills_what_runs(make: Any, tmp_path: Path) -> None:
    group = make([{"CPU": 1}, {"CPU": 1}])
    in_first = InGroup(group, 0)
    started = start_staying(tmp_path / "mark", scheduling_strategy=in_first, max_retries=0)
    waits = where.options(scheduling_strategy=in_first).remote()
    actor = Place.options(scheduling_strategy=InGroup(group, 1), num_cpus=1).remote()
    assert ray.get(actor.where.remote(), timeout=30) == group.id.hex()
    assert ray.wait([started, waits], timeout=1)[0] == []
    remove_placement_group(group)
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(started, timeout=30)
    with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
        ray.get(waits, timeout=30)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.where.remote(), timeout=30)
    wait_for_resources(CPU=2)
    assert state_of(group) == "REMOVED"


@pytest.mark.mobula_only
def test_what_would_be_tried_again_in_a_removed_group_fails_with_the_reason(
    make: Any, tmp_path: Path
) -> None:
    group = make([{"CPU": 2}])
    strategy = InGroup(group)
    started = start_staying(tmp_path / "mark", scheduling_strategy=strategy, max_retries=3)
    actor = Place.options(scheduling_strategy=strategy, num_cpus=1, max_restarts=-1).remote()
    assert ray.get(actor.where.remote(), timeout=30) == group.id.hex()
    waits = Place.options(scheduling_strategy=strategy, num_cpus=1).remote().where.remote()
    assert ray.wait([started, waits], timeout=1)[0] == []
    remove_placement_group(group)
    with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
        ray.get(started, timeout=30)
    with pytest.raises(ray.exceptions.ActorPlacementGroupRemoved):
        ray.get(waits, timeout=30)
    wait_until_dead(actor)
    later = where.options(scheduling_strategy=strategy).remote()
    with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
        ray.get(later, timeout=30)


def wait_until_dead(actor: Any) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            ray.get(actor.where.remote(), timeout=30)
        except ray.exceptions.ActorUnavailableError:
            continue
        except (ray.exceptions.ActorDiedError, ray.exceptions.ActorPlacementGroupRemoved):
            return
    raise AssertionError("the actor came back")


def test_a_removed_group_does_not_exist_any_more(make: Any) -> None:
    group = make([{"CPU": 1}], name="gone")
    assert group.wait(30)
    remove_placement_group(group)
    remove_placement_group(group)
    with pytest.raises(Exception, match="does not exist"):
        group.wait(1)
    with pytest.raises(ValueError, match="Failed to look up placement group with name: gone"):
        get_placement_group("gone")


def test_a_wait_of_no_time_says_how_things_are(make: Any) -> None:
    first = make([{"CPU": 2}])
    assert first.wait(30)
    assert first.wait(0)
    assert not make([{"CPU": 1}]).wait(0)


def test_ready_and_wait_of_a_pending_group_end_with_its_removal(make: Any) -> None:
    group = make([{"CPU": 100}])
    ready = group.ready()

    @ray.remote(num_cpus=0)
    def wait_for(there: PlacementGroup) -> str:
        try:
            return str(there.wait(1000))
        except Exception as error:
            return str(error)

    waiting = wait_for.remote(group)
    assert ray.wait([ready, waiting], timeout=1)[0] == []
    remove_placement_group(group)
    with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
        ray.get(ready, timeout=30)
    if not AGAINST_RAY:
        assert "does not exist" in ray.get(waiting, timeout=30)


def test_nothing_but_a_group_can_be_waited_for_or_removed(make: Any) -> None:
    group = make([{"CPU": 1}])
    with pytest.raises(TypeError):
        group.wait("a")
    with pytest.raises(AttributeError):
        remove_placement_group(5)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        placement_group_table(5)  # type: ignore[arg-type]


def test_groups_made_and_removed_again_and_again_leave_nothing(make: Any) -> None:
    for _ in range(30):
        group = placement_group([{"CPU": 1, "GPU": 0.5}, {"CPU": 1}])
        assert group.wait(30)
        ray.get(where.options(scheduling_strategy=InGroup(group)).remote(), timeout=30)
        remove_placement_group(group)
    wait_for_resources(CPU=2, GPU=4)


# ---- names


def test_a_name_finds_its_group_and_is_given_once(make: Any) -> None:
    group = make([{"CPU": 1}], name="n1")
    assert get_placement_group("n1") == group
    assert get_placement_group("n1").bundle_specs == [{"CPU": 1.0}]
    with pytest.raises(ray.exceptions.RaySystemError, match="name 'n1' already exists"):
        placement_group([{"CPU": 1}], name="n1")
    remove_placement_group(group)
    again = make([{"CPU": 1}], name="n1")
    assert get_placement_group("n1") == again and again != group
    for name in ("zz", "never given"):
        with pytest.raises(ValueError, match="Failed to look up placement group with name"):
            get_placement_group(name)
    with pytest.raises(ValueError, match="non-empty"):
        get_placement_group("")


# ---- other parts see it


def test_libraries_run_beside_a_group(make: Any) -> None:
    from mobula.util.multiprocessing import Pool

    group = make([{"CPU": 1}])
    assert group.wait(30)
    with Pool(1) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]


@pytest.mark.mobula_only
def test_the_state_api_and_the_command_line_list_groups(make: Any) -> None:
    from mobula.util.state import get_placement_group as get_row
    from mobula.util.state import list_placement_groups

    group = make([{"CPU": 1}], name="listed")
    assert group.wait(30)
    rows = list_placement_groups(filters=[("name", "=", "listed"), ("state", "=", "CREATED")])
    assert [row.placement_group_id for row in rows] == [group.id.hex()]
    assert get_row(group.id.hex()).state == "CREATED"
    shown = subprocess.run(
        [sys.executable, "-m", "mobula", "list", "placement-groups"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
    )
    assert shown.returncode == 0, shown.stderr
    assert group.id.hex() in shown.stdout and "listed" in shown.stdout


@pytest.mark.mobula_only  # Ray answers with a dashboard only.
def test_rows_of_actors_and_tasks_say_their_group(make: Any, tmp_path: Path) -> None:
    from mobula.util import state

    @ray.remote
    class Placed:
        def where(self) -> int:
            return os.getpid()

    group = make([{"CPU": 1}])
    assert group.wait(30)
    placed = Placed.options(num_cpus=0.5, scheduling_strategy=InGroup(group)).remote()
    ray.get(placed.where.remote(), timeout=60)
    other = Placed.options(num_cpus=0).remote()
    ray.get(other.where.remote(), timeout=60)
    rows = {row.actor_id: row for row in state.list_actors(detail=True)}
    assert rows[placed._actor_id.hex()].placement_group_id == group.id.hex()
    assert rows[placed._actor_id.hex()].required_resources == {"CPU": 0.5}
    assert rows[placed._actor_id.hex()].is_detached is False
    assert rows[other._actor_id.hex()].placement_group_id is None
    assert rows[other._actor_id.hex()].required_resources == {}

    @ray.remote(num_cpus=0.5)
    def waits() -> None:
        while not (tmp_path / "go").exists():
            time.sleep(0.005)

    waiting = waits.options(scheduling_strategy=InGroup(group)).remote()
    (row,) = state.list_tasks(detail=True, filters=[("name", "=", "waits")])
    assert row.placement_group_id == group.id.hex()
    leftovers.wait_until(lambda: state.get_task(waiting).state == "RUNNING", "it runs")
    assert state.get_task(waiting).placement_group_id == group.id.hex()
    (tmp_path / "go").touch()
    ray.get(waiting, timeout=60)
    leftovers.wait_until(lambda: state.get_task(waiting).state == "FINISHED", "it has ended")
    assert state.get_task(waiting).placement_group_id == group.id.hex()
    unplaced = waits.remote()
    ray.get(unplaced, timeout=60)
    leftovers.wait_until(lambda: state.get_task(unplaced).state == "FINISHED", "it has ended")
    assert state.get_task(unplaced).placement_group_id is None


@pytest.mark.mobula_only
def test_groups_end_with_their_job_unless_they_are_detached(
    no_session: None, start_script: Callable[..., subprocess.Popen[str]]
) -> None:
    session = start()
    program = start_script(
        "import sys, mobula as ray\n"
        "from mobula.util import placement_group\n"
        "ray.init(address=sys.argv[1], namespace='here')\n"
        "groups = [placement_group([{'CPU': 1}], name='mine'),\n"
        "          placement_group([{'CPU': 1}], name='stays', lifetime='detached')]\n"
        "assert all(group.wait(30) for group in groups)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n",
        session["gcs_address"] if "gcs_address" in session else session.address_info["address"],
        stdin=subprocess.PIPE,
    )
    assert program.stdout is not None and program.stdout.readline() == "ready\n"
    wait_for_resources(CPU=0)
    program.kill()
    program.wait()
    wait_for_resources(CPU=1)
    states = {row["name"]: row["state"] for row in placement_group_table().values()}
    assert states == {"mine": "REMOVED", "stays": "CREATED"}
