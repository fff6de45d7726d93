"""Placement groups: what they reserve, what runs in them, and how they end."""

from __future__ import annotations

import contextlib
import importlib

from oracle.cases import ENGINE, Gate, attempt, case, message_of, plain, ray, run

util = importlib.import_module(f"{ENGINE}.util")
PlacementGroup = importlib.import_module(f"{ENGINE}.util.placement_group").PlacementGroup
strategies = importlib.import_module(f"{ENGINE}.util.scheduling_strategies")
InGroup = strategies.PlacementGroupSchedulingStrategy


@contextlib.contextmanager
def group(*bundles, **options):
    """A group that is removed at the end of the block."""
    made = util.placement_group(list(bundles), **options)
    try:
        yield made
    finally:
        util.remove_placement_group(made)


@ray.remote(num_cpus=1)
def where():
    return ray.get_runtime_context().get_placement_group_id()


@ray.remote(num_cpus=1)
def wait_for(gate, started=None):
    if started is not None:
        started.open()
    gate.wait()
    return "waited"


@ray.remote
class Place:
    def where(self):
        return ray.get_runtime_context().get_placement_group_id()


@case
def a_group_and_what_is_ready():
    with group({"CPU": 1, "slot": 1}, {"CPU": 1, "GPU": 1}) as made:
        ready = ray.get(made.ready())
        return (
            ready == made,
            made.wait(10),
            made.bundle_specs,
            made.bundle_count,
            made.is_empty,
            PlacementGroup.empty().is_empty,
            len(made.id.hex()),
        )


@case
def the_fields_of_the_table():
    with group({"CPU": 1}, name="fields", strategy="SPREAD") as made:
        made.wait(10)
        row = util.placement_group_table(made)
        row["stats"] = sorted(row["stats"])
        node = ray.get_runtime_context().get_node_id()
        row["bundles_to_node_id"] = row["bundles_to_node_id"] == {0: node}
        row["placement_group_id"] = row["placement_group_id"] == made.id.hex()
        return row


@case
def what_is_no_list_of_bundles():
    return [
        attempt(util.placement_group, bundles)
        for bundles in (
            [],
            {},
            [{}],
            [{"CPU": "a"}],
            [{"CPU": 0}],
            [{1: 1}],
            [5],
            ["a"],
            ({"CPU": 1},),
        )
    ]


@case(says=["Invalid placement group strategy BAD"])
def an_unknown_strategy():
    util.placement_group([{"CPU": 1}], strategy="BAD")


@case(says=["`lifetime` argument must be either `None` or 'detached'"])
def an_unknown_lifetime():
    util.placement_group([{"CPU": 1}], lifetime="x")


@case(says=["name 'twice' already exists"])
def a_name_that_is_taken():
    with group({"CPU": 1}, name="twice"):
        util.placement_group([{"CPU": 1}], name="twice")


@case
def names():
    with group({"CPU": 1}, name="found") as made:
        found = util.get_placement_group("found") == made
    return (
        found,
        attempt(util.get_placement_group, "found"),
        attempt(util.get_placement_group, "never"),
        attempt(util.get_placement_group, ""),
    )


@case
def tasks_and_actors_in_a_group():
    with group({"CPU": 1}, {"CPU": 1}) as made:
        inside = InGroup(made, 1)
        old = where.options(placement_group=made, placement_group_bundle_index=0)
        actor = Place.options(scheduling_strategy=inside).remote()
        return [
            ray.get(ref) == made.id.hex()
            for ref in (
                where.options(scheduling_strategy=inside).remote(),
                where.options(scheduling_strategy=InGroup(made)).remote(),
                old.remote(),
                actor.where.remote(),
                where.remote(),
                where.options(scheduling_strategy=InGroup(None)).remote(),
                where.options(placement_group=None).remote(),
            )
        ]


@case
def requests_that_fit_nowhere():
    with group({"CPU": 1, "slot": 1}, {"CPU": 1, "GPU": 1}) as made:
        return [
            message_of(lambda t=task: t.remote())
            for task in (
                where.options(scheduling_strategy=InGroup(made, 5)),
                where.options(scheduling_strategy=InGroup(made, -2)),
                where.options(scheduling_strategy=InGroup(made, 0), num_cpus=2),
                where.options(placement_group_bundle_index=1),
            )
        ]


@case
def an_actor_that_fits_nowhere():
    with group({"GPU": 1}) as made:
        return [
            message_of(lambda a=actor: a.remote())
            for actor in (
                Place.options(scheduling_strategy=InGroup(made)),
                Place.options(scheduling_strategy=InGroup(made), num_cpus=1),
            )
        ]


@case
def capture():
    @ray.remote(num_cpus=0)
    def parent():
        current = util.get_current_placement_group()
        context = ray.get_runtime_context()
        return (
            ray.get(where.remote()),
            current and current.id.hex(),
            context.should_capture_child_tasks_in_placement_group,
        )

    with group({"CPU": 1}) as made:
        captured = ray.get(parent.options(scheduling_strategy=InGroup(made, -1, True)).remote())
        free = ray.get(parent.options(scheduling_strategy=InGroup(made)).remote())
        id = made.id.hex()
        return [[one == id, two == id, three] for one, two, three in (captured, free)]


@case
def nothing_in_a_driver():
    context = ray.get_runtime_context()
    return (
        util.get_current_placement_group(),
        context.get_placement_group_id(),
        context.should_capture_child_tasks_in_placement_group,
    )


@case
def removal():
    gate, started = Gate(), Gate()
    made = util.placement_group([{"CPU": 1}, {"CPU": 1}])
    in_first = InGroup(made, 0)
    running = wait_for.options(scheduling_strategy=in_first, max_retries=0).remote(gate, started)
    started.wait()
    queued = where.options(scheduling_strategy=InGroup(made, 0)).remote()
    actor = Place.options(scheduling_strategy=InGroup(made, 1), num_cpus=1).remote()
    ray.get(actor.where.remote())
    not_yet = len(ray.wait([running, queued], timeout=1)[0])
    util.remove_placement_group(made)
    util.remove_placement_group(made)
    return (
        not_yet,
        attempt(ray.get, running),
        attempt(ray.get, queued),
        attempt(ray.get, actor.where.remote()),
        attempt(made.wait, 1),
        util.placement_group_table(made)["state"],
    )


@case
def groups_that_never_get_their_resources():
    with (
        group({"CPU": 100}) as large,
        group({"CPU": 1}, {"CPU": 1}, strategy="STRICT_SPREAD") as spread,
    ):
        ready = large.ready()
        states = [util.placement_group_table(one)["state"] for one in (large, spread)]
        waited = [large.wait(0.2), spread.wait(0.2), len(ray.wait([ready], timeout=0.2)[0])]
    return states, waited, attempt(ray.get, ready)


@case
def what_is_no_group():
    with group({"CPU": 1}) as made:
        return plain(
            [
                attempt(made.wait, "a"),
                attempt(util.remove_placement_group, 5),
                attempt(util.placement_group_table, 5),
            ]
        )


if __name__ == "__main__":
    run(num_gpus=2, resources={"slot": 2})
