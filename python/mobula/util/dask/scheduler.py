"""How a dask graph becomes tasks. Needs dask 2024.12 or newer (its task specification)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import dask
import mobula
from dask._task_spec import Alias, DataNode, convert_legacy_graph
from dask.core import flatten
from dask.local import get_sync
from dask.order import order
from mobula.util.dask.callbacks import RayCallbacks, local_ray_callbacks, unpack_ray_callbacks


def _run(node: Any, keys: list[Any], *values: Any) -> Any:
    """In the worker: a node of the graph with the values of the nodes it depends on."""
    return node(dict(zip(keys, values, strict=True)))


def _run_told(told: Any, node: Any, keys: list[Any], *values: Any) -> Any:
    """The same for those who want to be told. `told`: (key, pairs of functions before and after)."""
    key, functions = told
    states = [before(key, list(values)) if before else None for before, _ in functions]
    result = _run(node, keys, *values)
    for (_, after), state in zip(functions, states, strict=True):
        if after:
            after(key, result, state)
    return result


def ray_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Computes `keys` of the graph `dsk`: a dask scheduler.

    keys: a key, or nested lists of keys; the result has the same shape.
    kwargs: ray_remote_args={...}: options of the tasks; ray_persist=True: refs instead of values;
    ray_callbacks=[...]: instead of the active ones. Others, which dask gives to all schedulers, are
    ignored. Raises what a node raised.
    """
    with local_ray_callbacks(kwargs.get("ray_callbacks")) as callbacks:
        return _get(dsk, keys, unpack_ray_callbacks(callbacks), kwargs)


def _get(dsk: Any, keys: Any, told: RayCallbacks, kwargs: dict[str, Any]) -> Any:
    options = kwargs.get("ray_remote_args") or {}
    if not mobula.is_initialized():
        mobula.init()
    graph = convert_legacy_graph(dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__())
    wanted = set(flatten([keys]))
    needed = _needed(graph, wanted)
    results = _submit_all(graph, needed, wanted, options, told)
    if told.ray_postsubmit_all_cbs:
        refs = [value for value in results.values() if isinstance(value, mobula.ObjectRef)]
        for tell in told.ray_postsubmit_all_cbs:
            tell(refs, dsk)
    if not kwargs.get("ray_persist"):
        refs = [key for key in wanted if isinstance(results[key], mobula.ObjectRef)]
        try:
            values = mobula.get([results[key] for key in refs])
        except mobula.exceptions.RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, BaseException) else error) from error
        results.update(zip(refs, values, strict=True))
    result = _in_shape(keys, results)
    for tell in told.ray_finish_cbs:
        tell(result)
    return result


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
    graph: dict[Any, Any],
    needed: set[Any],
    wanted: set[Any],
    options: dict[str, Any],
    told: RayCallbacks,
) -> dict[Any, Any]:
    """The refs (or the values, of nodes that are data) of `wanted`."""
    function: Any = _run_told if told.ray_task_cbs else _run
    task = mobula.remote(**options)(function) if options else mobula.remote(function)
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
            first = [(key, told.ray_task_cbs)] if told.ray_task_cbs else []
            submit = functools.partial(task.options(name=_name(key)).remote, *first, node, names)
            values = [results[name] for name in names]
            results[key] = _submit(submit, node, key, values, told)
        for name in dependencies[key]:
            uses[name] -= 1
            if uses[name] == 0 and name not in wanted:
                # The task that was just submitted holds it: gone when it is no longer needed.
                del results[name]
    return results


def _submit(submit: Any, node: Any, key: Any, values: list[Any], told: RayCallbacks) -> Any:
    for tell in told.ray_presubmit_cbs:
        instead = tell(node, key, values)
        if instead is not None:
            return instead
    ref = submit(*values)
    for tell in told.ray_postsubmit_cbs:
        tell(node, key, values, ref)
    return ref


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
    use_shuffle_optimization: means nothing, as there is nothing to switch off.
    """

    def __init__(
        self, shuffle: str | None = "tasks", use_shuffle_optimization: bool | None = True
    ) -> None:
        settings: dict[str, Any] = {"scheduler": ray_dask_get}
        if shuffle is not None:
            settings["dataframe.shuffle.method"] = shuffle
        super().__init__(settings)


def disable_dask_on_ray() -> Any:
    """Dask chooses its scheduler by itself again."""
    return dask.config.set(scheduler=None)
