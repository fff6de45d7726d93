"""The runtime context."""

from __future__ import annotations

import re

from oracle.cases import attempt, case, plain, ray, run


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


@case(differs="ids of nodes and workers have fewer digits")
def ids_of_the_context():
    return both("get_job_id", "get_node_id", "get_worker_id", "get_task_id")


@case
def names_of_the_context():
    return both("get_task_name", "get_task_function_name")


@case(differs="in a task an AssertionError that says so, where Ray has an AttributeError")
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


@case(differs="None where there is no such thing, instead of an AssertionError")
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


if __name__ == "__main__":
    run(num_gpus=2, resources={"slot": 2})
