"""Mobula runs Python functions as tasks, in parallel, behind the Ray Core API.

    import mobula as ray

    @ray.remote
    def square(x):
        return x * x

    ray.get([square.remote(i) for i in range(4)])      # [0, 1, 4, 9]

The first call starts what is needed on this machine; `init` does so with options. See
docs/compatibility.md for what of Ray's API there is.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import Any

from mobula import (
    _core,
    _hooks,
    _import_names,
    _timeline,
    actor,
    exceptions,
    job_config,
    remote_function,
    util,
)
from mobula._core import ObjectRef, get, put, wait
from mobula._executor import Executor
from mobula._generator import DynamicObjectRefGenerator, ObjectRefGenerator
from mobula._ids import (
    ActorClassID,
    ActorID,
    ClusterID,
    FunctionID,
    JobID,
    NodeID,
    PlacementGroupID,
    TaskID,
    UniqueID,
    WorkerID,
)
from mobula._logging_config import LoggingConfig
from mobula._remote import RemoteFunction, remote
from mobula._session import init, is_initialized, require_session, shutdown
from mobula._version import __version__
from mobula.actor import get_actor, kill, method
from mobula.client_builder import ClientBuilder, client
from mobula.cross_language import Language, cpp_function, java_actor_class, java_function
from mobula.runtime_context import get_runtime_context

_hooks.install()
_import_names.install()

logger = logging.getLogger("mobula")

timeline = _timeline.timeline

# Ray's names for what a ref names.
ObjectID = ObjectRef

# What a process is to Ray's `_private.worker.global_worker.mode`.
SCRIPT_MODE = 0
WORKER_MODE = 1
# Of workers that Ray has for objects on disk; here there are none.
RESTORE_WORKER_MODE = 3
SPILL_WORKER_MODE = 4


def cluster_resources() -> dict[str, float]:
    """All resources: name to amount. RaySystemError: not connected."""
    require_session()
    return _core.cluster_resources()


def available_resources() -> dict[str, float]:
    """The resources that no running task holds: name to amount; names with nothing left are absent.
    RaySystemError: not connected."""
    require_session()
    return {name: amount for name, amount in _core.available_resources().items() if amount}


def nodes() -> list[dict[str, Any]]:
    """What is known of each node, under Ray's keys. RaySystemError: not connected."""
    from mobula import _nodes

    require_session()
    return [_nodes.describe(record) for record in _core.nodes()]


def cancel(
    ray_waitable: ObjectRef[Any] | ObjectRefGenerator,
    *,
    force: bool = False,
    recursive: bool = True,
) -> None:
    """Cancels the task behind a ref or generator. Its refs raise TaskCancelledError then.

    A task that has not started never starts. In one that runs, KeyboardInterrupt is raised between
    two steps of its Python code, or, with `force`, its worker is killed. `recursive`: also the tasks
    that it has submitted, and so on. A task that has ended stays as it is. Returns at once.
    TypeError: not a ref.
    """
    ref = ray_waitable
    if isinstance(ref, ObjectRefGenerator):
        ref = ref.completed()
    if isinstance(ref, actor.ActorHandle):
        raise TypeError(
            "ray.cancel() only supported for object refs. For actors, try ray.kill(). "
            f"Got: {type(ref)}."
        )
    if not isinstance(ref, ObjectRef):
        raise TypeError(
            "ray.cancel() only supported for object refs and generators. For actors, try ray.kill(). "
            f"Got: {type(ray_waitable)}."
        )
    _core.cancel(ref, force, recursive)


def get_gpu_ids() -> list[int | str]:
    """The GPUs of the task that runs here, as CUDA_VISIBLE_DEVICES names them; in a driver, and in a
    task that asked for none, the list is empty."""
    from mobula import _lease

    return _lease.get_gpu_ids()


_LAZY = {
    "_common": "_common",
    "_private": "_private",
    "_raylet": "_raylet",
    "autoscaler": "autoscaler",
    "cloudpickle": "cloudpickle",
    "cluster_utils": "cluster_utils",
    "data": "data",
    "experimental": "experimental",
    "internal": "internal",
    "ray_constants": "_private.ray_constants",
    "runtime_env": "runtime_env",
    "state": "_private.state",
    "types": "types",
    "worker": "_private.worker",
}


def __getattr__(name: str) -> Any:
    """Modules that Ray has imported with the package, and few programs need."""
    if name in _LAZY:
        return importlib.import_module(f"mobula.{_LAZY[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "RESTORE_WORKER_MODE",
    "SCRIPT_MODE",
    "SPILL_WORKER_MODE",
    "WORKER_MODE",
    "ActorClassID",
    "ActorID",
    "ClientBuilder",
    "ClusterID",
    "DynamicObjectRefGenerator",
    "Executor",
    "FunctionID",
    "JobID",
    "Language",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "RemoteFunction",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "__version__",
    "actor",
    "available_resources",
    "cancel",
    "client",
    "cluster_resources",
    "cpp_function",
    "exceptions",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "java_actor_class",
    "java_function",
    "job_config",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "remote_function",
    "shutdown",
    "timeline",
    "util",
    "wait",
]
