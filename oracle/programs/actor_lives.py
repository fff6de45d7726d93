"""Life and death of actors: errors, kill, exit, restarts, retries."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time

from oracle.cases import Gate, Tally, attempt, case, raised, ray, run


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

    def segfault(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def sys_exit(self, code=0):
        sys.exit(code)

    def leave(self):
        ray.actor.exit_actor()

    def fail(self):
        raise ValueError("on purpose")

    def wait(self, gate, started=None):
        if started:
            started.open()
        gate.wait()
        return "done"

    def reconstructed(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


@ray.remote
class Broken:
    def __init__(self):
        raise ValueError("no way")

    def f(self):
        return 1


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


# ---- errors ----


@case
def an_error_of_a_method():
    actor = Simple.remote()
    error = error_of(lambda: get(actor.fail.remote()))
    return raised(error), raised(error.cause), str(error.cause)


@case
def the_text_of_an_error_of_a_method():
    text = str(error_of(lambda: get(Simple.remote().fail.remote())))
    first = text.splitlines()[0]
    parts = ["Simple.fail()", "(pid=", "ip=127.0.0.1", "actor_id=", "repr=<"]
    return [part in first for part in parts], "ValueError: on purpose" in text


@case
def the_repr_of_the_instance_is_in_the_text_of_an_error():
    @ray.remote
    class Named:
        def __repr__(self):
            return "My(name)"

        def fail(self):
            raise ValueError("x")

    text = str(error_of(lambda: get(Named.remote().fail.remote())))
    return "repr=My(name)" in text


@case
def the_fields_of_an_error_of_a_method():
    actor = Simple.remote()

    def caught():
        try:
            get(actor.fail.remote())
        except ray.exceptions.RayTaskError as error:
            return error

    error = caught()
    cause = error.cause
    return type(cause).__name__, cause.args


@case
def the_actor_goes_on_after_an_error():
    actor = Simple.remote()
    attempt(get, actor.fail.remote())
    return get(actor.add.remote())


@case
def an_error_in_the_constructor():
    actor = Broken.remote()
    error = error_of(lambda: get(actor.f.remote()))
    return fields(error), "no way" in str(error), "ValueError" in str(error)


@case(says=["The actor died because of an error raised in its creation task", "Broken.__init__()"])
def the_text_of_an_error_in_the_constructor():
    get(Broken.remote().f.remote())


@case
def every_later_call_of_a_broken_actor_fails():
    actor = Broken.remote()
    return [attempt(get, actor.f.remote()) for _ in range(3)]


@case
def a_broken_actor_in_wait_is_ready():
    ready, rest = ray.wait([Broken.remote().f.remote()], timeout=10)
    return len(ready), len(rest)


@case
def an_error_in_the_constructor_is_not_retried_by_restarts():
    tally = Tally()

    @ray.remote(max_restarts=3)
    class Counted:
        def __init__(self):
            tally.add()
            raise ValueError("x")

        def f(self):
            return 1

    outcome = attempt(get, Counted.remote().f.remote())
    return outcome, tally.count()


@case
def an_argument_of_the_constructor_that_failed():
    @ray.remote
    def fail():
        raise KeyError("argument")

    actor = Simple.remote(fail.remote())
    error = error_of(lambda: get(actor.pid.remote()))
    return raised(error)


@case
def an_argument_of_a_call_that_failed():
    @ray.remote
    def fail():
        raise KeyError("argument")

    @ray.remote
    class Taker:
        def take(self, x):
            return x

    actor = Taker.remote()
    return attempt(get, actor.take.remote(fail.remote())), get(actor.take.remote(1))


@case
def sys_exit_in_the_constructor():
    @ray.remote
    class Leaver:
        def __init__(self):
            sys.exit(1)

        def f(self):
            return 1

    return fields(error_of(lambda: get(Leaver.remote().f.remote())))


@case
def death_in_the_constructor():
    @ray.remote
    class Dier:
        def __init__(self):
            os._exit(4)

        def f(self):
            return 1

    return fields(error_of(lambda: get(Dier.remote().f.remote())))


@case
def what_a_method_returns_that_cannot_be_pickled():
    import threading

    @ray.remote
    class Some:
        def f(self):
            return threading.Lock()

    return attempt(get, Some.remote().f.remote())


# ---- death ----


@case
def a_process_that_dies():
    actor = Simple.remote()
    error = error_of(lambda: get(actor.die.remote()))
    return fields(error), fields(error_of(lambda: get(actor.pid.remote())))


@case(says=["The actor died unexpectedly before finishing this task", "class_name: Simple", "pid:"])
def the_text_of_a_process_that_dies():
    get(Simple.remote().segfault.remote())


@case(
    says=[
        "The actor is dead because",
        "class_name: Simple",
        "actor_id:",
        "namespace:",
        "ip: 127.0.0.1",
    ]
)
def the_text_of_a_call_after_the_death():
    actor = Simple.remote()
    attempt(get, actor.die.remote())
    get(actor.pid.remote())


@case
def sys_exit_in_a_method():
    actor = Simple.remote()
    return fields(error_of(lambda: get(actor.sys_exit.remote()))), raised(dead(actor))


@case
def sys_exit_with_a_code_in_a_method():
    actor = Simple.remote()
    return fields(error_of(lambda: get(actor.sys_exit.remote(7))))


@case
def sys_exit_is_not_restarted():
    actor = Simple.options(max_restarts=1).remote()
    first = get(actor.pid.remote())
    attempt(get, actor.sys_exit.remote())

    def again():
        return back(actor) != first

    return attempt(again)


@case
def exit_actor_in_a_method():
    actor = Simple.remote()
    error = error_of(lambda: get(actor.leave.remote()))
    return fields(error), "exit_actor" in str(error)


@case
def exit_actor_is_not_restarted():
    actor = Simple.options(max_restarts=5).remote()
    attempt(get, actor.leave.remote())
    return raised(dead(actor))


@case
def exit_actor_of_an_async_actor():
    @ray.remote
    class Async:
        async def leave(self):
            ray.actor.exit_actor()

        async def pid(self):
            return os.getpid()

    actor = Async.remote()
    get(actor.pid.remote())
    error = error_of(lambda: get(actor.leave.remote()))
    return fields(error), raised(dead(actor))


@case
def exit_actor_of_a_threaded_actor():
    actor = Simple.options(max_concurrency=3).remote()
    get(actor.pid.remote())
    error = error_of(lambda: get(actor.leave.remote()))
    return fields(error), raised(dead(actor))


@case
def exit_actor_outside_of_an_actor():
    @ray.remote
    def f():
        ray.actor.exit_actor()

    return attempt(ray.actor.exit_actor), attempt(get, f.remote())


@case
def exit_actor_in_the_constructor():
    @ray.remote
    class Leaver:
        def __init__(self):
            ray.actor.exit_actor()

        def f(self):
            return 1

    return raised(error_of(lambda: get(Leaver.remote().f.remote())))


@case
def exit_handlers_run():
    gate = Gate()

    @ray.remote
    class WithHandler:
        def __init__(self):
            atexit.register(gate.open)

        def leave(self):
            ray.actor.exit_actor()

    actor = WithHandler.remote()
    attempt(get, actor.leave.remote())
    gate.wait(10)
    return True


@case
def exit_handlers_run_when_the_last_handle_goes():
    gate = Gate()

    @ray.remote
    class WithHandler:
        def __init__(self):
            atexit.register(gate.open)

        def f(self):
            return 1

    actor = WithHandler.remote()
    get(actor.f.remote())
    del actor
    gate.wait(10)
    return True


@case
def ray_terminate():
    actor = Simple.remote()
    get(actor.pid.remote())
    error = error_of(lambda: get(actor.__ray_terminate__.remote()))
    return raised(error), raised(dead(actor))


@case
def ray_ready_and_ray_call():
    actor = Simple.remote(5)
    return (
        get(actor.__ray_ready__.remote()),
        get(actor.__ray_call__.remote(lambda self: self.value + 1)),
        get(actor.__ray_call__.remote(lambda self, x, y=0: [self.value, x, y], 1, y=2)),
    )


@case
def ray_ready_of_a_broken_actor():
    return attempt(get, Broken.remote().__ray_ready__.remote())


@case
def ray_shutdown_is_called_at_an_orderly_end():
    gate = Gate()

    @ray.remote
    class Farewell:
        def __ray_shutdown__(self):
            gate.open()

        def f(self):
            return 1

    actor = Farewell.remote()
    get(actor.f.remote())
    del actor
    gate.wait(10)
    return True


# ---- kill ----


@case
def a_killed_actor():
    actor = Simple.remote()
    get(actor.pid.remote())
    returned = ray.kill(actor)
    return returned, fields(error_of(lambda: get(actor.pid.remote())))


@case(says=["was killed by `ray.kill`", "The actor"])
def the_text_of_a_killed_actor():
    actor = Simple.remote()
    get(actor.pid.remote())
    ray.kill(actor)
    raise dead(actor)


@case
def kill_before_it_is_made():
    actor = Simple.remote()
    ray.kill(actor)
    return raised(dead(actor))


@case
def kill_of_a_running_call():
    actor = Simple.remote()
    started = Gate()
    ref = actor.wait.remote(Gate(), started)
    started.wait()
    ray.kill(actor)
    return raised(error_of(lambda: get(ref)))


@case
def kill_twice_and_of_something_else():
    actor = Simple.remote()
    ray.kill(actor)
    ray.kill(actor)
    dead(actor)
    ray.kill(actor)
    return (
        attempt(ray.kill, 1),
        attempt(ray.kill, ray.put(1)),
        attempt(ray.kill, None),
        attempt(ray.kill, actor, False),
    )


@case
def kill_ends_an_actor_that_may_be_restarted():
    actor = Simple.options(max_restarts=-1).remote()
    get(actor.pid.remote())
    ray.kill(actor)
    return raised(dead(actor))


@case
def kill_with_no_restart_false():
    actor = Simple.options(max_restarts=1).remote()
    first = get(actor.pid.remote())
    get(actor.add.remote())
    ray.kill(actor, no_restart=False)
    while True:
        second = back(actor)
        if second != first:
            break
    value = get(actor.add.remote())
    ray.kill(actor, no_restart=False)
    return value, raised(dead(actor))


# ---- the end of handles ----


def gone(pid, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@case
def the_process_ends_with_the_last_handle():
    actor = Simple.remote()
    pid = get(actor.pid.remote())
    del actor
    return gone(pid)


@case
def pending_calls_are_done_before_the_end():
    gate, started = Gate(), Gate()
    actor = Simple.remote()
    pid = get(actor.pid.remote())
    first = actor.wait.remote(gate, started)
    rest = [actor.add.remote() for _ in range(5)]
    started.wait()
    del actor
    gate.open()
    return get(first), get(rest), gone(pid)


@case
def a_handle_in_a_stored_object_keeps_it():
    actor = Simple.remote()
    get(actor.pid.remote())
    box = ray.put([actor])
    del actor
    return get(get(box)[0].add.remote())


@case
def a_temporary_handle():
    return get(Simple.remote().add.remote())


@case(differs="any handle keeps its actor")
def a_handle_from_get_actor_does_not_keep_it():
    actor = Simple.options(name="weakly").remote()
    pid = get(actor.pid.remote())
    weak = ray.get_actor("weakly")
    get(weak.add.remote())
    del actor
    ended = gone(pid, 5)
    return ended, ended and raised(error_of(lambda: get(weak.pid.remote())))


@case
def an_actor_ends_with_the_actor_that_made_it():
    @ray.remote
    class Maker:
        def make(self):
            self.child = Simple.remote()
            return ray.get(self.child.pid.remote())

    maker = Maker.remote()
    pid = get(maker.make.remote())
    ray.kill(maker)
    return gone(pid)


run(num_cpus=8)
