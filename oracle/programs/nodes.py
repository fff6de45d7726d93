"""What nodes, resources and the timeline say of the session."""

from __future__ import annotations

import json
import os
import time

from oracle.cases import Gate, case, ray, run


@ray.remote
def named(x=None):
    return x


def until(look, good, seconds=15.0):
    """What `look` returns once `good` holds of it, or at the end."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if good(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(0.1)


@case
def nodes_of_the_driver():
    (node,) = ray.nodes()
    return node["Alive"], node["alive"], sorted(node)


@case
def the_resources_of_the_node():
    (node,) = ray.nodes()
    return node["Resources"]["CPU"], sorted(key for key in node["Resources"] if ":" not in key)


@case
def the_labels_of_the_node():
    (node,) = ray.nodes()
    return sorted(node["Labels"])


@case
def cluster_resources():
    found = ray.cluster_resources()
    return found["CPU"], sorted(key for key in found if ":" not in key)


@case
def available_resources_while_a_task_runs():
    gate, started = Gate(), Gate()

    @ray.remote(num_cpus=3)
    def held():
        started.open()
        gate.wait()

    ref = held.remote()
    started.wait()
    seen = until(lambda: ray.available_resources().get("CPU"), lambda cpus: cpus == 1.0)
    gate.open()
    ray.get(ref)
    return seen, until(lambda: ray.available_resources().get("CPU"), lambda cpus: cpus == 4.0)


@case
def resources_in_use_up_to_the_last_are_left_out():
    gate, started = Gate(), Gate()

    @ray.remote(num_cpus=4)
    def held():
        started.open()
        gate.wait()

    ref = held.remote()
    started.wait()
    seen = until(lambda: ray.available_resources().get("CPU", "none"), lambda cpus: cpus == "none")
    gate.open()
    ray.get(ref)
    return seen


@case
def nodes_inside_of_a_task():
    @ray.remote
    def look():
        return len(ray.nodes()), ray.cluster_resources()["CPU"]

    return ray.get(look.remote())


@case
def get_gpu_ids_in_driver_and_task():
    @ray.remote
    def ids():
        return ray.get_gpu_ids()

    return ray.get_gpu_ids(), ray.get(ids.remote())


@case
def the_timeline_of_a_file():
    ray.get(named.options(name="drawn").remote())
    path = os.path.join(os.environ.get("ORACLE_TEMP") or "/tmp", "timeline.json")
    answer = ray.timeline(filename=path)
    with open(path) as file:
        return answer, type(json.load(file)).__name__


@case
def the_timeline_as_a_value():
    return type(ray.timeline()).__name__


if __name__ == "__main__":
    run()
