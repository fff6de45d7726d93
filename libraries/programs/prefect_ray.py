"""prefect-ray: tasks of a Prefect flow run on Ray. The server is a process of its own on loopback."""

import os
import time

import ray
from _checks import check, done
from prefect import flow, task, unmapped
from prefect.states import State
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options


@task
def square(number):
    return number * number


@task
def add(first, second):
    return first + second


@task
def where():
    return os.getpid()


@task
def fail():
    raise ValueError("no")


@task(retries=2, retry_delay_seconds=0)
def third_time(folder):
    tries = len(os.listdir(folder))
    open(os.path.join(folder, str(tries)), "w").close()
    if tries < 2:
        raise RuntimeError(f"try {tries}")
    return tries


RUNNER = RayTaskRunner(init_kwargs={"num_cpus": 2})


@flow(task_runner=RUNNER)
def squares(count):
    return [future.result() for future in square.map(range(count))]


@flow(task_runner=RUNNER)
def chain():
    first = square.submit(3)
    second = add.submit(first, 1)
    third = add.submit(second, first)
    late = where.submit(wait_for=[third])
    return third.result(), late.result()


@flow(task_runner=RUNNER)
def mapped():
    return add.map([1, 2, 3], unmapped(10)).result()


@flow(task_runner=RUNNER)
def with_options():
    with remote_options(num_cpus=0.5):
        futures = [where.submit() for _ in range(3)]
    return [future.result() for future in futures]


@flow(task_runner=RUNNER)
def failing():
    state = fail.submit()
    state.wait()
    follower = add.submit(state, 1)
    follower.wait()
    return [state.state.name, follower.state.name]


@flow(task_runner=RUNNER)
def retried(folder):
    return third_time.submit(folder).result()


def named(states):
    return [state.name if isinstance(state, State) else state for state in states]


os.mkdir("tries")
begun = time.monotonic()
check("a map of ten", lambda: squares(10) == [n * n for n in range(10)])
result = chain()
check("results go from task to task", result[0] == 19)
check("tasks run in other processes", result[1] != os.getpid())
check("a value for all", lambda: mapped() == [11, 12, 13])
check("options of Ray", lambda: len(with_options()) == 3)
check("what failed keeps others from running", lambda: named(failing()) == ["Failed", "NotReady"])
check("retries", lambda: retried(os.path.abspath("tries")) == 2)
check("nothing of Ray runs on", not ray.is_initialized())
done()
