"""Work of every kind for the tests that kill processes: rounds of it, chosen by a seed.

A round ends, with the right values or with errors that a death explains. Runs as a program too, as the
driver that is killed: it works until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import mobula as ray
import numpy as np
from mobula import _core, exceptions

# Only a bug reaches it.
DEADLINE_SECONDS = 120.0


@ray.remote(max_retries=-1)
def small(value: Any) -> Any:
    return value


@ray.remote(max_retries=-1)
def large(i: int) -> Any:
    return np.full(50_000, i)


@ray.remote(max_retries=-1)
def nested(i: int) -> int:
    return int(sum(ray.get([small.remote(i), small.remote(1)])))


@ray.remote(max_retries=-1)
def items(n: int) -> Any:
    yield from range(n)


@ray.remote(max_retries=-1)
def slow(i: int) -> int:
    time.sleep(0.02)
    return i


@ray.remote(max_retries=-1)
def total(array: Any, *more: Any) -> int:
    return int(array.sum()) + sum(more)


@ray.remote(max_retries=-1, num_returns=3)
def three(i: int) -> Any:
    return i, i + 1, i + 2


@ray.remote(max_retries=-1)
def gives_refs(i: int) -> Any:
    return [ray.put(i), small.remote(i + 1)]


@ray.remote(max_retries=0)
def once(i: int) -> int:
    time.sleep(0.005)
    return i


@ray.remote(max_retries=-1, timeout_s=0.05)
def too_slow() -> None:
    time.sleep(600)


def get(refs: Any) -> Any:
    return ray.get(refs, timeout=DEADLINE_SECONDS)


def small_results(choose: random.Random, n: int) -> None:
    assert get([small.remote(i) for i in range(n)]) == list(range(n))


def large_results(choose: random.Random, n: int) -> None:
    for i, ref in enumerate([large.remote(i) for i in range(n % 30)]):
        # In the memory of who dies between its result and the taking over of it: lost, truly told.
        with contextlib.suppress(exceptions.ObjectLostError):
            assert get(ref)[0] == i


def large_arguments(choose: random.Random, n: int) -> None:
    array = ray.put(np.ones(30_000, dtype=np.int64))
    refs = [total.remote(array, small.remote(i)) for i in range(n % 50)]
    assert get(refs) == [30_000 + i for i in range(n % 50)]


def nesting(choose: random.Random, n: int) -> None:
    assert get([nested.remote(i) for i in range(n % 20)]) == [i + 1 for i in range(n % 20)]


def generators(choose: random.Random, n: int) -> None:
    ahead = choose.choice([-1, 1, 10])
    stream = items.options(_generator_backpressure_num_objects=ahead).remote(n)
    assert [get(ref) for ref in stream] == list(range(n))


def abandoned_generator(choose: random.Random, n: int) -> None:
    stream = items.remote(n)
    for _ in range(choose.randrange(n)):
        get(next(stream))


def cancelling(choose: random.Random, n: int) -> None:
    refs = [slow.remote(i) for i in range(n % 40)]
    for ref in refs:
        if choose.random() < 0.5:
            ray.cancel(ref, force=choose.random() < 0.3)
    for i, ref in enumerate(refs):
        with contextlib.suppress(exceptions.TaskCancelledError):
            assert get(ref) == i


def futures(choose: random.Random, n: int) -> None:
    started = [small.remote(i).future() for i in range(n)]
    assert [future.result(timeout=DEADLINE_SECONDS) for future in started] == list(range(n))


def asyncio_loop(choose: random.Random, n: int) -> None:
    async def gather() -> list[Any]:
        return list(await asyncio.gather(*[small.remote(i) for i in range(n)]))

    assert asyncio.run(asyncio.wait_for(gather(), DEADLINE_SECONDS)) == list(range(n))


def waiting(choose: random.Random, n: int) -> None:
    pending = [slow.remote(i) for i in range(n % 40)]
    got = []
    while pending:
        count = choose.randrange(1, len(pending) + 1)
        ready, pending = ray.wait(pending, num_returns=count, timeout=DEADLINE_SECONDS)
        assert ready
        got += get(ready)
    assert sorted(got) == list(range(n % 40))


def several_returns(choose: random.Random, n: int) -> None:
    refs = [ref for i in range(n % 60) for ref in three.remote(i)]
    assert get(refs) == [i + k for i in range(n % 60) for k in range(3)]


def refs_in_values(choose: random.Random, n: int) -> None:
    for i, ref in enumerate([gives_refs.remote(i) for i in range(n % 20)]):
        # Who made an object that another one was to keep may die before it was handed over.
        with contextlib.suppress(exceptions.ObjectLostError, exceptions.WorkerCrashedError):
            assert get(get(ref)) == [i, i + 1]


def chain(choose: random.Random, n: int) -> None:
    ref = ray.put(n)
    for _ in range(n % 50):
        ref = small.options(priority=choose.randrange(-2, 3)).remote(ref)
    assert get(ref) == n


def no_retries(choose: random.Random, n: int) -> None:
    for i, ref in enumerate([once.remote(i) for i in range(n % 40)]):
        try:
            assert get(ref) == i
        except exceptions.WorkerCrashedError as error:
            assert "killed by SIGKILL" in str(error), error


def time_limits(choose: random.Random, n: int) -> None:
    refs = [too_slow.remote() for _ in range(n % 3)]
    for ref in refs:
        try:
            get(ref)
        except exceptions.TaskTimeoutError:
            continue
        raise AssertionError("it ended")


KINDS: list[Callable[[random.Random, int], None]] = [
    small_results,
    large_results,
    large_arguments,
    nesting,
    generators,
    abandoned_generator,
    cancelling,
    futures,
    asyncio_loop,
    waiting,
    several_returns,
    refs_in_values,
    chain,
    no_retries,
    time_limits,
]


def one_round(choose: random.Random, report: Callable[[str], object] = lambda text: None) -> None:
    kind = choose.choice(KINDS)
    n = choose.randrange(1, 300)
    report(f"{kind.__name__} {n}")
    kind(choose, n)


def main(seed: int) -> None:
    """A driver that works until it is killed, or until its daemon is: then it says how that felt."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ray.init(num_cpus=2, object_store_memory=128 << 20)
    (node,) = _core.nodes()
    print(f"daemon {node['pid']}", flush=True)
    choose = random.Random(seed)
    end = time.monotonic() + DEADLINE_SECONDS
    try:
        while time.monotonic() < end:
            one_round(choose)
    except (
        exceptions.NodeDiedError,
        exceptions.RaySystemError,
        exceptions.LocalRayletDiedError,
    ) as error:
        print(f"told: {error}", flush=True)
    ray.shutdown()
    ray.init(num_cpus=1)  # A new session works.
    assert get(small.remote(7)) == 7
    ray.shutdown()
    print("over", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
