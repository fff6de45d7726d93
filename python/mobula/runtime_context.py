"""Where a program runs: the job, node, worker and task of the caller."""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

from mobula import _cancelled, _core, _environments, _lease, _session, _sessions_here
from mobula._ids import ActorID, JobID, NodeID, PlacementGroupID, TaskID

if TYPE_CHECKING:
    from mobula._private.worker import Worker
    from mobula.runtime_env import RuntimeEnv

_ONLY_IN_WORKERS = "This is only there in tasks: the caller is a driver."
_ONLY_IN_ACTORS = "This method is only available in an actor."


def _this_actor() -> Any:
    """The actor that this process is, if it is one."""
    # Only a worker has loaded it; what it needs is too much for every program that imports mobula.
    module = sys.modules.get("mobula._actor_worker")
    return module.this_actor() if module is not None else None


def _creation() -> dict[str, Any] | None:
    """What `_core.current_task` says in a task, for the constructor of an actor; None elsewhere."""
    actor = _this_actor()
    if actor is None or actor.is_made:
        return None
    prefix = f"{actor.name}:" if actor.name else ""
    return {
        "task_id": actor.actor_id + "0" * 16,
        "function_name": f"{prefix}{actor.class_name}.__init__",
        "function": getattr(type(actor.instance), "__init__", None),
        "resources": actor.resources,
    }


class RuntimeContext:
    """Answers for the process, and in a task for that task. Ids are hexadecimal texts."""

    def get_job_id(self) -> str:
        """The driver's job: 8 digits."""
        return f"{_core.session_info()['job_id']:08x}"

    def get_node_id(self) -> str:
        """The node that the caller runs on: as in `nodes()`."""
        return _core.session_info()["node_id"]

    def get_worker_id(self) -> str:
        """This process: 16 digits, the node's first."""
        info = _core.session_info()
        return f"{info['node_id']}{info['process_id']:08x}"

    def get_task_id(self) -> str | None:
        """The task that the caller is part of: `ObjectRef.task_id()` of what it returns. None in a
        driver."""
        task = _core.current_task() or _creation()
        return task["task_id"] if task else None

    def get_task_name(self) -> str | None:
        """The option `name` of the task, or its function's name. None in a driver."""
        task = _core.current_task() or _creation()
        return task["function_name"] if task else None

    def get_task_function_name(self) -> str | None:
        """module.name of the task's function, module.class.name of a method; for one of `__main__`,
        the name of the script's file stands for the module. None in a driver."""
        task = _core.current_task() or _creation()
        if task is None:
            return None
        function = task["function"]
        module = getattr(function, "__module__", None)
        code = getattr(inspect.unwrap(function), "__code__", None) if function else None
        if module == "__main__" and code is not None:
            module = os.path.basename(code.co_filename).partition(".")[0]
        name = getattr(function, "__name__", task["function_name"])
        actor = _this_actor()
        if actor is not None:
            name = f"{actor.class_name}.{name}"
        return f"{module}.{name}" if module else str(name)

    def get_actor_id(self) -> str | None:
        """The actor that the caller is: 32 digits. None if it is none."""
        actor = _this_actor()
        return actor.actor_id if actor else None

    def get_actor_name(self) -> str | None:
        """The name of the actor that the caller is, or "". None if it is none."""
        actor = _this_actor()
        return actor.name if actor else None

    def get_placement_group_id(self) -> str | None:
        """The placement group in which the task or actor is: 36 digits. None: in none."""
        from mobula.util.placement_group import current_id

        return current_id()

    def get_assigned_resources(self) -> dict[str, float]:
        """What the task asked for: name to amount. AssertionError in a driver."""
        task = _core.current_task() or _creation()
        if task is None:
            raise AssertionError(_ONLY_IN_WORKERS)
        resources = {**task["resources"]}
        actor = _this_actor()
        if actor is not None:  # Some of them only to be made.
            resources["CPU"] = actor.cpus_for_life
        return {name: amount for name, amount in resources.items() if amount}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """The accelerators of the task, by kind; texts."""
        return {"GPU": [str(id) for id in _lease.get_gpu_ids()]}

    def get_resource_ids(self) -> dict[str, list[str]]:
        """The old name of `get_accelerator_ids`."""
        return self.get_accelerator_ids()

    def get_node_labels(self) -> dict[str, str]:
        """The labels of the node: those of `init(labels=)` and the node's id."""
        return node_labels()

    def get_session_name(self) -> str:
        """The name of the session's directory."""
        return os.path.basename(_core.session_info()["session_directory"])

    def get_temp_dir(self) -> str:
        """The folder in which the session's directory is."""
        return os.path.dirname(_core.session_info()["session_directory"])

    def get_runtime_env_string(self) -> str:
        """The runtime environment as JSON."""
        return self.runtime_env.serialize()

    def is_canceled(self) -> bool:
        """Was the task cancelled? It has seen KeyboardInterrupt then. RuntimeError in a driver."""
        if _core.current_task() is None:
            raise RuntimeError(_ONLY_IN_WORKERS)
        return _cancelled.is_current_task() or _core.is_cancelled()

    def get(self) -> dict[str, Any]:
        """What is known, in one dict."""
        known: dict[str, Any] = {
            "job_id": self.get_job_id(),
            "node_id": self.get_node_id(),
            "namespace": self.namespace,
        }
        task_id = self.get_task_id()
        if task_id is not None:
            known["task_id"] = task_id
        actor_id = self.get_actor_id()
        if actor_id is not None:
            known["actor_id"] = actor_id
        return known

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The runtime environment that the caller runs in; in the driver: that of the job."""
        return _environments.visible(_session.own_runtime_env())

    @property
    def namespace(self) -> str:
        """The namespace of the job's named actors."""
        return _core.session_info()["job_namespace"]

    @property
    def gcs_address(self) -> str:
        """The address of the session: what `init(address=...)` takes to join it."""
        return _sessions_here.address_of(_core.session_info()["session_directory"])

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Is what the task or actor submits in its placement group, too?"""
        bundle = _core.current_bundle()
        return bundle is not None and bundle[2]

    @property
    def current_actor(self) -> Any:
        """A handle to the actor that the caller is, which does not keep it. RuntimeError if it is
        none."""
        if _this_actor() is None:
            raise RuntimeError(_ONLY_IN_ACTORS)
        from mobula.actor import OwnHandle

        return OwnHandle(_core.get(_core.actor_ref(False)))

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Did this actor's process die before, and was it started again? AssertionError elsewhere."""
        actor = _this_actor()
        if actor is None:
            raise AssertionError(_ONLY_IN_ACTORS)
        return bool(actor.restarts > 0)

    @property
    def worker(self) -> Worker:
        """What this process is, under private names of Ray."""
        from mobula._private.worker import global_worker

        return global_worker

    @property
    def job_id(self) -> JobID:
        """Deprecated: use get_job_id()."""
        return JobID(self.get_job_id())

    @property
    def node_id(self) -> NodeID:
        """Deprecated: use get_node_id()."""
        return NodeID(self.get_node_id())

    @property
    def task_id(self) -> TaskID | None:
        """Deprecated: use get_task_id()."""
        text = self.get_task_id()
        return TaskID(text) if text else None

    @property
    def current_placement_group_id(self) -> PlacementGroupID:
        """Deprecated: use get_placement_group_id(). Nil: in no placement group."""
        text = self.get_placement_group_id()
        return PlacementGroupID(text) if text else PlacementGroupID.nil()

    @property
    def actor_id(self) -> ActorID | None:
        """Deprecated: use get_actor_id()."""
        text = self.get_actor_id()
        return ActorID(text) if text else None


def node_labels() -> dict[str, str]:
    """The labels of this node. Workers have them from their driver, by the environment."""
    labels = {"ray.io/node-id": _core.session_info()["node_id"]}
    labels.update(_session.driver_labels())
    return labels


def get_runtime_context() -> RuntimeContext:
    """Where the caller runs. Starts a session if there is none."""
    if not _core.is_connected():
        _session.auto_init()
    return RuntimeContext()
