"""The ways of an exception: through pools, futures, await and generators, raised or as a value."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
from importlib import import_module

from oracle.cases import ENGINE, Tally, attempt, case, lineage, ray, run

ActorPool = import_module(f"{ENGINE}.util.actor_pool").ActorPool
Queue = import_module(f"{ENGINE}.util.queue").Queue
Pool = import_module(f"{ENGINE}.util.multiprocessing").Pool


class CodeError(ValueError):
    def __init__(self, message, code):
        super().__init__(message, code)
        self.code = code


class KeywordError(Exception):
    def __init__(self, *, why):
        super().__init__(why)
        self.why = why


def made():
    return CodeError("broken", 7)


def kept(error):
    """What of `made()` is in `error`: its class, field and args."""
    cause = getattr(error, "cause", None) or error
    return isinstance(error, CodeError), getattr(cause, "code", None), list(cause.args)


def way(call):
    try:
        return "returned", kept(call())
    except Exception as error:
        return "raised", kept(error)


def get(ref):
    return ray.get(ref, timeout=15)


@ray.remote(max_retries=0)
def throw():
    raise made()


@ray.remote
def hand_on(value):
    return value


@ray.remote
class Thrower:
    def throw(self, _value=None):
        raise made()

    def items(self):
        yield 1
        raise made()


@ray.remote
class AsyncThrower:
    async def throw(self):
        await asyncio.sleep(0)
        raise made()


@case
def from_tasks_and_actors():
    return (
        way(lambda: get(throw.remote())),
        way(lambda: get(Thrower.remote().throw.remote())),
        way(lambda: get(AsyncThrower.remote().throw.remote())),
    )


@case
def from_a_task_whose_argument_failed():
    return way(lambda: get(hand_on.remote(throw.remote())))


@case
def after_the_first_item():
    def second():
        items = Thrower.remote().items.remote()
        get(next(items))
        return get(next(items))

    return way(second)


@case
def from_a_future():
    return way(lambda: throw.remote().future().result(timeout=15))


@case
def from_await_and_gather():
    async def awaited():
        return await throw.remote()

    async def gathered():
        return (await asyncio.gather(throw.remote(), return_exceptions=True))[0]

    return way(lambda: asyncio.run(awaited())), way(lambda: asyncio.run(gathered()))


@case
def from_an_actor_pool():
    pool = ActorPool([Thrower.remote()])
    return way(lambda: list(pool.map(lambda actor, value: actor.throw.remote(value), [1])))


@case
def an_actor_pool_goes_on_after_an_error():
    pool = ActorPool([Thrower.remote()])
    for number in range(2):
        pool.submit(lambda actor, value: actor.throw.remote(value), number)
    return way(pool.get_next), way(pool.get_next), pool.has_next()


@case(seconds_max=60)
def from_a_pool_of_processes():
    def fail(_value):
        raise made()

    with Pool(1) as pool:
        found = way(lambda: pool.map(fail, [1])), way(lambda: pool.apply(fail, (1,)))
        result = pool.apply_async(fail, (1,))
        return found, way(lambda: result.get(timeout=15)), result.successful()


@case
def as_a_value():
    return (
        kept(get(ray.remote(made).remote())),
        kept(get(ray.put(made()))),
        kept(get(ray.put([made()]))[0]),
        kept(get(hand_on.remote(made()))),
    )


@case
def as_an_item():
    @ray.remote
    def items():
        yield made()

    return kept(get(next(items.remote())))


@case
def notes_of_a_value():
    error = made()
    error.add_note("a note")
    return getattr(get(ray.put(error)), "__notes__", None)


@case
def the_cause_of_a_group():
    @ray.remote(max_retries=0)
    def grouped():
        raise builtins.ExceptionGroup("two", [made(), KeyError("k")])

    try:
        get(grouped.remote())
    except BaseException as error:
        cause = error.cause
        return lineage(cause), cause.message, [lineage(one) for one in cause.exceptions]


@case(differs="causes come along; in Ray they are lost")
def the_cause_of_the_cause():
    @ray.remote(max_retries=0)
    def chained():
        raise made() from KeyError("first")

    try:
        get(chained.remote())
    except CodeError as error:
        return error.cause.__cause__


@case(differs="class and fields stay; in Ray a RaySystemError")
def keywords_only_as_a_value():
    return attempt(get, ray.put(KeywordError(why="w")))


@case(differs="class and fields stay; in Ray it is an UnserializableException")
def keywords_only_as_an_argument_of_another():
    @ray.remote(max_retries=0)
    def outer():
        raise ValueError("outer", KeywordError(why="w"))

    try:
        get(outer.remote())
    except Exception as error:
        args = getattr(getattr(error, "cause", None), "args", [])
        return lineage(error), [getattr(one, "why", one) for one in args]


@case
def args_that_are_a_property():
    class ComputedError(Exception):
        def __init__(self, code):
            self._code = code

        @property
        def args(self):
            return (self._code,)

    @ray.remote(max_retries=0)
    def computed():
        raise ComputedError(7)

    try:
        get(computed.remote())
    except BaseException as error:
        return lineage(error.cause), error.cause.args


@case(differs="what the constructor raised is the cause; in Ray there is none")
def the_cause_of_a_constructor_that_raised():
    @ray.remote
    class Broken:
        def __init__(self):
            raise made()

        def ping(self):
            return 1

    try:
        get(Broken.remote().ping.remote())
    except BaseException as error:
        return lineage(error), error.__cause__


@case
def through_a_task_and_after_retries():
    tries = Tally()

    @ray.remote(max_retries=0)
    def outer():
        return ray.get(throw.remote())

    @ray.remote(max_retries=2, retry_exceptions=[CodeError])
    def again():
        tries.add()
        raise made()

    return way(lambda: get(outer.remote())), way(lambda: get(again.remote())), tries.count()


@case
def through_a_queue():
    queue = Queue()
    queue.put(made())
    return kept(queue.get(timeout=15))


@case(differs="class and fields stay; in Ray it is an UnserializableException")
def an_error_that_is_frozen():
    @dataclasses.dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    @ray.remote(max_retries=0)
    def frozen():
        raise FrozenError(7)

    try:
        get(frozen.remote())
    except Exception as error:
        cause = getattr(error, "cause", None)
        return lineage(error), lineage(cause), getattr(cause, "code", None)


if __name__ == "__main__":
    run()
