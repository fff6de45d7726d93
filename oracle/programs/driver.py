"""init and shutdown. The cases start sessions of their own, which takes Ray seconds each."""

from __future__ import annotations

from oracle.cases import attempt, case, lineage, message_of, ray, run_without_session, start


def refused(**options):
    """What `init` raises for `options`; "started" if nothing."""
    try:
        start(**options)
    except BaseException as error:
        return " < ".join(lineage(error))
    finally:
        ray.shutdown()
    return "started"


@case
def before_init():
    return ray.is_initialized(), ray.shutdown(), ray.is_initialized()


@case(seconds_max=60)
def a_session():
    before = ray.is_initialized()
    start()
    during = ray.is_initialized()
    ray.shutdown()
    return before, during, ray.is_initialized(), ray.shutdown()


@case(seconds_max=60)
def the_first_call_starts_a_session():
    before = ray.is_initialized()
    value = ray.get(ray.put(1))
    during = ray.is_initialized()
    ray.shutdown()
    return before, value, during, ray.is_initialized()


@case(seconds_max=60)
def what_init_returns():
    with start() as context:
        return {
            "type": hasattr(context, "disconnect"),
            "address_info": sorted(
                set(context.address_info) & {"node_ip_address", "session_dir", "node_id"}
            ),
            "dashboard_url": type(context.dashboard_url).__name__,
            "python_version": context.python_version,
            "ray_version": type(context.ray_version).__name__,
            "mapping": attempt(lambda: type(context["node_id"]).__name__),
            "unknown key": attempt(lambda: context["nothing"]),
        }


@case(seconds_max=60)
def the_context_ends_the_session():
    with start():
        during = ray.is_initialized()
    return during, ray.is_initialized()


@case(seconds_max=60)
def disconnect_ends_the_session():
    context = start()
    context.disconnect()
    return ray.is_initialized()


@case(seconds_max=60)
def init_twice():
    start()
    again = attempt(start)
    ignored = hasattr(start(ignore_reinit_error=True), "address_info")
    running = ray.is_initialized()
    ray.shutdown()
    return again, ignored, running


@case(says=["twice", "ignore_reinit_error"], seconds_max=60)
def message_of_init_twice():
    start()
    try:
        start()
    finally:
        ray.shutdown()


@case(seconds_max=60)
def sessions_one_after_the_other():
    @ray.remote
    def number():
        return 1

    found = []
    for _ in range(2):
        start()
        found.append(ray.get(number.remote()))
        ray.shutdown()
    return found


@case(seconds_max=60)
def a_ref_of_an_earlier_session():
    start()
    ref = ray.put(1)
    ray.shutdown()
    start()
    try:
        return attempt(ray.get, ref, timeout=2)
    finally:
        ray.shutdown()


@case(seconds_max=60)
def using_a_ref_after_shutdown():
    start()
    ref = ray.put(1)
    ray.shutdown()
    answer = repr(ref).startswith("ObjectRef(")
    ray.shutdown()
    return answer


@case(seconds_max=60)
def the_resources_of_a_session():
    start(num_cpus=3, num_gpus=2, resources={"slot": 1.5})
    resources = ray.cluster_resources()
    ray.shutdown()
    return {name: resources.get(name) for name in ("CPU", "GPU", "slot")}


@case(seconds_max=60)
def no_cpus():
    start(num_cpus=0)
    resources = ray.cluster_resources()

    @ray.remote
    def number():
        return 1

    answer = attempt(ray.get, number.remote(), timeout=0.5)
    free = attempt(ray.get, number.options(num_cpus=0).remote(), timeout=20)
    ray.shutdown()
    return resources.get("CPU"), answer, free


@case(seconds_max=60)
def address_local_starts_a_session():
    return refused(address="local")


@case(seconds_max=60)
def address_auto_without_a_session():
    return refused(address="auto", num_cpus=None)


@case(seconds_max=60)
def an_unknown_keyword():
    return refused(wrong=1), refused(_wrong=1)


@case(says=["wrong"], seconds_max=60)
def message_of_an_unknown_keyword():
    start(wrong=1)


@case(
    seconds_max=90,
    differs="TypeError and ValueError that say what is wrong, before anything starts",
)
def numbers_of_a_wrong_type_or_range():
    return (
        refused(num_cpus="2"),
        refused(num_cpus=-1),
        refused(num_gpus="1"),
        refused(object_store_memory="a"),
    )


@case(seconds_max=60, differs="ValueError, where Ray has an AssertionError")
def resources_of_a_wrong_type():
    return (
        refused(resources={"CPU": 2}),
        refused(resources={"GPU": 2}),
        refused(resources={"a": -1}),
    )


@case(seconds_max=60)
def a_store_that_is_too_small():
    return refused(object_store_memory=1000)


@case
def local_mode():
    return refused(local_mode=True)


@case
def a_namespace_of_a_wrong_type():
    return refused(namespace=5), refused(namespace="")


@case(seconds_max=60)
def the_namespace_of_a_session():
    start(namespace="mine")
    try:
        return attempt(lambda: ray.get_runtime_context().namespace)
    finally:
        ray.shutdown()


@case(seconds_max=60)
def labels_of_a_session():
    start(labels={"a": "b"})
    labels = ray.nodes()[0]["Labels"]
    ray.shutdown()
    return labels.get("a")


@case(
    seconds_max=60,
    differs="TypeError and ValueError; Ray has AttributeError, and takes names of its own",
)
def wrong_labels():
    return refused(labels=["a"]), refused(labels={"ray.io/mine": "b"})


@case(seconds_max=60)
def the_environment_of_the_job():
    import os

    start(runtime_env={"env_vars": {"ORACLE_VALUE": "here"}})

    @ray.remote
    def value():
        return os.environ.get("ORACLE_VALUE")

    answer = ray.get(value.remote(), timeout=30)
    ray.shutdown()
    return answer, os.environ.get("ORACLE_VALUE")


@case(seconds_max=60)
def environment_variables_of_a_wrong_type():
    return refused(runtime_env={"env_vars": {"A": 1}})


@case(seconds_max=60)
def calls_before_init():
    calls = {
        "nodes": ray.nodes,
        "cluster_resources": ray.cluster_resources,
        "available_resources": ray.available_resources,
    }
    return {
        name: attempt(call) if not ray.is_initialized() else "started"
        for name, call in calls.items()
    }


@case(differs="RaySystemError, as all calls that need a session; Ray has a RuntimeError")
def timeline_before_init():
    return attempt(ray.timeline)


@case
def positional_arguments():
    return attempt(ray.init, None, 1)


@case
def the_message_of_init_names_no_python_frame():
    return "Traceback" in message_of(start, wrong=1)


if __name__ == "__main__":
    run_without_session()
