"""Modules of Ray that programs import, and that are something else here, or nothing.

Older names are other modules. Libraries above Ray Core, and what is for many machines, can be
imported, and what is called there raises NotImplementedError, which says why. Other libraries try an
import to see what there is. So these modules have only the names below: those that others import
without asking, and those by which a program would start its work. Whoever looks for the rest (what Ray
Tune searches with, above all) is told by ImportError, as by a Ray without its extras.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mobula import _alias

# Modules of Ray that are other modules here, some of them because their name says nothing.
_OTHER_NAMES = {
    "_common.network_utils": "mobula._common.addresses",
    "_common.utils": "mobula._common.helpers",
    "_private.utils": "mobula._private.machine",
    "experimental.multiprocessing": "mobula.util.multiprocessing",
    "experimental.multiprocessing.pool": "mobula.util.multiprocessing.pool",
    "experimental.queue": "mobula.util.queue",
    "experimental.state": "mobula.util.state",
    "experimental.state.api": "mobula.util.state.api",
    "experimental.state.common": "mobula.util.state.resources",
    "experimental.state.exception": "mobula.util.state.exception",
    "util.accelerators.accelerators": "mobula.util.accelerators",
    "util.state.common": "mobula.util.state.resources",
    "cloudpickle.cloudpickle": "cloudpickle.cloudpickle",
    "cloudpickle.cloudpickle_fast": "cloudpickle.cloudpickle_fast",
}

_LIBRARY = "it is part of {}, a library above Ray Core, and Mobula is Ray Core only"
_ONE_MACHINE = "Mobula runs on one machine, as one node"
_JOBS = "there is no server that takes jobs; start the program itself, `mobula start` before it"
_CLIENT = "Ray Client is for sessions of other machines, which cannot be joined yet"
_COLLECTIVE = "there are no collective operations yet; use torch.distributed, or objects"
_DEBUGGER = "there is no debugger of tasks; a task's output and its traceback reach the driver"

# Of a module: why what it has cannot be called, and its names.
_MODULES: dict[str, tuple[str, str]] = {
    "air": (_LIBRARY.format("Ray AIR"), "Checkpoint Result"),
    "air.config": (
        _LIBRARY.format("Ray AIR"),
        "CheckpointConfig FailureConfig RunConfig ScalingConfig",
    ),
    "air.session": (
        _LIBRARY.format("Ray AIR"),
        "get_checkpoint get_dataset_shard get_local_rank get_world_rank get_world_size report",
    ),
    "data": (
        _LIBRARY.format("Ray Data"),
        "ActorPoolStrategy DataContext DataIterator Dataset Datasink Datasource "
        "ExecutionOptions ExecutionResources MaterializedDataset Preprocessor ReadTask Schema "
        "TaskPoolStrategy from_arrow from_arrow_refs from_blocks from_dask from_huggingface "
        "from_items from_modin from_numpy from_numpy_refs from_pandas from_pandas_refs "
        "from_spark from_tf from_torch range range_tensor read_avro read_bigquery "
        "read_binary_files read_csv read_databricks_tables read_datasource read_delta "
        "read_iceberg read_images read_json read_lance read_mongo read_numpy read_parquet "
        "read_snowflake read_sql read_text read_tfrecords read_videos read_webdataset "
        "set_progress_bars",
    ),
    "data.block": (_LIBRARY.format("Ray Data"), "Block BlockAccessor BlockMetadata"),
    "data.context": (_LIBRARY.format("Ray Data"), "DataContext"),
    "data.dataset": (_LIBRARY.format("Ray Data"), "Dataset MaterializedDataset Schema"),
    "data.iterator": (_LIBRARY.format("Ray Data"), "DataIterator"),
    "rllib": (_LIBRARY.format("RLlib"), ""),
    "serve": (
        _LIBRARY.format("Ray Serve"),
        "Application Deployment batch delete deployment get_app_handle get_deployment_handle ingress "
        "multiplexed run shutdown start status",
    ),
    "serve.handle": (_LIBRARY.format("Ray Serve"), "DeploymentHandle DeploymentResponse"),
    "train": (
        _LIBRARY.format("Ray Train"),
        "Checkpoint CheckpointConfig DataConfig FailureConfig Result RunConfig ScalingConfig "
        "get_checkpoint get_context get_dataset_shard report",
    ),
    "train._internal": (_LIBRARY.format("Ray Train"), ""),
    "train._internal.session": (_LIBRARY.format("Ray Train"), "get_session"),
    "tune": (_LIBRARY.format("Ray Tune"), "TuneConfig Tuner run"),
    "internal": ("Ray has nothing in it", ""),
    "cluster_utils": (_ONE_MACHINE, "AutoscalingCluster Cluster"),
    "job_submission": (
        _JOBS,
        "DriverInfo JobDetails JobErrorType JobInfo JobStatus JobSubmissionClient JobType",
    ),
    "util.client.common": (
        _CLIENT,
        "ClientActorHandle ClientActorRef ClientObjectRef ClientRemoteFunc",
    ),
    "util.collective": (
        _COLLECTIVE,
        "allgather allgather_multigpu allreduce allreduce_multigpu barrier broadcast "
        "broadcast_multigpu create_collective_group destroy_collective_group gloo_available "
        "get_collective_group_size get_group_handle get_rank init_collective_group "
        "is_backend_available is_group_initialized nccl_available recv recv_multigpu reduce "
        "reduce_multigpu reducescatter reducescatter_multigpu register_collective_backend send "
        "send_multigpu",
    ),
    "util.rpdb": (_DEBUGGER, "set_trace"),
    "util.debugpy": (_DEBUGGER, "set_trace"),
}
# The same under the name of another module.
_MODULES["util.collective.collective"] = _MODULES["util.collective"]

# Questions that have an answer where there is no such thing.
_ANSWERS: dict[str, Callable[..., Any]] = {
    "train._internal.session.get_session": lambda: None,
    "util.collective.nccl_available": lambda: False,
    "util.collective.gloo_available": lambda: False,
    "util.collective.is_backend_available": lambda backend: False,
    "util.collective.is_group_initialized": lambda group_name="default": False,
}
_ANSWERS.update(
    {
        name.replace("util.collective.", "util.collective.collective."): answer
        for name, answer in _ANSWERS.items()
        if name.startswith("util.")
    }
)


def _refuse(name: str, why: str) -> NoReturn:
    raise NotImplementedError(f"ray.{name} is not there: {why}.")


def _thing(module: str, name: str, why: str) -> Any:
    """A class if it is called as one: nothing is an instance of it, and it can be a base."""
    path = f"{module}.{name}"
    if path in _ANSWERS:
        made: Any = _ANSWERS[path]
        made.__name__ = made.__qualname__ = name
    elif name[0].isupper():

        def new(cls: type, *args: Any, **kwargs: Any) -> NoReturn:
            _refuse(path, why)

        made = type(name, (), {"__new__": new})
    else:

        def made(*args: Any, **kwargs: Any) -> NoReturn:
            _refuse(path, why)

        made.__name__ = made.__qualname__ = name
    made.__module__ = f"mobula.{module}"
    made.__doc__ = f"Not there: {why}."
    return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("mobula."):
            return None
        name = fullname.removeprefix("mobula.")
        if name in _OTHER_NAMES:
            return _alias.spec_of_alias(fullname, _OTHER_NAMES[name])
        if name not in _MODULES:
            return None
        # A package, so that who looks for a module in it finds none.
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """A plain module."""

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__.removeprefix("mobula.")
        why, names = _MODULES[name]
        things = {one: _thing(name, one, why) for one in names.split()}

        def other(attribute: str) -> NoReturn:
            text = f"module 'ray.{name}' has no attribute {attribute!r}"
            if not attribute.startswith("__"):
                text += f": {why}"
            raise AttributeError(text, name=attribute, obj=module)

        module.__dict__.update(
            things, __all__=list(things), __doc__=f"Not there: {why}.", __getattr__=other
        )


def install() -> None:
    """From now on these modules can be imported."""
    # In front: the folder of a package under another name would be looked into otherwise.
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
