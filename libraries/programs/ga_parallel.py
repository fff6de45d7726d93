"""A function over batches of tasks with the Ray engine of ga-parallel, beside its sequential one."""

import os

import ray
from _checks import check, done, raises
from parallel import Engine, Parallel


def double(tasks):
    return [task["value"] * 2 for task in tasks]


def fail(tasks):
    raise ValueError("no")


def where(tasks):
    return [os.getpid() for _ in tasks]


tasks = [{"value": value} for value in range(200)]
alone = Parallel().map_list(double, tasks)
check("Ray is not started before it is needed", not ray.is_initialized())
with Parallel(num_cpus=2, engine="ray") as runtime:
    check("all tasks are done", sorted(runtime.map_list(double, tasks)) == alone)
    check("Ray was started", ray.is_initialized())
    batches = [one for batch in runtime.map(double, tasks) for one in batch]
    check("batches as they come", sorted(batches) == alone)
    check("it runs in other processes", os.getpid() not in runtime.map_list(where, tasks))
    check("an error arrives", lambda: raises(ValueError, runtime.map_list, fail, tasks))
first, second = (Parallel(num_cpus=2, engine=Engine.RAY) for _ in range(2))
both = [sorted(one.map_list(double, tasks)) for one in (first, second)]
check("two at once", both == [alone, alone])
second.shutdown(force=True)
first.shutdown(force=True)
done()
