"""Asyncio and threaded actors, concurrency groups, order, limits, cancelling, contexts."""

from __future__ import annotations

import asyncio
import threading
import time

from oracle.cases import Gate, attempt, case, raised, ray, run


def get(ref, timeout=15):
    return ray.get(ref, timeout=timeout)


def error_of(function):
    try:
        function()
    except Exception as error:
        return error
    return None


async def opened(gate):
    while not gate.is_open():
        await asyncio.sleep(0.005)


@ray.remote
class Async:
    def __init__(self):
        self.running = 0
        self.most = 0
        self.seen = []

    async def hold(self, gate, started=None):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if started is not None:
                started.open()
            await opened(gate)
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        finally:
            self.running -= 1
        return "done"

    async def swallow(self, gate, started):
        started.open()
        try:
            await opened(gate)
        except asyncio.CancelledError:
            self.seen.append("swallowed")
        return "survived"

    async def count(self):
        return self.running

    async def max_seen(self):
        return self.most

    async def log(self):
        return self.seen

    async def fetch(self, refs):
        return [await ref for ref in refs]

    async def gather(self, refs):
        return await asyncio.gather(*refs)

    async def blocking_get(self, ref):
        return ray.get(ref[0])

    def plain(self):
        return "plain"

    async def loop_runs(self):
        return asyncio.get_running_loop().is_running()

    async def fail(self):
        await asyncio.sleep(0)
        raise ValueError("in async")

    async def child(self, gate, started, outcome):
        ref = sleeper.remote(gate, started)
        try:
            return await ref
        except BaseException as error:
            outcome.append(type(error).__name__)
            raise

    async def context(self):
        c = ray.get_runtime_context()
        return c.get_task_id(), c.get_actor_id(), c.get_task_name(), c.get_task_function_name()


@ray.remote
def sleeper(gate, started):
    started.open()
    gate.wait()
    return "slept"


@ray.remote
def nested(gate, started):
    return ray.get(sleeper.remote(gate, started))


@ray.remote
class Threads:
    def __init__(self):
        self.lock = threading.Lock()
        self.running = 0
        self.most = 0
        self.seen = []

    def hold(self, gate, started=None):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        if started is not None:
            started.open()
        gate.wait()
        with self.lock:
            self.running -= 1
        return "done"

    def max_seen(self):
        return self.most

    def until_cancelled(self, started):
        started.open()
        while not ray.get_runtime_context().is_canceled():
            time.sleep(0.005)
        self.seen.append("noticed")
        return "noticed"

    def log(self):
        return self.seen

    def is_canceled(self):
        return ray.get_runtime_context().is_canceled()

    def child(self, gate, started):
        return ray.get(sleeper.remote(gate, started))

    def thread(self):
        return threading.current_thread() is threading.main_thread()


def until(function, wanted):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if function() == wanted:
            return True
        time.sleep(0.01)
    return function()


# ---- asyncio ----


@case
def calls_of_an_async_actor_overlap():
    actor, gate = Async.remote(), Gate()
    refs = [actor.hold.remote(gate) for _ in range(10)]
    overlapped = until(lambda: get(actor.count.remote()), 10)
    gate.open()
    return overlapped, get(refs)


@case
def max_concurrency_bounds_an_async_actor():
    actor, gate = Async.options(max_concurrency=3).remote(), Gate()
    started = [Gate() for _ in range(3)]
    refs = [actor.hold.remote(gate, one) for one in started]
    refs += [actor.hold.remote(gate) for _ in range(4)]
    for one in started:
        one.wait()
    gate.open()
    get(refs)
    return get(actor.max_seen.remote())


@case
def awaiting_refs_in_an_async_actor():
    actor, other = Async.remote(), Async.remote()
    gate = Gate()
    held = other.hold.remote(gate)
    ref = actor.fetch.remote([held, ray.put(1)])
    alive = get(actor.count.remote())
    gate.open()
    return alive, get(ref), get(actor.gather.remote([ray.put(1), ray.put(2)]))


@case
def a_plain_method_of_an_async_actor():
    actor = Async.remote()
    return attempt(get, actor.plain.remote()), get(actor.loop_runs.remote())


@case
def an_error_of_an_async_method():
    error = error_of(lambda: get(Async.remote().fail.remote()))
    return raised(error), "in async" in str(error)


@case
def the_context_of_async_calls():
    actor = Async.remote()
    a, b = get([actor.context.remote(), actor.context.remote()])
    return a[0] != b[0], a[1] == b[1] == actor._actor_id.hex(), a[2], a[3]


@case
def an_async_driver_awaits_calls():
    actor = Async.remote()

    async def main():
        values = await asyncio.gather(*[actor.count.remote() for _ in range(5)])
        try:
            await actor.fail.remote()
        except ValueError:
            return values, "ValueError"

    return asyncio.run(main())


@case
def an_async_constructor_method_mix_with_async_generators():
    @ray.remote
    class Gen:
        async def items(self, n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i

    made = Gen.remote().items.remote(3)

    async def main():
        return [await ref async for ref in made]

    return asyncio.run(main())


# ---- cancelling ----


@case
def cancelling_an_async_call():
    actor, gate, started = Async.remote(), Gate(), Gate()
    ref = actor.hold.remote(gate, started)
    started.wait()
    ray.cancel(ref)
    outcome = attempt(get, ref)
    return outcome, until(lambda: get(actor.log.remote()), ["cancelled"]), get(actor.count.remote())


@case
def an_async_call_that_swallows_its_cancellation():
    actor, gate, started = Async.remote(), Gate(), Gate()
    ref = actor.swallow.remote(gate, started)
    started.wait()
    ray.cancel(ref)
    return attempt(get, ref), until(lambda: get(actor.log.remote()), ["swallowed"])


@case
def cancelling_a_call_whose_argument_is_missing():
    @ray.remote
    class Taker:
        def take(self, x):
            return x

        def one(self):
            return 1

    gate, started = Gate(), Gate()
    actor = Taker.remote()
    late = sleeper.remote(gate, started)
    ref = actor.take.remote(late)
    after = actor.one.remote()
    ray.cancel(ref)
    outcome = attempt(get, ref)
    gate.open()
    return outcome, get(after)


@case
def cancelling_a_finished_call():
    actor = Async.remote()
    ref = actor.count.remote()
    get(ref)
    return ray.cancel(ref), get(ref)


@case
def force_is_not_for_actors():
    actor, gate, started = Async.remote(), Gate(), Gate()
    ref = actor.hold.remote(gate, started)
    started.wait()
    outcome = attempt(ray.cancel, ref, force=True)
    gate.open()
    return outcome


@case(says=["force=True is not supported for actor tasks"])
def the_text_of_force_for_actors():
    actor, gate, started = Async.remote(), Gate(), Gate()
    ref = actor.hold.remote(gate, started)
    started.wait()
    ray.cancel(ref, force=True)


@case
def a_threaded_call_is_told_that_it_is_cancelled():
    actor, started = Threads.options(max_concurrency=2).remote(), Gate()
    ref = actor.until_cancelled.remote(started)
    started.wait()
    ray.cancel(ref)
    outcome = attempt(get, ref)
    return outcome, until(lambda: get(actor.log.remote()), ["noticed"])


@case
def a_sync_call_is_told_that_it_is_cancelled():
    actor, started = Threads.remote(), Gate()
    ref = actor.until_cancelled.remote(started)
    started.wait()
    ray.cancel(ref)
    outcome = attempt(get, ref)
    return outcome, get(actor.is_canceled.remote())


@case
def recursive_cancel_from_an_async_actor():
    actor, gate, started = Async.remote(), Gate(), Gate()
    ref = actor.child.remote(gate, started, [])
    started.wait()
    ray.cancel(ref)
    return attempt(get, ref)


def _children_end(ref, recursive):
    """Whether the sleeper below `ref` ended: its CPU comes back."""
    ray.cancel(ref, recursive=recursive)
    outcome = attempt(get, ref)
    free = until(lambda: ray.available_resources().get("CPU", 0) == 8, True)
    return outcome, free


@case(seconds_max=40)
def recursive_cancel_ends_children_of_async_actors():
    actor, gate, started = Async.remote(), Gate(), Gate()
    ref = actor.child.remote(gate, started, [])
    started.wait()
    return _children_end(ref, True)


@case(seconds_max=40)
def recursive_cancel_ends_children_of_threaded_actors():
    actor, gate, started = Threads.options(max_concurrency=2).remote(), Gate(), Gate()
    ref = actor.child.remote(gate, started)
    started.wait()
    return _children_end(ref, True)


@case(seconds_max=40)
def recursive_cancel_ends_children_of_sync_actors():
    actor, gate, started = Threads.remote(), Gate(), Gate()
    ref = actor.child.remote(gate, started)
    started.wait()
    return _children_end(ref, True)


@case(seconds_max=40)
def cancel_that_is_not_recursive_leaves_children():
    actor, gate, started = Async.remote(), Gate(), Gate()
    ref = actor.child.remote(gate, started, [])
    started.wait()
    ray.cancel(ref, recursive=False)
    outcome = attempt(get, ref)
    time.sleep(0.5)
    running = ray.available_resources().get("CPU", 0)
    gate.open()
    return outcome, running


@case
def cancelling_a_generator_of_an_async_actor():
    @ray.remote
    class Gen:
        async def items(self, gate):
            yield 1
            await opened(gate)
            yield 2

    made = Gen.remote().items.remote(Gate())
    first = get(next(made))
    ray.cancel(made)

    def rest():
        return [get(ref) for ref in made]

    return first, attempt(rest)


# ---- threads ----


@case
def calls_of_a_threaded_actor_overlap():
    actor, gate = Threads.options(max_concurrency=4).remote(), Gate()
    started = [Gate() for _ in range(3)]
    refs = [actor.hold.remote(gate, one) for one in started]
    for one in started:
        one.wait()
    most = get(actor.max_seen.remote())
    gate.open()
    return most, get(refs)


@case
def a_sync_actor_runs_in_the_main_thread():
    return get(Threads.remote().thread.remote())


@case
def the_context_of_threaded_calls():
    @ray.remote(max_concurrency=2)
    class Some:
        def ids(self, gate, started):
            started.open()
            gate.wait()
            c = ray.get_runtime_context()
            return c.get_task_id(), c.get_actor_id()

    actor, gate = Some.remote(), Gate()
    started = [Gate(), Gate()]
    refs = [actor.ids.remote(gate, one) for one in started]
    for one in started:
        one.wait()
    gate.open()
    a, b = get(refs)
    return a[0] != b[0], a[1] == b[1]


# ---- concurrency groups ----


@ray.remote(concurrency_groups={"io": 2, "compute": 1})
class Grouped:
    def __init__(self):
        self.most = {}

    @ray.method(concurrency_group="io")
    def io(self, gate, started):
        started.open()
        gate.wait()
        return threading.current_thread().name, threading.get_ident()

    @ray.method(concurrency_group="compute")
    def compute(self):
        return threading.get_ident()

    def default(self):
        return threading.get_ident()

    def other(self, gate, started):
        started.open()
        gate.wait()
        return threading.get_ident()


@case
def groups_do_not_wait_for_each_other():
    actor, gate = Grouped.remote(), Gate()
    started = [Gate(), Gate()]
    refs = [actor.io.remote(gate, one) for one in started]
    for one in started:
        one.wait()
    a, b = get(actor.compute.remote()), get(actor.default.remote())
    gate.open()
    io = {ident for _, ident in get(refs)}
    return a != b, len(io), a not in io and b not in io


@case
def the_group_can_be_given_at_the_call():
    actor, gate = Grouped.remote(), Gate()
    started = [Gate(), Gate()]
    refs = [actor.other.options(concurrency_group="io").remote(gate, one) for one in started]
    for one in started:
        one.wait()
    free = get(actor.default.remote())
    gate.open()
    return bool(free), len(set(get(refs)))


@case
def a_group_has_a_limit():
    actor, gate = Grouped.remote(), Gate()
    started = [Gate(), Gate(), Gate()]
    refs = [actor.io.remote(gate, one) for one in started]
    started[0].wait()
    started[1].wait()
    time.sleep(0.2)
    third = started[2].is_open()
    gate.open()
    get(refs)
    return third


@case(differs="refused at once, and the actor lives on")
def a_group_that_there_is_not():
    actor = Grouped.remote()
    return attempt(lambda: get(actor.default.options(concurrency_group="nothing").remote()))


@case
def groups_of_an_async_actor():
    @ray.remote(concurrency_groups={"io": 2, "compute": 4})
    class Some:
        @ray.method(concurrency_group="io")
        async def io(self, gate, started):
            started.open()
            await opened(gate)
            return threading.get_ident()

        @ray.method(concurrency_group="compute")
        async def compute(self):
            return threading.get_ident()

        async def default(self):
            return threading.get_ident()

    actor, gate = Some.remote(), Gate()
    started = [Gate(), Gate()]
    refs = [actor.io.remote(gate, one) for one in started]
    for one in started:
        one.wait()
    a, b = get(actor.compute.remote()), get(actor.default.remote())
    gate.open()
    io = set(get(refs))
    return len({a, b} | io)


# ---- order and limits ----


@case
def calls_keep_their_order_though_arguments_are_late():
    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, x):
            self.seen.append(x)
            return list(self.seen)

    actor, gate, started = Log.remote(), Gate(), Gate()
    actor.add.remote(sleeper.remote(gate, started))
    last = actor.add.remote(2)
    started.wait()
    gate.open()
    return get(last)


@case
def calls_out_of_order():
    @ray.remote(allow_out_of_order_execution=True)
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, x):
            self.seen.append(x)
            return list(self.seen)

    actor, gate, started = Log.remote(), Gate(), Gate()
    first = actor.add.remote(sleeper.remote(gate, started))
    last = get(actor.add.remote(2))
    gate.open()
    return last, get(first)


@case
def max_pending_calls():
    actor, gate, started = Threads.options(max_pending_calls=2).remote(), Gate(), Gate()
    refs = [actor.hold.remote(gate, started)]
    started.wait()
    refs.append(actor.hold.remote(gate))
    outcome = attempt(actor.hold.remote, gate)
    gate.open()
    return outcome, get(refs), get(actor.max_seen.remote())


@case(says=["has", "pending", "max_pending_calls=1"])
def the_text_of_max_pending_calls():
    actor, gate, started = Threads.options(max_pending_calls=1).remote(), Gate(), Gate()
    actor.hold.remote(gate, started)
    started.wait()
    actor.hold.remote(gate)


@case
def many_threads_of_the_driver_call_one_actor():
    @ray.remote
    class Sum:
        def __init__(self):
            self.n = 0

        def add(self):
            self.n += 1
            return self.n

    actor = Sum.remote()
    values, lock = [], threading.Lock()

    def work():
        mine = ray.get([actor.add.remote() for _ in range(50)])
        with lock:
            values.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(values) == list(range(1, 201))


run(num_cpus=8)
