"""The runtime context, and what tasks are given: CPUs, GPUs, custom resources, names."""

from __future__ import annotations

import os
import re

from oracle.cases import Gate, attempt, case, plain, ray, run


def shape(text):
    """What an id looks like: `hex` and its length, else the value itself."""
    if isinstance(text, str) and re.fullmatch(r"[0-9a-f]+", text):
        return f"{len(text)} hex digits"
    return plain(text)


def here(*names):
    """What the methods `names` of the runtime context return or raise in this process. Of attributes,
    the type."""
    found = {}
    for name in names:
        value = attempt(lambda name=name: getattr(ray.get_runtime_context(), name))
        if callable(value):
            found[name] = shape(attempt(value))
        else:
            refused = isinstance(value, str) and value.startswith("raised ")
            found[name] = value if refused else type(value).__name__
    return found


@ray.remote
def in_task(*names):
    return here(*names)


def both(*names):
    return {"driver": here(*names), "task": ray.get(in_task.remote(*names))}


@case
def ids_of_the_context():
    return both("get_job_id", "get_node_id", "get_worker_id", "get_task_id")


@case
def names_of_the_context():
    return both("get_task_name", "get_task_function_name")


@case
def what_the_context_says_of_actors():
    return both(
        "get_actor_id", "get_actor_name", "current_actor", "was_current_actor_reconstructed"
    )


@case
def what_the_context_says_of_placement_groups():
    return both("get_placement_group_id", "should_capture_child_tasks_in_placement_group")


@case
def what_the_context_says_of_resources():
    return both("get_assigned_resources")


@case
def the_gpus_that_the_context_names():
    @ray.remote
    def gpus():
        context = ray.get_runtime_context()
        return context.get_accelerator_ids()["GPU"], context.get_resource_ids()["GPU"]

    ids, again = ray.get(gpus.options(num_gpus=2).remote())
    return ids == again, sorted(ids), ray.get(gpus.remote())


@case
def what_the_context_says_of_the_environment():
    return both("get_runtime_env_string", "runtime_env", "namespace", "gcs_address", "worker")


@case
def what_the_context_says_of_cancelling():
    return both("is_canceled")


@case
def deprecated_attributes_of_the_context():
    return both("job_id", "node_id", "task_id", "actor_id", "current_placement_group_id")


@case
def the_type():
    return type(ray.get_runtime_context()).__name__


@case
def the_public_names():
    return sorted(name for name in dir(ray.get_runtime_context()) if not name.startswith("_"))


@case
def ids_in_one_session_agree():
    @ray.remote
    def ids():
        context = ray.get_runtime_context()
        return context.get_job_id(), context.get_node_id(), context.get_worker_id()

    context = ray.get_runtime_context()
    job, node, worker = ray.get(ids.remote())
    return (
        job == context.get_job_id(),
        node == context.get_node_id(),
        worker == context.get_worker_id(),
    )


@case
def the_node_id_is_that_of_nodes():
    return ray.get_runtime_context().get_node_id() == ray.nodes()[0]["NodeID"]


@case
def task_ids_differ():
    @ray.remote
    def task_id():
        return ray.get_runtime_context().get_task_id()

    return len(set(ray.get([task_id.remote() for _ in range(5)])))


@case
def the_task_id_is_that_of_the_ref():
    @ray.remote
    def task_id():
        return ray.get_runtime_context().get_task_id()

    ref = task_id.remote()
    return ray.get(ref) == ref.task_id().hex()


@case
def the_name_of_a_task():
    @ray.remote
    def names():
        context = ray.get_runtime_context()
        return context.get_task_name(), context.get_task_function_name()

    return ray.get(names.remote()), ray.get(names.options(name="mine").remote())


@case
def assigned_resources():
    @ray.remote
    def assigned():
        return ray.get_runtime_context().get_assigned_resources()

    return (
        ray.get(assigned.remote()),
        ray.get(assigned.options(num_cpus=2, resources={"slot": 1}).remote()),
        ray.get(assigned.options(num_cpus=0).remote()),
        ray.get(assigned.options(num_cpus=0.5, num_gpus=0.25).remote()),
    )


@case
def the_gpus_of_a_task():
    @ray.remote
    def gpus():
        return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    return (
        ray.get(gpus.options(num_gpus=1).remote())[0].__len__(),
        len(ray.get(gpus.options(num_gpus=2).remote())[0]),
        ray.get(gpus.remote())[0],
    )


@case
def gpu_ids_are_of_one_type():
    @ray.remote(num_gpus=1)
    def kinds():
        return [type(one).__name__ for one in ray.get_gpu_ids()]

    return ray.get(kinds.remote())


@case
def the_environment_names_the_gpus():
    @ray.remote(num_gpus=2)
    def both():
        return ",".join(str(one) for one in ray.get_gpu_ids()) == os.environ["CUDA_VISIBLE_DEVICES"]

    return ray.get(both.remote())


@case
def two_tasks_have_different_gpus():
    gate = Gate()

    @ray.remote(num_gpus=1)
    def hold(started):
        started.open()
        gate.wait()
        return ray.get_gpu_ids()

    gates = [Gate(), Gate()]
    refs = [hold.remote(one) for one in gates]
    for one in gates:
        one.wait()
    gate.open()
    first, second = ray.get(refs)
    return len(set(first + second))


@case
def halves_share_a_gpu():
    gate = Gate()

    @ray.remote(num_gpus=0.5)
    def hold(started):
        started.open()
        gate.wait()
        return ray.get_gpu_ids()

    gates = [Gate() for _ in range(4)]
    refs = [hold.remote(one) for one in gates]
    for one in gates:
        one.wait()
    gate.open()
    found = [ids[0] for ids in ray.get(refs)]
    return sorted(found.count(one) for one in set(found))


@case
def gpu_ids_in_the_driver():
    return ray.get_gpu_ids()


@case
def cluster_resources():
    resources = ray.cluster_resources()
    return {name: resources.get(name) for name in ("CPU", "GPU", "slot")}


@case
def available_resources_while_a_task_runs():
    gate, started = Gate(), Gate()

    @ray.remote(num_cpus=2, resources={"slot": 1})
    def hold():
        started.open()
        gate.wait()

    ref = hold.remote()
    started.wait()
    found = None
    for _ in range(200):
        found = ray.available_resources()
        if found.get("CPU") == 2.0:
            break
        ray.wait([ref], timeout=0.05)
    gate.open()
    ray.get(ref)
    return found.get("CPU"), found.get("slot"), found.get("GPU")


@case
def fractions_of_a_custom_resource():
    gate = Gate()

    @ray.remote(num_cpus=0, resources={"slot": 0.5})
    def hold(started):
        started.open()
        gate.wait()

    gates = [Gate() for _ in range(4)]
    refs = [hold.remote(one) for one in gates]
    for one in gates:
        one.wait()
    fifth = Gate()
    more = hold.remote(fifth)
    waits = len(ray.wait([more], timeout=0.2)[0]) == 0 and not fifth.is_open()
    gate.open()
    ray.get([*refs, more])
    return waits, fifth.is_open()


@case
def a_resource_that_nobody_has():
    @ray.remote(resources={"unobtainable": 1})
    def never():
        return 1

    return attempt(ray.get, never.remote(), timeout=0.3)


@case
def more_cpus_than_there_are():
    @ray.remote(num_cpus=100)
    def never():
        return 1

    return attempt(ray.get, never.remote(), timeout=0.3)


@case
def tasks_without_cpus_run_beside_a_full_machine():
    gate, started = Gate(), Gate()

    @ray.remote(num_cpus=4)
    def hold():
        started.open()
        gate.wait()

    @ray.remote(num_cpus=0)
    def free():
        return "ran"

    ref = hold.remote()
    started.wait()
    answer = ray.get(free.remote(), timeout=15)
    gate.open()
    ray.get(ref)
    return answer


@case
def a_task_that_waits_lends_its_cpus():
    @ray.remote(num_cpus=4)
    def inner():
        return 1

    @ray.remote(num_cpus=4)
    def outer():
        return ray.get(inner.remote())

    return ray.get(outer.remote(), timeout=15)


@case
def the_keys_of_a_node():
    node = ray.nodes()[0]
    return sorted(node), node["Alive"], len(ray.nodes())


@case
def threads_of_numeric_libraries():
    @ray.remote
    def one():
        return os.environ.get("OMP_NUM_THREADS")

    return ray.get(one.remote()), ray.get(one.options(num_cpus=2).remote())


@case
def the_directory_and_the_environment_of_a_task():
    @ray.remote
    def where():
        return os.getcwd(), os.environ.get("ORACLE_RUN")

    return ray.get(where.remote()) == (os.getcwd(), os.environ.get("ORACLE_RUN"))


@case
def is_initialized_in_a_task():
    @ray.remote
    def asked():
        return ray.is_initialized()

    return ray.is_initialized(), ray.get(asked.remote())


@case
def init_in_a_task():
    @ray.remote(max_retries=0)
    def again():
        ray.init(ignore_reinit_error=True)
        return "fine"

    return attempt(ray.get, again.remote(), timeout=15)


@case
def the_version():
    return isinstance(ray.__version__, str)


if __name__ == "__main__":
    run(num_gpus=2, resources={"slot": 2})
