"""What is built on actors: ActorPool, Queue, multiprocessing.Pool, joblib."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import time
from importlib import import_module

from oracle.cases import ENGINE, Gate, attempt, case, ray, run

ActorPool = import_module(f"{ENGINE}.util.actor_pool").ActorPool
queues = import_module(f"{ENGINE}.util.queue")
Queue, Empty, Full = queues.Queue, queues.Empty, queues.Full
Pool = import_module(f"{ENGINE}.util.multiprocessing").Pool


@ray.remote
class Worker:
    def double(self, x):
        return 2 * x

    def slow_first(self, x, gate):
        if x == 0:
            gate.wait()
        return x

    def fail(self, x):
        if x == 1:
            raise ValueError("one")
        return x


def pool_of(count=2):
    return ActorPool([Worker.remote() for _ in range(count)])


# ---- ActorPool ----


@case
def map_and_map_unordered():
    pool = pool_of()
    first = list(pool.map(lambda a, v: a.double.remote(v), range(5)))
    return first, sorted(pool.map_unordered(lambda a, v: a.double.remote(v), range(5)))


@case
def submit_and_get_next():
    pool = pool_of()
    for i in range(4):
        pool.submit(lambda a, v: a.double.remote(v), i)
    return pool.has_next(), [pool.get_next() for _ in range(4)], pool.has_next()


@case
def get_next_of_nothing():
    return attempt(pool_of().get_next), attempt(pool_of().get_next_unordered)


@case
def get_next_with_a_timeout():
    pool, gate = pool_of(), Gate()
    pool.submit(lambda a, v: a.slow_first.remote(v, gate), 0)
    outcome = attempt(pool.get_next, timeout=0.1), attempt(pool.get_next_unordered, timeout=0.1)
    gate.open()
    return outcome, pool.get_next()


@case
def get_next_after_get_next_unordered():
    pool = pool_of()
    for i in range(3):
        pool.submit(lambda a, v: a.double.remote(v), i)
    first = pool.get_next_unordered()
    return first in (0, 2), attempt(pool.get_next) is not None


@case
def idle_push_and_pop():
    pool = pool_of(1)
    idle = pool.has_free()
    actor = pool.pop_idle()
    none = pool.pop_idle(), pool.has_free()
    pool.push(actor)
    return idle, actor is not None, none, pool.has_free(), attempt(pool.push, actor)


@case
def a_call_that_fails():
    pool = pool_of()
    for i in range(3):
        pool.submit(lambda a, v: a.fail.remote(v), i)
    return [attempt(pool.get_next) for _ in range(3)]


@case
def a_call_that_fails_in_map():
    return attempt(lambda: list(pool_of().map(lambda a, v: a.fail.remote(v), range(3))))


# ---- Queue ----


@case
def a_queue_in_order():
    queue = Queue()
    for i in range(3):
        queue.put(i)
    return (
        queue.qsize(),
        queue.size(),
        [queue.get() for _ in range(3)],
        queue.empty(),
        queue.full(),
        len(queue),
    )


@case(differs="errors carry no traceback of the queue's actor")
def full_and_empty():
    queue = Queue(maxsize=1)
    queue.put(1)
    out = [
        queue.full(),
        attempt(queue.put, 2, block=False),
        attempt(queue.put_nowait, 2),
        attempt(queue.put, 2, timeout=0.05),
        queue.get(),
        attempt(queue.get, block=False),
        attempt(queue.get_nowait),
        attempt(queue.get, timeout=0.05),
    ]
    return out, [kind.__mro__[1].__name__ for kind in (Empty, Full)]


@case
def negative_timeouts():
    queue = Queue(maxsize=1)
    return attempt(queue.get, timeout=-1), attempt(queue.put, 1, timeout=-1)


@case(differs="errors carry no traceback of the queue's actor")
def batches():
    queue = Queue(maxsize=3)
    queue.put_nowait_batch([1, 2])
    return (
        attempt(queue.put_nowait_batch, [3, 4]),
        queue.qsize(),
        queue.get_nowait_batch(2),
        attempt(queue.get_nowait_batch, 1),
        attempt(queue.put_nowait_batch, 5),
        attempt(queue.get_nowait_batch, "x"),
        attempt(queue.get_nowait_batch, -1),
    )


@case
def a_queue_of_coroutines():
    queue = Queue(maxsize=1)

    async def main():
        await queue.put_async(1)
        full = None
        try:
            await queue.put_async(2, timeout=0.05)
        except Full:
            full = "full"
        value = await queue.get_async()
        try:
            await queue.get_async(block=False)
        except Empty:
            return full, value, "empty"

    return asyncio.run(main())


@case
def a_queue_between_tasks():
    queue = Queue(maxsize=2)

    @ray.remote
    def produce(queue):
        for i in range(10):
            queue.put(i)

    @ray.remote
    def consume(queue):
        return [queue.get() for _ in range(10)]

    produced, consumed = produce.remote(queue), consume.remote(queue)
    ray.get(produced, timeout=15)
    return ray.get(consumed, timeout=15)


@case
def options_and_shutdown_of_a_queue():
    queue = Queue(actor_options={"num_cpus": 0})
    queue.put(1)
    queue.shutdown()
    gone = queue.actor is None
    return gone, attempt(Queue().shutdown, force=True)


# ---- multiprocessing.Pool ----


def square(x):
    return x * x


def add(x, y=0):
    return x + y


def fails(x):
    if x == 2:
        raise ValueError("two")
    return x


def pid(_=None):
    return os.getpid()


@case(seconds_max=60)
def maps_of_a_pool():
    with Pool(2) as pool:
        return (
            pool.map(square, range(5)),
            pool.map(square, range(5), chunksize=2),
            pool.starmap(add, [(1, 2), (3, 4)]),
            list(pool.imap(square, range(4))),
            list(pool.imap(square, range(4), chunksize=2)),
            sorted(pool.imap_unordered(square, range(4))),
            pool.apply(add, (1,), {"y": 2}),
            pool.apply_async(add, (1, 2)).get(),
            pool.map_async(square, range(3)).get(timeout=10),
            pool.starmap_async(add, [(1, 2)]).get(),
            pool.map(square, []),
        )


@case(seconds_max=60)
def errors_of_a_pool():
    with Pool(2) as pool:
        out = [
            attempt(pool.map, fails, range(4)),
            attempt(pool.apply, fails, (2,)),
            attempt(pool.starmap, add, [(1, 2, 3)]),
        ]
        result = pool.apply_async(fails, (2,))
        result.wait(10)
        out += [result.ready(), result.successful(), attempt(result.get)]
        return out


@case(seconds_max=60)
def results_that_are_late():
    gate = Gate()
    with Pool(1) as pool:
        result = pool.apply_async(gate.wait)
        late = attempt(result.get, timeout=0.1), result.ready(), attempt(result.successful)
        gate.open()
        result.wait(10)
        return late, result.ready(), result.successful(), multiprocessing.TimeoutError.__name__


@case(seconds_max=60)
def callbacks_of_a_pool():
    seen, failed = [], []
    with Pool(2) as pool:
        pool.apply_async(add, (1, 2), callback=seen.append).get()
        pool.map_async(square, range(3), callback=seen.append).get()
        result = pool.apply_async(fails, (2,), error_callback=failed.append)
        attempt(result.get)
        deadline = time.monotonic() + 10
        while (len(seen) < 2 or not failed) and time.monotonic() < deadline:
            time.sleep(0.01)
    return seen[0], sorted(seen[1]), len(failed)


@case(seconds_max=60)
def initializers_and_replacement():
    def initialize(value):
        os.environ["POOL_VALUE"] = value

    def read(_):
        return os.environ.get("POOL_VALUE")

    with Pool(2, initializer=initialize, initargs=("here",)) as pool:
        values = set(pool.map(read, range(4)))
    with Pool(1, maxtasksperchild=1) as pool:
        pids = {pool.apply(pid) for _ in range(3)}
    return values, len(pids)


@case(seconds_max=60)
def the_end_of_a_pool():
    pool = Pool(2)
    early = attempt(pool.join)
    pool.close()
    closed = attempt(pool.map, square, [1])
    pool.join()
    pool = Pool(1)
    pool.terminate()
    return early, closed, attempt(pool.apply, square, (1,))


@case(seconds_max=60)
def sizes_of_a_pool():
    return attempt(Pool, 0), attempt(Pool, -1), attempt(Pool, 10_000)


@case(seconds_max=60)
def next_with_a_timeout():
    gate = Gate()
    with Pool(1) as pool:
        made = pool.imap(lambda g: g.wait() or 1, [gate])
        late = attempt(made.next, timeout=0.1)
        gate.open()
        return late, made.next(timeout=10), attempt(made.next)


# ---- joblib ----


@case(seconds_max=60)
def joblib_runs_in_it():
    try:
        import joblib
    except ImportError:
        return 10.0, True
    import_module(f"{ENGINE}.util.joblib").register_ray()
    with joblib.parallel_backend("ray", n_jobs=2):
        values = joblib.Parallel()(joblib.delayed(math.sqrt)(i**2) for i in range(5))
    return sum(values), values == sorted(values)


run(num_cpus=4)
