"""Names, namespaces, detached actors, contexts of actors, resources, state, groups of actors."""

from __future__ import annotations

import os
import threading
import time

from oracle.cases import ENGINE, attempt, case, ray, run


def get(ref, timeout=15):
    return ray.get(ref, timeout=timeout)


@ray.remote
class Simple:
    def __init__(self, value=0):
        self.value = value

    def pid(self):
        return os.getpid()

    def get(self):
        return self.value

    def context(self):
        c = ray.get_runtime_context()
        return {
            "actor": c.get_actor_id(),
            "name": c.get_actor_name(),
            "task": c.get_task_name(),
            "function": c.get_task_function_name(),
            "resources": c.get_assigned_resources(),
            "namespace": c.namespace,
            "reconstructed": c.was_current_actor_reconstructed,
        }

    def me(self):
        return ray.get_runtime_context().current_actor


def until(function, wanted):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if function() == wanted:
            return True
        time.sleep(0.01)
    return function()


def kill(*actors):
    for actor in actors:
        ray.kill(actor)


@case
def a_name_finds_its_actor():
    actor = Simple.options(name="one").remote(4)
    found = ray.get_actor("one")
    value = get(found.get.remote()), found == actor
    kill(actor)
    return value


@case(says=["Failed to look up actor with name 'nobody'"])
def no_such_name():
    ray.get_actor("nobody")


@case
def wrong_names_to_look_up():
    return (
        attempt(ray.get_actor, ""),
        attempt(ray.get_actor, None),
        attempt(ray.get_actor, 1),
        attempt(ray.get_actor, "x", namespace=""),
        attempt(ray.get_actor, "x", namespace=1),
        attempt(ray.get_actor, "x", namespace="other"),
        attempt(ray.get_actor, "x", "other"),
    )


@case(says=["The name two", "is already taken"])
def a_name_is_taken_once():
    first = Simple.options(name="two").remote()
    try:
        Simple.options(name="two").remote()
    finally:
        kill(first)


@case
def the_class_of_the_error_for_a_taken_name():
    first = Simple.options(name="three").remote()
    outcome = attempt(Simple.options(name="three").remote)
    kill(first)
    return outcome


@case
def a_name_in_two_namespaces():
    a = Simple.options(name="four", namespace="a").remote(1)
    b = Simple.options(name="four", namespace="b").remote(2)
    values = (
        get(ray.get_actor("four", namespace="a").get.remote()),
        get(ray.get_actor("four", "b").get.remote()),
        attempt(ray.get_actor, "four"),
    )
    kill(a, b)
    return values


@case
def a_name_is_free_after_the_death():
    first = Simple.options(name="five").remote(1)
    get(first.get.remote())
    kill(first)

    def again():
        try:
            return Simple.options(name="five").remote(2)
        except ValueError:
            return None

    deadline = time.monotonic() + 10
    second = None
    while second is None and time.monotonic() < deadline:
        second = again()
    value = get(second.get.remote())
    kill(second)
    return value


@case
def a_named_actor_ends_with_its_last_handle():
    actor = Simple.options(name="six").remote()
    get(actor.get.remote())
    del actor
    return until(lambda: str(attempt(ray.get_actor, "six")).startswith("raised"), True)


@case
def a_detached_actor_stays():
    actor = Simple.options(name="seven", lifetime="detached").remote(7)
    get(actor.get.remote())
    del actor
    time.sleep(0.3)
    found = ray.get_actor("seven")
    value = get(found.get.remote())
    kill(found)
    return value, until(lambda: _exists("seven"), False)


def _exists(name):
    try:
        ray.get_actor(name)
    except ValueError:
        return False
    return True


@case
def a_detached_actor_without_a_name():
    actor = Simple.options(lifetime="detached").remote(1)
    value = get(actor.get.remote())
    kill(actor)
    return value


@case
def a_detached_actor_made_by_a_task():
    @ray.remote
    def make():
        actor = Simple.options(name="eight", lifetime="detached").remote(8)
        ray.get(actor.get.remote())

    get(make.remote())
    found = ray.get_actor("eight")
    value = get(found.get.remote())
    kill(found)
    return value


@case
def a_detached_actor_restarts():
    actor = Simple.options(name="nine", lifetime="detached", max_restarts=1).remote()
    pid = get(actor.pid.remote())
    os.kill(pid, 9)

    def again():
        try:
            return get(ray.get_actor("nine").pid.remote()) != pid
        except ray.exceptions.RayActorError:
            return False

    came = until(again, True)
    kill(actor)
    return came


@case
def get_if_exists():
    options = {"name": "ten", "get_if_exists": True}
    first = Simple.options(**options).remote(1)
    second = Simple.options(**options).remote(2)
    values = first == second, get(second.get.remote())
    kill(first)
    return values


@case
def races_to_get_or_create_have_one_winner():
    @ray.remote
    def make():
        actor = Simple.options(name="eleven", get_if_exists=True, lifetime="detached").remote()
        return ray.get(actor.pid.remote())

    pids = set(get([make.remote() for _ in range(8)], 60))
    kill(ray.get_actor("eleven"))
    return len(pids)


@case
def races_of_threads_to_create_have_one_winner():
    made, failed = [], []

    def make():
        try:
            made.append(Simple.options(name="twelve").remote())
        except ValueError:
            failed.append(1)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kill(*made)
    return len(made), len(failed)


@case
def a_list_of_named_actors():
    a = Simple.options(name="list-a").remote()
    b = Simple.options(name="list-b", namespace="elsewhere").remote()
    get([a.get.remote(), b.get.remote()])
    mine = [name for name in ray.util.list_named_actors() if name.startswith("list")]
    every = [
        x for x in ray.util.list_named_actors(all_namespaces=True) if x["name"].startswith("list")
    ]
    spaces = sorted((x["name"], x["namespace"] == "elsewhere", sorted(x)) for x in every)
    kill(a, b)
    return mine, spaces, until(lambda: "list-a" in ray.util.list_named_actors(), False)


@case
def the_context_in_an_actor():
    actor = Simple.options(name="thirteen", num_cpus=1).remote()
    seen = get(actor.context.remote())
    seen["actor"] = seen["actor"] == actor._actor_id.hex()
    seen["namespace"] = bool(seen["namespace"])
    mine = get(actor.me.remote()) == actor
    kill(actor)
    return seen, mine


@case
def the_name_of_a_call():
    actor = Simple.remote()
    seen = get(actor.context.options(name="called so").remote())
    return seen["task"], seen["function"], seen["name"]


@case
def the_context_in_the_constructor():
    @ray.remote
    class Some:
        def __init__(self):
            c = ray.get_runtime_context()
            self.seen = c.get_actor_id(), c.get_task_name(), c.get_actor_name()

        def get(self):
            return self.seen

    actor = Some.options(name="fourteen").remote()
    seen = get(actor.get.remote())
    kill(actor)
    return seen[0] == actor._actor_id.hex(), seen[1], seen[2]


@case
def the_context_outside_of_actors():
    c = ray.get_runtime_context()

    @ray.remote
    def f():
        c = ray.get_runtime_context()
        return c.get_actor_id(), c.get_actor_name(), attempt(lambda: c.current_actor)

    return (
        c.get_actor_id(),
        attempt(c.get_actor_name),
        attempt(lambda: c.current_actor),
        get(f.remote()),
    )


# ---- resources ----


def cpus():
    return ray.available_resources().get("CPU", 0)


@case
def an_actor_without_options_holds_no_cpu():
    actor = Simple.remote()
    get(actor.get.remote())
    held = until(cpus, 8.0)
    seen = get(actor.context.remote())["resources"]
    return held, seen


@case
def an_actor_holds_what_it_asked_for_until_its_death():
    actor = Simple.options(num_cpus=2).remote()
    seen = get(actor.context.remote())["resources"]
    held = until(cpus, 6.0)
    kill(actor)
    return held, seen, until(cpus, 8.0)


@case
def an_actor_with_zero_cpus():
    actor = Simple.options(num_cpus=0).remote()
    return get(actor.context.remote())["resources"], until(cpus, 8.0)


@case
def an_actor_with_custom_resources():
    actor = Simple.options(resources={"thing": 1}).remote()
    seen = get(actor.context.remote())["resources"]
    held = until(cpus, 8.0)
    kill(actor)
    return seen, held


@case
def an_actor_with_half_a_cpu():
    actor = Simple.options(num_cpus=0.5).remote()
    seen = get(actor.context.remote())["resources"]
    kill(actor)
    return seen


@case
def an_actor_waits_for_resources():
    first = Simple.options(num_cpus=8).remote()
    get(first.get.remote())
    second = Simple.options(num_cpus=1).remote(2)
    ref = second.get.remote()
    ready, _ = ray.wait([ref], timeout=0.5)
    kill(first)
    value = get(ref)
    kill(second)
    return len(ready), value


@case
def an_actor_blocked_in_get_keeps_its_cpus():
    @ray.remote
    def free():
        return 1

    @ray.remote(num_cpus=8)
    class Greedy:
        def ask(self):
            return ray.get(free.remote(), timeout=1)

    actor = Greedy.remote()
    outcome = attempt(get, actor.ask.remote())
    kill(actor)
    return outcome


@case
def node_affinity_to_an_unknown_node():
    from importlib import import_module

    strategies = import_module(f"{ENGINE}.util.scheduling_strategies")
    strategy = strategies.NodeAffinitySchedulingStrategy(node_id="0" * 56, soft=False)
    actor = Simple.options(scheduling_strategy=strategy).remote()
    return attempt(get, actor.get.remote())


@case
def node_affinity_to_this_node():
    from importlib import import_module

    strategies = import_module(f"{ENGINE}.util.scheduling_strategies")
    node = ray.get_runtime_context().get_node_id()
    hard = strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    soft = strategies.NodeAffinitySchedulingStrategy(node_id="0" * 56, soft=True)
    return [
        get(Simple.options(scheduling_strategy=one).remote(3).get.remote()) for one in (hard, soft)
    ]


# ---- state ----


@case
def actors_in_the_state_api():
    from importlib import import_module

    if ENGINE == "ray":
        return (1, "ALIVE", "Simple", True), "fifteen", True  # It needs the dashboard for that.
    state = import_module(f"{ENGINE}.util.state")
    actor = Simple.options(name="fifteen").remote()
    get(actor.get.remote())
    found = [a for a in state.list_actors() if a["name"] == "fifteen"]
    row = state.get_actor(actor._actor_id.hex()) if hasattr(state, "get_actor") else None
    alive = len(found), found[0]["state"], found[0]["class_name"], found[0]["pid"] > 0
    kill(actor)
    dead = until(
        lambda: [a["state"] for a in state.list_actors() if a["actor_id"] == actor._actor_id.hex()],
        ["DEAD"],
    )
    return alive, row is not None and row["name"], dead


@case
def a_runtime_environment_of_an_actor():
    @ray.remote
    class Env:
        def get(self, name):
            return os.environ.get(name)

    plain = Env.options(runtime_env={"env_vars": {"ACTOR_VAR": "1"}}).remote()
    kept = Env.options(
        name="sixteen", lifetime="detached", runtime_env={"env_vars": {"ACTOR_VAR": "2"}}
    ).remote()
    values = get(plain.get.remote("ACTOR_VAR"), 30), get(kept.get.remote("ACTOR_VAR"), 30)
    kill(plain, kept)
    return values


run(num_cpus=8, resources={"thing": 2}, namespace="here")
