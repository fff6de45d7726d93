"""How a dask graph becomes tasks. Needs dask 2024.12 or newer (its task specification)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask
import mobula
from dask._task_spec import Alias, DataNode, convert_legacy_graph
from dask.core import flatten
from dask.local import get_sync
from dask.order import order


def _run(node: Any, keys: list[Any], *values: Any) -> Any:
    """In the worker: a node of the graph with the values of the nodes it depends on."""
    return node(dict(zip(keys, values, strict=True)))


def ray_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Computes `keys` of the graph `dsk`: a dask scheduler.

    keys: a key, or nested lists of keys; the result has the same shape.
    kwargs: ray_remote_args={...}: options of the tasks; ray_persist=True: refs instead of values.
    Others, which dask gives to all schedulers, are ignored. Raises what a node raised.
    """
    options = kwargs.get("ray_remote_args") or {}
    if not mobula.is_initialized():
        mobula.init()
    graph = convert_legacy_graph(dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__())
    wanted = set(flatten([keys]))
    needed = _needed(graph, wanted)
    results = _submit_all(graph, needed, wanted, options)
    if not kwargs.get("ray_persist"):
        refs = [key for key in wanted if isinstance(results[key], mobula.ObjectRef)]
        try:
            values = mobula.get([results[key] for key in refs])
        except mobula.exceptions.RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, BaseException) else error) from error
        results.update(zip(refs, values, strict=True))
    return _in_shape(keys, results)


def _needed(graph: dict[Any, Any], wanted: set[Any]) -> set[Any]:
    needed: set[Any] = set()
    open_keys = list(wanted)
    while open_keys:
        key = open_keys.pop()
        if key not in needed:
            needed.add(key)
            open_keys.extend(graph[key].dependencies)
    return needed


def _submit_all(
    graph: dict[Any, Any], needed: set[Any], wanted: set[Any], options: dict[str, Any]
) -> dict[Any, Any]:
    """The refs (or the values, of nodes that are data) of `wanted`."""
    task = mobula.remote(**options)(_run) if options else mobula.remote(_run)
    dependencies = {key: set(graph[key].dependencies) for key in needed}
    uses = dict.fromkeys(needed, 0)
    for key in needed:
        for dependency in dependencies[key]:
            uses[dependency] += 1
    results: dict[Any, Any] = {}
    # dask's own order, which keeps little in memory at a time.
    priority = order({key: graph[key] for key in needed}, dependencies=dependencies)
    for key in sorted(needed, key=priority.__getitem__):
        node = graph[key]
        if isinstance(node, Alias):
            results[key] = results[node.target]
        elif isinstance(node, DataNode):
            # One copy in the object store, however many use it.
            many = uses[key] > 1
            results[key] = mobula.put(node.value) if many else node.value
        else:
            names = list(dependencies[key])
            results[key] = task.options(name=_name(key)).remote(
                node, names, *(results[name] for name in names)
            )
        for name in dependencies[key]:
            uses[name] -= 1
            if uses[name] == 0 and name not in wanted:
                # The task that was just submitted holds it: gone when it is no longer needed.
                del results[name]
    return results


def _name(key: Any) -> str:
    return f"dask:{key[0] if isinstance(key, tuple) else key}"


def _in_shape(keys: Any, results: dict[Any, Any]) -> Any:
    if isinstance(keys, list):
        return type(keys)(_in_shape(key, results) for key in keys)
    return results[keys]


def ray_dask_get_sync(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Computes everything here, one node after the other: for debugging."""
    return get_sync(dsk, keys, **{k: v for k, v in kwargs.items() if not k.startswith("ray_")})


class enable_dask_on_ray(dask.config.set):  # type: ignore[misc]  # The name is Ray's.
    """From now on, or in a `with` block, dask computes on Mobula by default.

    shuffle: how data frames are shuffled; None: "tasks", the way that needs no dask cluster.
    """

    def __init__(self, shuffle: str | None = "tasks") -> None:
        settings: dict[str, Any] = {"scheduler": ray_dask_get}
        if shuffle is not None:
            settings["dataframe.shuffle.method"] = shuffle
        super().__init__(settings)


def disable_dask_on_ray() -> Any:
    """Dask chooses its scheduler by itself again."""
    return dask.config.set(scheduler=None)
