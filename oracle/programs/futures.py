"""Futures of refs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

from oracle.cases import Gate, attempt, case, ray, run


@ray.remote
def add(value, other=1):
    return value + other


@ray.remote
def fail():
    raise ValueError("broken")


@ray.remote
def wait_for(gate, started=None):
    if started is not None:
        started.open()
    gate.wait()
    return "done"


@case
def a_future_of_a_ref():
    future = add.remote(1).future()
    return isinstance(future, concurrent.futures.Future), future.result(timeout=10)


@case
def a_future_is_done_after_result():
    future = add.remote(1).future()
    future.result(timeout=10)
    return future.done(), future.cancelled(), future.running()


@case
def a_future_of_a_failed_ref():
    future = fail.remote().future()
    return attempt(future.result, timeout=10), future.exception(timeout=10)


@case
def a_future_of_a_ref_with_a_timeout():
    gate = Gate()
    future = wait_for.remote(gate).future()
    first = attempt(future.result, timeout=0.05)
    gate.open()
    return first, future.result(timeout=10)


@case
def a_future_calls_back():
    future = add.remote(1).future()
    told = threading.Event()
    found = []

    def callback(future):
        found.append(future.result())
        told.set()

    future.add_done_callback(callback)
    return told.wait(10), found


@case
def futures_wait():
    futures = [add.remote(i).future() for i in range(5)]
    done, rest = concurrent.futures.wait(futures, timeout=10)
    return sorted(future.result() for future in done), len(rest)


@case
def two_futures_of_one_ref():
    ref = add.remote(1)
    first, second = ref.future(), ref.future()
    return first is second, first.result(10), second.result(10)


@case
def cancelling_a_future_leaves_the_task_alone():
    gate, started = Gate(), Gate()
    ref = wait_for.remote(gate, started)
    started.wait()
    future = ref.future()
    answer = future.cancel()
    cancelled = future.cancelled()
    gate.open()
    return answer, cancelled, ray.get(ref, timeout=10), attempt(future.result, timeout=5)


@case
def wrap_future():
    async def main():
        return await asyncio.wrap_future(add.remote(1).future())

    return asyncio.run(main())


@case
def the_ref_may_go_before_its_future():
    gate = Gate()
    future = wait_for.remote(gate).future()
    gate.open()
    return future.result(timeout=10)


@case
def on_completed():
    ref = add.remote(1)
    told = threading.Event()
    found = []

    def callback(value):
        found.append(value)
        told.set()

    answer = attempt(ref._on_completed, callback)
    return answer, told.wait(10), found


@case
def a_coroutine_function_as_a_task():
    async def number():
        return 1

    return attempt(ray.remote, number)


@case
def a_task_that_returns_a_coroutine():
    @ray.remote(max_retries=0)
    def give():
        async def number():
            return 1

        return number()

    return attempt(ray.get, give.remote(), timeout=15)


@case
def a_thousand_awaits():
    async def main():
        return sum(await asyncio.gather(*[add.remote(i) for i in range(1000)]))

    return asyncio.run(main())


if __name__ == "__main__":
    run()
