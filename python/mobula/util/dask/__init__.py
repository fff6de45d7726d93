"""A scheduler for dask: each node of a graph is a task, what lies between nodes are refs.

    import dask
    from mobula.util.dask import enable_dask_on_ray

    enable_dask_on_ray()
    frame.groupby("carrier").delay.mean().compute()

or `dask.compute(..., scheduler=ray_dask_get)`. Values go from worker to worker and never through the
driver; only what was asked for comes back.
"""

from __future__ import annotations

from typing import Any

import dask
from mobula.util.dask.callbacks import (
    RayDaskCallback,
    local_ray_callbacks,
    unpack_ray_callbacks,
)
from mobula.util.dask.scheduler import (
    disable_dask_on_ray,
    enable_dask_on_ray,
    ray_dask_get,
    ray_dask_get_sync,
)


def ray_dask_persist(*args: Any, **kwargs: Any) -> Any:
    """`dask.persist` whose results stay where they were computed: what they hold is refs."""
    return dask.persist(*args, **{**kwargs, "ray_persist": True})


__all__ = [
    "RayDaskCallback",
    "disable_dask_on_ray",
    "enable_dask_on_ray",
    "local_ray_callbacks",
    "ray_dask_get",
    "ray_dask_get_sync",
    "ray_dask_persist",
    "unpack_ray_callbacks",
]
