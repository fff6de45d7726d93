"""asyncio: awaiting refs, gather, wait, cancelling the await."""

from __future__ import annotations

import asyncio
import os
import threading

from oracle.cases import Gate, attempt, case, lineage, raised, ray, run


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


async def attempt_await(awaitable):
    try:
        return await awaitable
    except BaseException as error:
        return raised(error)


@case
def await_a_ref():
    async def main():
        return await add.remote(1)

    return asyncio.run(main())


@case
def await_a_ref_twice():
    async def main():
        ref = add.remote(1)
        return await ref, await ref

    return asyncio.run(main())


@case
def await_a_put_object():
    async def main():
        return await ray.put([1, 2])

    return asyncio.run(main())


@case
def await_a_ref_that_is_ready():
    ref = add.remote(1)
    ray.wait([ref])

    async def main():
        return await ref

    return asyncio.run(main())


@case
def await_a_large_object():
    async def main():
        return len(await ray.put(bytes(3_000_000)))

    return asyncio.run(main())


@case(says=["broken"])
def await_a_failed_ref():
    async def main():
        await fail.remote()

    asyncio.run(main())


@case
def the_error_of_an_await_and_of_get_are_of_one_kind():
    async def main():
        return await attempt_await(fail.remote()), attempt(ray.get, fail.remote())

    return asyncio.run(main())


@case
def the_cause_of_an_awaited_error():
    async def main():
        try:
            await fail.remote()
        except ValueError as error:
            return lineage(error.cause), str(error.cause)

    return asyncio.run(main())


@case
def await_the_task_of_a_dead_worker():
    @ray.remote(max_retries=0)
    def die():
        os._exit(1)

    async def main():
        return await attempt_await(die.remote())

    return asyncio.run(main())


@case
def await_a_cancelled_task():
    gate, started = Gate(), Gate()
    ref = wait_for.remote(gate, started)
    started.wait()
    ray.cancel(ref)

    async def main():
        return await attempt_await(ref)

    return asyncio.run(main())


@case
def await_a_pending_task_that_is_cancelled_meanwhile():
    gate, started = Gate(), Gate()
    ref = wait_for.remote(gate, started)
    started.wait()

    async def main():
        waiting = asyncio.ensure_future(attempt_await(ref))
        await asyncio.sleep(0)
        ray.cancel(ref)
        return await waiting

    return asyncio.run(main())


@case
def gather():
    async def main():
        return await asyncio.gather(*[add.remote(i) for i in range(20)])

    return asyncio.run(main())


@case
def gather_with_an_error():
    async def main():
        return await attempt_await(asyncio.gather(add.remote(1), fail.remote()))

    return asyncio.run(main())


@case
def gather_that_returns_errors():
    async def main():
        return await asyncio.gather(add.remote(1), fail.remote(), return_exceptions=True)

    return asyncio.run(main())


@case
def asyncio_wait_takes_no_refs():
    async def main():
        return await attempt_await(asyncio.wait([add.remote(1)]))

    return asyncio.run(main())


@case
def asyncio_wait_of_wrapped_refs():
    async def main():
        futures = [asyncio.ensure_future(add.remote(i)) for i in range(3)]
        done, pending = await asyncio.wait(futures)
        return sorted(future.result() for future in done), len(pending)

    return asyncio.run(main())


@case
def asyncio_as_completed():
    async def main():
        return sorted(
            [await each for each in asyncio.as_completed([add.remote(i) for i in range(5)])]
        )

    return asyncio.run(main())


@case
def wait_for_with_a_timeout():
    gate = Gate()

    async def main():
        ref = wait_for.remote(gate)
        first = await attempt_await(asyncio.wait_for(ref, timeout=0.1))
        gate.open()
        return first, await ref

    return asyncio.run(main())


@case
def cancelling_the_await_leaves_the_task_alone():
    gate, started = Gate(), Gate()

    async def main():
        ref = wait_for.remote(gate, started)

        async def hold():
            return await ref

        waiting = asyncio.ensure_future(hold())
        while not started.is_open():
            await asyncio.sleep(0.01)
        waiting.cancel()
        first = await attempt_await(waiting)
        gate.open()
        return first, await ref

    return asyncio.run(main())


@case
def the_loop_turns_while_a_task_runs():
    gate = Gate()

    async def main():
        turns = 0

        async def turn():
            nonlocal turns
            while turns < 10:
                turns += 1
                await asyncio.sleep(0)
            gate.open()

        return (await asyncio.gather(wait_for.remote(gate), turn()))[0], turns

    return asyncio.run(main())


@case
def many_awaits_of_one_ref():
    gate = Gate()

    async def main():
        ref = wait_for.remote(gate)

        async def hold():
            return await ref

        waiting = [asyncio.ensure_future(hold()) for _ in range(10)]
        await asyncio.sleep(0)
        gate.open()
        return set(await asyncio.gather(*waiting))

    return asyncio.run(main())


@case
def await_in_two_loops_one_after_the_other():
    ref = add.remote(1)

    async def main():
        return await ref

    return asyncio.run(main()), asyncio.run(main())


@case
def await_in_a_loop_of_another_thread():
    async def main():
        return await add.remote(1)

    found = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(main())))
    thread.start()
    thread.join()
    return found


@case
def await_inside_of_a_task():
    @ray.remote
    def outer():
        async def main():
            return await asyncio.gather(*[add.remote(i) for i in range(3)])

        return asyncio.run(main())

    return ray.get(outer.remote())


@case
def get_inside_of_a_coroutine():
    async def main():
        return ray.get(add.remote(1))

    return asyncio.run(main())


@case
def ensure_future_of_a_ref():
    async def main():
        future = asyncio.ensure_future(add.remote(1))
        return isinstance(future, asyncio.Future), await future

    return asyncio.run(main())


@case
def create_task_of_a_ref():
    async def main():
        ref = add.remote(1)
        return attempt(asyncio.create_task, ref)

    return asyncio.run(main())


@case
def as_future():
    async def main():
        ref = add.remote(1)
        future = ref.as_future()
        return isinstance(future, asyncio.Future), await future

    return attempt(lambda: asyncio.run(main()))


@case
def dunder_await_outside_of_a_loop():
    ref = add.remote(1)
    return attempt(lambda: next(ref.__await__()))


if __name__ == "__main__":
    run()
