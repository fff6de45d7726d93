"""Texts and lists of any size, from nothing to two megabytes, in every place where a program says how
large they are: each works or is refused, and the session lives on.

MOBULA_SEED=<seed> replays a run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Callable
from typing import Any

import mobula as ray
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from mobula import exceptions
from mobula.experimental import internal_kv
from mobula.util import metrics, state
from mobula.util.placement_group import placement_group, remove_placement_group

SEED = int(os.environ.get("MOBULA_SEED", "0")) or random.randrange(1, 1 << 30)

pytestmark = [
    pytest.mark.mobula_only,
    pytest.mark.random,
    pytest.mark.usefixtures("shared_session"),
]

PATIENCE = 60.0


@ray.remote(max_retries=0)
def one(*args: Any, **kwargs: Any) -> int:
    return 1


@ray.remote(max_retries=0)
def echo(value: Any) -> Any:
    return value


@ray.remote
class Actor:
    def __init__(self, text: str = "", fails: bool = False) -> None:
        self.text = text
        if fails:
            raise RuntimeError(text)

    def __repr__(self) -> str:
        return self.text or "Actor"

    def go(self, *args: Any) -> int:
        return 1

    def fail(self, text: str) -> None:
        raise RuntimeError(text)

    def end(self, text: str) -> None:
        raise SystemExit(text)


def get(ref: Any) -> Any:
    return ray.get(ref, timeout=PATIENCE)


def use(actor: Any, *args: Any) -> None:
    try:
        get(actor.go.remote(*args))
    finally:
        ray.kill(actor)


def never(ref: Any) -> None:
    """Nothing can run it."""
    with contextlib.suppress(exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.01)
    ray.cancel(ref)


def text(size: int) -> str:
    return "ü" * (size // 2) + "x" * (size % 2)


def names(size: int) -> list[str]:
    return [f"name{i}" for i in range(size // 20)]


def actor_name(size: int) -> None:
    use(Actor.options(name=text(size)).remote())


def actor_namespace(size: int) -> None:
    use(Actor.options(name="n", namespace=text(size)).remote())


def actor_get_if_exists(size: int) -> None:
    use(Actor.options(name=text(size), get_if_exists=True).remote())


def actor_found(size: int) -> None:
    ray.get_actor(text(size), text(size))


def actor_argument(size: int) -> None:
    use(Actor.remote(text(size)), text(size))


def actor_resources(size: int) -> None:
    ray.kill(Actor.options(resources=dict.fromkeys(names(size), 1)).remote())


def actor_fails(size: int) -> None:
    use(Actor.remote(text(size), True))


def actor_raises(size: int) -> None:
    get(Actor.remote().fail.remote(text(size)))


def actor_exits(size: int) -> None:
    get(Actor.remote().end.remote(text(size)))


def class_name(size: int) -> None:
    use(ray.remote(type(text(size), (), {"go": lambda self: 1})).remote())


def method_name(size: int) -> None:
    name = "m" * size or "m"
    made = ray.remote(type("Made", (), {name: lambda self: 1})).remote()
    get(getattr(made, name).remote())


def method_options(size: int) -> None:
    get(Actor.remote().go.options(name=text(size)).remote())


def concurrency_groups(size: int) -> None:
    groups = dict.fromkeys(names(size // 100), 1) or {"a": 1}
    use(ray.remote(concurrency_groups=groups)(type("Made", (), {"go": lambda self: 1})).remote())


def concurrency_group_name(size: int) -> None:
    name = text(size) or "a"

    class Made:
        @ray.method(concurrency_group=name)
        def go(self) -> int:
            return 1

    use(ray.remote(concurrency_groups={name: 1})(Made).remote())


def function_name(size: int) -> None:
    def function() -> int:
        return 1

    function.__name__ = function.__qualname__ = text(size)
    get(ray.remote(function).remote())


def task_name(size: int) -> None:
    get(one.options(name=text(size)).remote())


def task_arguments(size: int) -> None:
    get(one.remote(*range(size // 20)))


def task_keywords(size: int) -> None:
    get(one.remote(**dict.fromkeys(names(size), 1)))


def task_keyword_name(size: int) -> None:
    get(one.remote(**{text(size): 1}))


def task_value(size: int) -> None:
    assert get(echo.remote(text(size))) == text(size)


def task_refs(size: int) -> None:
    ref = ray.put(1)
    get(one.remote(*[ref] * (size // 500)))
    get(one.remote([ray.put(i) for i in range(size // 500)]))


def task_returns(size: int) -> None:
    count = size // 200
    values = ray.remote(lambda: list(range(count))).options(num_returns=count).remote()
    if count > 1:
        assert get(values) == list(range(count))


def task_items(size: int) -> None:
    def items() -> Any:
        yield from (text(size), 1)

    assert [get(ref) for ref in ray.remote(items).remote()] == [text(size), 1]


def task_raises(size: int) -> None:
    def fail() -> None:
        raise ValueError(text(size))

    get(one.remote(ray.remote(fail).remote()))


def task_exits(size: int) -> None:
    def end() -> None:
        raise SystemExit(text(size))

    get(ray.remote(max_retries=0)(end).remote())


def task_resource(size: int) -> None:
    never(one.options(resources={text(size): 1}).remote())


def task_resources(size: int) -> None:
    never(one.options(resources={"no such": 1, **dict.fromkeys(names(size), 1)}).remote())


def task_selector(size: int) -> None:
    never(one.options(label_selector={text(size): text(size)}).remote())


def task_selectors(size: int) -> None:
    never(one.options(label_selector={"no": "such", **dict.fromkeys(names(size), "v")}).remote())


def task_variable(size: int) -> None:
    get(one.options(runtime_env={"env_vars": {"A": text(size)}}).remote())


def task_variables(size: int) -> None:
    get(one.options(runtime_env={"env_vars": dict.fromkeys(names(size), "v")}).remote())


def task_working_dir(size: int) -> None:
    one.options(runtime_env={"working_dir": text(size)}).remote()


def task_environment(size: int) -> None:
    one.options(runtime_env={text(size): text(size)}).remote()


def task_cancelled(size: int) -> None:
    ref = one.options(resources={"no such": 1}).remote(text(size))
    ray.cancel(ref)
    get(ref)


def printed(size: int) -> None:
    get(ray.remote(lambda: print(text(size))).remote())
    get(ray.remote(lambda: logging.getLogger().warning(text(size))).remote())


def group_name(size: int) -> None:
    group = placement_group([{"CPU": 1}], name=text(size))
    try:
        ray.util.placement_group_table(group)
    finally:
        remove_placement_group(group)


def group_found(size: int) -> None:
    ray.util.get_placement_group(text(size))


def group_bundles(size: int) -> None:
    remove_placement_group(placement_group([{"CPU": 1, f"r{i}": 1} for i in range(size // 400)]))


def group_kinds(size: int) -> None:
    remove_placement_group(placement_group([dict.fromkeys(names(size), 1.0)]))


def waits(size: int) -> None:
    refs = [ray.put(i) for i in range(size // 200)]
    if refs:
        ray.wait(refs, num_returns=len(refs), timeout=PATIENCE)
    get(refs)
    get(ray.remote(lambda held: len(ray.get(held))).remote(refs))


def keys(size: int) -> None:
    internal_kv._internal_kv_put(text(size).encode(), b"v", namespace=b"sizes")


def key_values(size: int) -> None:
    internal_kv._internal_kv_put(b"k", text(size).encode(), namespace=b"sizes")
    assert internal_kv._internal_kv_get(b"k", namespace=b"sizes") == text(size).encode()


def key_spaces(size: int) -> None:
    internal_kv._internal_kv_list(text(size).encode(), namespace=text(size).encode())


def metric(size: int) -> None:
    metrics.Counter(f"a{'b' * size}", description=text(size)).inc()


def metric_tags(size: int) -> None:
    gauge = metrics.Gauge("sizes", tag_keys=tuple(names(size // 100)) + ("a",))
    gauge.set(1, tags={**dict.fromkeys(names(size // 100), "v"), "a": text(size)})


def metric_boundaries(size: int) -> None:
    metrics.Histogram("sizes_h", boundaries=[float(i + 1) for i in range(size // 100 + 1)]).observe(
        1
    )


def states(size: int) -> None:
    state.list_tasks(filters=[("name", "=", text(size))])
    state.list_actors(filters=[("class_name", "=", text(size))])
    ray.util.list_named_actors(all_namespaces=True)


PLACES: list[Callable[[int], None]] = [
    actor_name, actor_namespace, actor_get_if_exists, actor_found, actor_argument, actor_resources,
    actor_fails, actor_raises, actor_exits, class_name, method_name, method_options,
    concurrency_groups, concurrency_group_name, function_name, task_name, task_arguments,
    task_keywords, task_keyword_name, task_value, task_refs, task_returns, task_items, task_raises,
    task_exits, task_resource, task_resources, task_selector, task_selectors, task_variable,
    task_variables, task_working_dir, task_environment, task_cancelled, printed, group_name,
    group_found, group_bundles, group_kinds, waits, keys, key_values, key_spaces, metric,
    metric_tags, metric_boundaries, states,
]  # fmt: skip

SLOW = {task_variable, task_variables}  # They start an interpreter.
EDGES = [0, 1, 8 << 10, 16 << 10, (16 << 10) + 1, 100 << 10, 128 << 10, 300_000, 1 << 20, 2 << 20]


def expect_it_lives_on(place: Callable[[int], None], size: int) -> None:
    # What is refused, and what a task raised. TypeError: where a text says what kind of thing it is.
    try:
        place(size)
    except (exceptions.GetTimeoutError, exceptions.NodeDiedError):
        raise
    except (ValueError, TypeError, exceptions.RayError):
        pass
    assert get(one.remote()) == 1, (place.__name__, size)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: str(place.__name__))
def test_two_megabytes_in_every_place_leave_the_session_alive(place: Callable[[int], None]) -> None:
    expect_it_lives_on(place, 2 << 20)


@seed(SEED)
@settings(
    max_examples=int(os.environ.get("MOBULA_CHAOS_ROUNDS", "4")) * 15,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.sampled_from([place for place in PLACES if place not in SLOW]),
    st.one_of(st.sampled_from(EDGES), st.integers(0, 2 << 20)),
)
def test_random_sizes_in_random_places_leave_the_session_alive(
    place: Callable[[int], None], size: int
) -> None:
    expect_it_lives_on(place, size)
