"""What programs import and look up: modules, their public names, signatures of functions."""

from __future__ import annotations

import importlib
import inspect

from oracle.cases import ENGINE, attempt, case, ray, run_without_session


def module(name):
    return importlib.import_module(f"{ENGINE}.{name}" if name else ENGINE)


def imports(path):
    try:
        return bool(module(path))
    except ImportError as error:
        return type(error).__name__


def parameters(path):
    name, _, member = path.rpartition(":")
    function = module(name)
    for part in member.split("."):
        function = getattr(function, part)
    return [one for one in inspect.signature(function).parameters if not one.startswith("_")]


@case
def modules_of_ray_core():
    return {
        name: imports(name)
        for name in (
            "actor",
            "remote_function",
            "exceptions",
            "runtime_context",
            "runtime_env",
            "job_config",
            "cloudpickle",
            "cross_language",
            "util",
            "util.queue",
            "util.actor_pool",
            "util.metrics",
            "util.placement_group",
            "util.scheduling_strategies",
            "util.multiprocessing",
            "util.state",
            "util.state.exception",
            "util.annotations",
            "util.accelerators",
            "util.check_serialize",
            "util.serialization",
            "experimental",
            "experimental.tqdm_ray",
            "experimental.internal_kv",
            "dag",
            "dag.input_node",
            "_private",
            "_private.worker",
            "_common",
            "_common.test_utils",
            "client_builder",
            "util.debug",
        )
    }


@case
def names_of_the_package():
    return {
        name: hasattr(ray, name)
        for name in (
            "init",
            "shutdown",
            "is_initialized",
            "remote",
            "method",
            "get",
            "put",
            "wait",
            "cancel",
            "kill",
            "get_actor",
            "get_gpu_ids",
            "get_runtime_context",
            "nodes",
            "cluster_resources",
            "available_resources",
            "timeline",
            "ObjectRef",
            "ObjectRefGenerator",
            "DynamicObjectRefGenerator",
            "ObjectID",
            "ActorID",
            "JobID",
            "NodeID",
            "TaskID",
            "UniqueID",
            "WorkerID",
            "PlacementGroupID",
            "Language",
            "LoggingConfig",
            "SCRIPT_MODE",
            "WORKER_MODE",
            "LOCAL_MODE",
            "client",
            "ClientBuilder",
            "java_function",
            "java_actor_class",
            "cpp_function",
            "show_in_dashboard",
            "__version__",
            "actor",
            "util",
            "exceptions",
            "runtime_env",
            "_private",
            "experimental",
            "cloudpickle",
        )
    }


@case
def signatures_of_functions():
    return {
        path: attempt(parameters, path)
        for path in (
            ":get",
            ":wait",
            ":put",
            ":cancel",
            ":kill",
            ":get_actor",
            ":timeline",
            ":shutdown",
            ":nodes",
            "util:as_completed",
            "util:map_unordered",
            "util:list_named_actors",
            "util:inspect_serializability",
            "util:log_once",
            "util.placement_group:placement_group",
            "util.placement_group:get_placement_group",
            "util.placement_group:placement_group_table",
            "util.placement_group:PlacementGroup.wait",
            "util.queue:Queue.put",
            "util.queue:Queue.get",
            "util.queue:Queue.shutdown",
            "util.actor_pool:ActorPool.get_next",
            "util.actor_pool:ActorPool.map",
            "util.scheduling_strategies:NodeAffinitySchedulingStrategy",
            "util.scheduling_strategies:NodeLabelSchedulingStrategy",
            "util.scheduling_strategies:PlacementGroupSchedulingStrategy",
            "util.metrics:Counter",
            "util.metrics:Gauge",
            "util.metrics:Histogram",
            "util.metrics:Counter.inc",
            "util.metrics:Gauge.set",
            "util.metrics:Histogram.observe",
            "exceptions:RayTaskError",
            "exceptions:RayActorError",
            "exceptions:ActorDiedError",
            "exceptions:TaskCancelledError",
            "exceptions:ObjectLostError",
            "exceptions:OutOfMemoryError",
            "exceptions:RuntimeEnvSetupError",
            "runtime_env:RuntimeEnv",
            "runtime_env:RuntimeEnvConfig",
            "job_config:JobConfig",
            ":LoggingConfig",
        )
    }


@case
def the_signature_of_init():
    return parameters(":init")


@case
def defaults_of_wait_and_init():
    of_wait = inspect.signature(ray.wait).parameters
    of_init = inspect.signature(ray.init).parameters
    return (
        {name: one.default for name, one in of_wait.items() if one.default is not one.empty},
        {
            name: of_init[name].default
            for name in ("address", "num_cpus", "ignore_reinit_error", "logging_level", "namespace")
            if isinstance(of_init[name].default, str | int | bool | None)
        },
    )


@case
def kinds_of_a_remote_function():
    @ray.remote
    def f():
        pass

    return (
        type(f).__name__,
        isinstance(f, module("remote_function").RemoteFunction),
        callable(f),
        [
            name
            for name in ("remote", "options", "bind", "_remote", "_function")
            if hasattr(f, name)
        ],
    )


@case
def kinds_of_an_actor_class():
    @ray.remote
    class A:
        pass

    kind = module("actor")
    return (
        isinstance(A, kind.ActorClass),
        hasattr(kind, "ActorHandle"),
        hasattr(kind, "ActorMethod"),
        hasattr(kind, "exit_actor"),
        [name for name in ("remote", "options", "_remote") if hasattr(A, name)],
    )


@case
def ids_of_ray():
    made = ray.NodeID.from_random()
    return (
        ray.NodeID.from_hex(made.hex()) == made,
        ray.NodeID.nil().is_nil(),
        made.is_nil(),
        len(ray.ActorID.nil().binary()),
        len(ray.TaskID.nil().binary()),
        len(ray.JobID.from_int(1).binary()),
        attempt(ray.NodeID, b"short"),
    )


@case
def constants():
    worker = module("_private.worker")
    return worker.SCRIPT_MODE, worker.WORKER_MODE, hasattr(worker, "global_worker")


@case
def helpers_of_tests():
    helpers = module("_common.test_utils")
    return [
        hasattr(helpers, name)
        for name in ("SignalActor", "Semaphore", "wait_for_condition", "async_wait_for_condition")
    ]


@case
def exceptions_without_arguments():
    kinds = module("exceptions")
    return {
        name: attempt(lambda name=name: str(getattr(kinds, name)()) is not None)
        for name in (
            "RayError",
            "TaskCancelledError",
            "WorkerCrashedError",
            "GetTimeoutError",
            "RayActorError",
            "ActorDiedError",
            "LocalRayletDiedError",
            "ObjectStoreFullError",
            "OutOfDiskError",
            "PlasmaObjectNotAvailable",
            "AsyncioActorExit",
            "PendingCallsLimitExceeded",
            "TaskPlacementGroupRemoved",
            "ActorPlacementGroupRemoved",
            "RuntimeEnvSetupError",
        )
    }


if __name__ == "__main__":
    run_without_session()
