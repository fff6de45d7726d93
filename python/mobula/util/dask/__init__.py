"""A scheduler for dask: each node of a graph is a task, what lies between nodes are refs.

    import dask
    from mobula.util.dask import enable_dask_on_ray

    enable_dask_on_ray()
    frame.groupby("carrier").delay.mean().compute()

or `dask.compute(..., scheduler=ray_dask_get)`. Values go from worker to worker and never through the
driver; only what was asked for comes back.
"""

from __future__ import annotations

from mobula.util.dask.scheduler import (
    disable_dask_on_ray,
    enable_dask_on_ray,
    ray_dask_get,
    ray_dask_get_sync,
)

__all__ = ["disable_dask_on_ray", "enable_dask_on_ray", "ray_dask_get", "ray_dask_get_sync"]
