"""What libraries above Ray were seen to use: names, fields, resources of the node, small guarantees."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from importlib import import_module

import numpy

from oracle.cases import ENGINE, Gate, Tally, attempt, case, ray, run

MIB = 2**20

ActorPool = import_module(f"{ENGINE}.util").ActorPool
placement_groups = import_module(f"{ENGINE}.util.placement_group")
strategies = import_module(f"{ENGINE}.util.scheduling_strategies")


def get(ref):
    return ray.get(ref, timeout=15)


def within(seconds, holds):
    """Whether `holds()` is true before `seconds` are over."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def output_of(program):
    """The lines that a program prints which says `import ray`."""
    prefix = ["-m", "mobula.ray"] if ENGINE == "mobula" else []
    command = [sys.executable, *prefix, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.splitlines()


@ray.remote
def one():
    return 1


@ray.remote
class Worker:
    def double(self, value):
        return 2 * value

    @ray.method(num_returns=2)
    def two(self, value):
        return value, -value


# ---- names ----


@case(seconds_max=40)
def the_version_of_ray():
    return output_of(
        "import ray, importlib.metadata\n"
        "print(ray.__name__, ray.__version__, importlib.metadata.version('ray'))"
    )


@case(differs="the version of Mobula; where `import ray` means Mobula it is Ray's")
def the_version_of_the_package():
    return ray.__version__


@case
def request_resources():
    sdk = import_module(f"{ENGINE}.autoscaler.sdk")
    return (
        sdk.request_resources(num_cpus=1),
        sdk.request_resources(bundles=[{"CPU": 1}]),
        attempt(sdk.request_resources, num_cpus="1"),
        attempt(sdk.request_resources, bundles={"CPU": 1}),
    )


@case(seconds_max=40)
def experimental_state():
    api = import_module(f"{ENGINE}.experimental.state.api")
    return callable(api.list_actors), callable(api.get_actor), callable(api.list_tasks)


@case
def the_address_of_the_node():
    address = ray.util.get_node_ip_address()
    return type(address).__name__, "node:" + address in ray.cluster_resources()


# ---- resources ----


@case
def resources_that_name_the_node():
    resources = ray.cluster_resources()
    names = [name for name in resources if name.startswith("node:")]
    return len(names), "node:__internal_head__" in names, {resources[name] for name in names}


@case
def a_task_on_a_node_that_it_names():
    address = "node:" + ray.util.get_node_ip_address()
    return (
        get(one.options(resources={address: 0.001}).remote()),
        get(one.options(resources={"node:__internal_head__": 0.001}).remote()),
    )


@case
def an_actor_on_a_node_that_it_names():
    address = "node:" + ray.util.get_node_ip_address()
    return get(Worker.options(resources={address: 0.001}).remote().double.remote(2))


@case
def fractions_are_cut():
    @ray.remote
    def held():
        return ray.get_runtime_context().get_assigned_resources()

    return [get(held.options(num_cpus=cpus).remote()) for cpus in (0.12345678, 0.99999, 0.0001)]


@case
def default_actors_while_all_cpus_are_held():
    gate = Gate()

    @ray.remote
    def hold():
        gate.wait()

    cpus = int(ray.cluster_resources()["CPU"])
    holding = [hold.remote() for _ in range(cpus)]
    held = within(10, lambda: ray.available_resources().get("CPU", 0) == 0)
    answer = attempt(get, Worker.remote().double.remote(2))
    gate.open()
    ray.get(holding)
    return held, answer


# ---- placement groups ----


@case
def the_default_group_outside_of_a_group():
    strategy = strategies.PlacementGroupSchedulingStrategy(
        "default", placement_group_capture_child_tasks=True
    )
    return get(one.options(scheduling_strategy=strategy).remote())


@case
def the_default_group_in_the_old_option():
    return get(one.options(placement_group="default").remote())


@case
def the_table_of_one_group_by_its_id():
    state = import_module(f"{ENGINE}._private.state").state
    group = placement_groups.placement_group([{"CPU": 1}, {"CPU": 1}])
    get(group.ready())
    table = state.placement_group_table(group.id)
    placement_groups.remove_placement_group(group)
    return sorted(table["bundles_to_node_id"]), table["bundles"], table["state"]


# ---- pools ----


@case
def the_fields_of_an_actor_pool():
    pool = ActorPool([Worker.remote(), Worker.remote()])

    def fields():
        return [
            len(pool._idle_actors),
            len(pool._future_to_actor),
            sorted(pool._index_to_future),
            pool._next_task_index,
            pool._next_return_index,
            len(pool._pending_submits),
        ]

    found = [fields()]
    for number in range(3):
        pool.submit(lambda actor, value: actor.double.remote(value), number)
        found.append(fields())
    for _ in range(3):
        pool.get_next()
        found.append(fields())
    return found


@case
def methods_with_two_returns_in_an_actor_pool():
    pool = ActorPool([Worker.remote()])
    return list(pool.map(lambda actor, value: actor.two.remote(value), [1, 2]))


@case(differs="works; Ray has a TypeError")
def methods_with_two_returns_in_any_order():
    pool = ActorPool([Worker.remote()])

    def found():
        return sorted(pool.map_unordered(lambda actor, value: actor.two.remote(value), [1, 2]))

    return attempt(found)


# ---- actors ----


@case(seconds_max=60)
def an_actor_that_dies_in_its_constructor_is_made_again():
    tally = Tally()

    @ray.remote(max_restarts=3, max_task_retries=-1)
    class Frail:
        def __init__(self):
            if tally.add() < 3:
                os._exit(1)

        def get(self):
            return "made"

    return attempt(ray.get, Frail.remote().get.remote(), timeout=40), tally.count()


@case(seconds_max=60)
def an_actor_that_always_dies_in_its_constructor():
    tally = Tally()

    @ray.remote(max_restarts=1, max_task_retries=-1)
    class Hopeless:
        def __init__(self):
            tally.add()
            os._exit(1)

        def get(self):
            return "made"

    return attempt(ray.get, Hopeless.remote().get.remote(), timeout=40), tally.count()


# ---- objects and futures ----


@case
def futures_made_outside_of_the_loop():
    @ray.remote
    def itself(x):
        return x

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        futures = [itself.remote(number).as_future() for number in range(3)]
        return loop.run_until_complete(asyncio.gather(*futures))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@case
def arrays_are_aligned():
    kinds = [numpy.ones(3), numpy.ones(1000), numpy.ones(1000, "u1"), numpy.ones(MIB)]
    arrays = [ray.get(ray.put(array)) for array in kinds]
    return [array.ctypes.data % 64 for array in arrays], [array.flags.writeable for array in arrays]


@case(seconds_max=40)
def the_memory_that_an_object_takes():
    def taken():
        whole = ray.cluster_resources()["object_store_memory"]
        return whole - ray.available_resources().get("object_store_memory", 0)

    before_is_low = within(10, lambda: taken() < 20 * MIB)
    ref = ray.put(numpy.ones(30 * MIB, "u1"))
    during = within(10, lambda: 29 * MIB < taken() < 50 * MIB)
    del ref
    return before_is_low, during, within(10, lambda: taken() < 20 * MIB)


if __name__ == "__main__":
    run(object_store_memory=200 * MIB)
