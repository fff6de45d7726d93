"""Graphs of dask computed by Ray's scheduler, `ray.util.dask.ray_dask_get`."""

import functools

import dask
import dask.array as da
import numpy as np
import ray
from _checks import check, done, raises
from ray.util.dask import disable_dask_on_ray, enable_dask_on_ray, ray_dask_get

ray.init(num_cpus=2)


@dask.delayed
def add(left, right):
    return left + right


@dask.delayed
def fail():
    raise KeyError("lost")


@dask.delayed
def where():
    return ray.get_runtime_context().get_task_id()


total = add(add(1, 2), add(3, add(4, 5)))
check("a small graph is computed", total.compute(scheduler=ray_dask_get) == 15)
check("steps are tasks", len(set(dask.compute(where(), where(), scheduler=ray_dask_get))) == 2)
check("an error arrives", lambda: raises(KeyError, lambda: fail().compute(scheduler=ray_dask_get)))
check(
    "a chain of 200 steps",
    functools.reduce(add, range(200)).compute(scheduler=ray_dask_get) == 19900,
)

numbers = np.arange(1_000_000, dtype=float).reshape(1000, 1000)
array = da.from_array(numbers, chunks=(250, 250))
check(
    "an array is reduced",
    np.isclose((array + array.T).sum().compute(scheduler=ray_dask_get), 2 * numbers.sum()),
)
check(
    "a matrix product",
    np.allclose((array @ array.T).compute(scheduler=ray_dask_get), numbers @ numbers.T),
)
enable_dask_on_ray()
check("it is the scheduler of all graphs", da.ones((100, 100), chunks=50).sum().compute() == 10_000)
kept = array.mean(axis=0).persist()
check("kept results are computed with", np.allclose(kept.compute(), numbers.mean(axis=0)))
disable_dask_on_ray()
check("and no longer", da.ones((10, 10), chunks=5).sum().compute(scheduler="sync") == 100)
done()
