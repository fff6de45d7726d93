"""CPUs, GPUs and custom resources of tasks; what is around them; the names of the package."""

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
def the_names_of_the_package():
    names = """ObjectID ObjectRef ObjectRefGenerator LoggingConfig available_resources cancel
        cluster_resources exceptions get get_actor get_gpu_ids get_runtime_context init
        is_initialized job_config kill method nodes put remote shutdown timeline util wait"""
    return [name for name in names.split() if not hasattr(ray, name)]


@case
def the_names_of_the_helpers():
    names = "as_completed get_node_ip_address inspect_serializability log_once map_unordered"
    return [name for name in names.split() if not hasattr(ray.util, name)]


@case
def the_version():
    return isinstance(ray.__version__, str)


if __name__ == "__main__":
    run(num_gpus=2, resources={"slot": 2})
