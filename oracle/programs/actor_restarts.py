"""Actors that come back: restarts, calls that are tried again, methods that are called again."""

from __future__ import annotations

import asyncio
import os
import time

from oracle.cases import Tally, attempt, case, raised, ray, run


@ray.remote
class Simple:
    def __init__(self, value=0):
        self.value = value

    def pid(self):
        return os.getpid()

    def add(self):
        self.value += 1
        return self.value

    def die(self):
        os._exit(3)

    def reconstructed(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


def get(ref, timeout=15):
    return ray.get(ref, timeout=timeout)


def error_of(function):
    try:
        function()
    except Exception as error:
        return error
    return None


def fields(error):
    return {
        "class": raised(error),
        "actor_id": bool(getattr(error, "actor_id", None)),
        "init_failed": getattr(error, "actor_init_failed", None),
        "preempted": getattr(error, "preempted", None),
    }


def dead(handle, method="pid"):
    """Calls until the actor is known to be dead."""
    while True:
        try:
            get(getattr(handle, method).remote())
        except ray.exceptions.ActorDiedError as error:
            return error
        except ray.exceptions.RayActorError:
            pass
        time.sleep(0.02)


def back(handle):
    while True:
        try:
            return get(handle.pid.remote())
        except ray.exceptions.ActorUnavailableError:
            time.sleep(0.02)


@case
def restarts_with_a_new_state():
    actor = Simple.options(max_restarts=1).remote(10)
    first = get(actor.pid.remote())
    get(actor.add.remote())
    error = error_of(lambda: get(actor.die.remote()))
    second = back(actor)
    return (
        raised(error),
        second != first,
        get(actor.add.remote()),
        get(actor.reconstructed.remote()),
    )


@case
def it_comes_back_as_often_as_allowed():
    actor = Simple.options(max_restarts=2).remote()
    pids = set()
    for _ in range(3):
        pids.add(back(actor))
        attempt(get, actor.die.remote())
    return len(pids), raised(dead(actor))


@case
def max_restarts_without_limit():
    actor = Simple.options(max_restarts=-1).remote()
    pids = set()
    for _ in range(4):
        pids.add(back(actor))
        attempt(get, actor.die.remote())
    return len(pids), back(actor) not in pids


@case
def a_call_that_is_lost_with_restarts_left():
    actor = Simple.options(max_restarts=1).remote()
    error = error_of(lambda: get(actor.die.remote()))
    return fields(error)


@case(says=["unavailable", "The task may or may not have been executed on the actor"])
def the_text_of_an_unavailable_actor():
    actor = Simple.options(max_restarts=1).remote()
    get(actor.die.remote())


@case
def max_task_retries_of_the_class():
    tally = Tally()

    @ray.remote(max_restarts=2, max_task_retries=2)
    class Dies:
        def f(self):
            if tally.add() < 3:
                os._exit(1)
            return tally.count()

    return get(Dies.remote().f.remote())


@case
def max_task_retries_are_used_up():
    tally = Tally()

    @ray.remote(max_restarts=-1, max_task_retries=1)
    class Dies:
        def f(self):
            tally.add()
            os._exit(1)

    error = error_of(lambda: get(Dies.remote().f.remote()))
    return raised(error), tally.count()


@case
def max_task_retries_without_limit():
    tally = Tally()

    @ray.remote(max_restarts=-1, max_task_retries=-1)
    class Dies:
        def f(self):
            if tally.add() < 5:
                os._exit(1)
            return "alive"

    return get(Dies.remote().f.remote()), tally.count()


@case
def max_task_retries_and_no_restarts_left():
    tally = Tally()

    @ray.remote(max_restarts=1, max_task_retries=-1)
    class Dies:
        def f(self):
            tally.add()
            os._exit(1)

    return raised(error_of(lambda: get(Dies.remote().f.remote()))), tally.count()


@case
def retry_exceptions_of_a_method():
    tally = Tally()

    @ray.remote(max_task_retries=3)
    class Fails:
        @ray.method(retry_exceptions=True)
        def f(self):
            if tally.add() < 3:
                raise ValueError("again")
            return tally.count()

    return get(Fails.remote().f.remote())


@case
def retry_exceptions_needs_retries():
    tally = Tally()

    @ray.remote
    class Fails:
        @ray.method(retry_exceptions=True)
        def f(self):
            tally.add()
            raise ValueError("again")

    return attempt(get, Fails.remote().f.remote()), tally.count()


@case
def retry_exceptions_are_counted():
    tally = Tally()

    @ray.remote
    class Fails:
        @ray.method(retry_exceptions=True, max_task_retries=2)
        def f(self):
            tally.add()
            raise ValueError("again")

    return attempt(get, Fails.remote().f.remote()), tally.count()


@case
def retry_exceptions_of_some_classes():
    tally, other = Tally(), Tally()

    @ray.remote(max_task_retries=3)
    class Fails:
        @ray.method(retry_exceptions=[ValueError])
        def f(self, tally, kind):
            tally.add()
            raise kind("again")

    actor = Fails.remote()
    return (
        attempt(get, actor.f.remote(tally, ValueError)),
        tally.count(),
        attempt(get, actor.f.remote(other, KeyError)),
        other.count(),
    )


@case
def retry_exceptions_at_the_call():
    tally = Tally()

    @ray.remote
    class Fails:
        def f(self):
            if tally.add() < 3:
                raise ValueError("again")
            return "ok"

    actor = Fails.remote()
    return get(actor.f.options(max_task_retries=5, retry_exceptions=[ValueError]).remote())


@case
def retry_exceptions_of_an_async_method():
    tally = Tally()

    @ray.remote(max_task_retries=3)
    class Fails:
        @ray.method(retry_exceptions=True)
        async def f(self):
            await asyncio.sleep(0)
            if tally.add() < 3:
                raise ValueError("again")
            return tally.count()

    return get(Fails.remote().f.remote())


@case
def retry_exceptions_of_a_generator_method():
    tally = Tally()

    @ray.remote(max_task_retries=3)
    class Fails:
        @ray.method(retry_exceptions=True)
        def f(self):
            for i in range(3):
                if i == 2 and tally.add() < 3:
                    raise ValueError("again")
                yield i

    return [attempt(get, ref) for ref in Fails.remote().f.remote()], tally.count()


run(num_cpus=8)
