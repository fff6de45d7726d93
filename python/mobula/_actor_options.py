"""The options of actor classes and methods: which there are, what they may be, and what they mean.

It knows nothing of sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mobula import _environments, _limits, _options, _placement

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBER = (float, int, type(None))
_NONE = type(None)

# Keyword -> types it may have. In the order in which errors list them.
_ACTOR_OPTIONS: dict[str, tuple[type, ...]] = {
    "label_selector": (dict, _NONE),
    "fallback_strategy": (list, _NONE),
    "accelerator_type": (str, _NONE),
    "memory": _NUMBER,
    "name": (str, _NONE),
    "num_cpus": _NUMBER,
    "num_gpus": _NUMBER,
    "object_store_memory": (int, _NONE),
    "placement_group": (object,),
    "placement_group_bundle_index": (int,),
    "placement_group_capture_child_tasks": (bool, _NONE),
    "resources": (dict, _NONE),
    "runtime_env": (dict, _NONE),
    "scheduling_strategy": (object,),
    "enable_task_events": (bool,),
    "_labels": (dict, _NONE),
    "concurrency_groups": (list, dict, _NONE),
    "enable_tensor_transport": (bool, _NONE),
    "lifetime": (str, _NONE),
    "max_concurrency": (int, _NONE),
    "max_restarts": (int, _NONE),
    "max_task_retries": (int, _NONE),
    "max_pending_calls": (int, _NONE),
    "namespace": (str, _NONE),
    "get_if_exists": (bool,),
    "allow_out_of_order_execution": (bool, _NONE),
    "_actor_generator_backpressure_num_objects": (int, _NONE),
}

METHOD_OPTIONS = (
    "num_returns",
    "concurrency_group",
    "max_task_retries",
    "retry_exceptions",
    "_generator_backpressure_num_objects",
    "_num_objects_per_yield",
    "enable_task_events",
    "tensor_transport",
)

DEFAULT_GROUP = "_default"
_ASYNC_CONCURRENCY = 1000


class ActorOptions:
    """What a creation needs, checked and with defaults. Immutable by agreement."""

    __slots__ = (
        "any_order",
        "cpus_for_life",
        "detached",
        "get_if_exists",
        "groups",
        "max_concurrency",
        "max_pending_calls",
        "max_restarts",
        "max_task_retries",
        "name",
        "namespace",
        "placement",
        "resources",
        "runtime_env",
    )

    def __init__(self, options: Mapping[str, Any], is_async: bool) -> None:
        given = {**options}
        resources = _options._resources({**given, "num_cpus": given.get("num_cpus") or 0})
        self.resources, self.cpus_for_life = _cpus(given, resources)
        self.max_restarts = given.get("max_restarts") or 0
        self.max_task_retries = given.get("max_task_retries") or 0
        pending = given.get("max_pending_calls")
        self.max_pending_calls = -1 if pending is None or pending <= 0 else pending
        concurrency = given.get("max_concurrency")
        if concurrency is None:
            concurrency = _ASYNC_CONCURRENCY if is_async else 1
        self.max_concurrency = max(1, concurrency)
        self.groups = _groups(given.get("concurrency_groups"))
        any_order = given.get("allow_out_of_order_execution")
        _check_order(any_order, is_async, self.max_concurrency)
        concurrent = is_async or self.max_concurrency > 1 or bool(self.groups)
        self.any_order = concurrent if any_order is None else any_order
        self.name = given.get("name") or ""
        self.namespace = given.get("namespace")
        self.detached = given.get("lifetime") == "detached"
        self.get_if_exists = bool(given.get("get_if_exists"))
        self.placement = _placement.of_options(given)
        self.runtime_env = _environments.check(given.get("runtime_env")) or None


def _check_order(any_order: bool | None, is_async: bool, max_concurrency: int) -> None:
    """ValueError: calls that run side by side are to run in order."""
    if any_order is not False or not (is_async or max_concurrency > 1):
        return
    kind = "async actors" if is_async else "multi-threaded actors"
    raise ValueError(
        f"If you're using {kind}, their tasks can't be executed in order. Set "
        "`allow_out_of_order_execution=True` to allow out-of-order execution, or leave it out."
    )


def _cpus(
    options: Mapping[str, Any], resources: dict[str, float]
) -> tuple[dict[str, float], float]:
    """(what there must be where the actor is, the CPUs of it that it keeps). One that asks for nothing
    is where there is a CPU, and holds none; one that asks for something else but CPUs keeps one."""
    num_cpus = options.get("num_cpus")
    if num_cpus is not None:
        return resources, resources.get("CPU", 0.0)
    asks = any(name not in ("memory", "object_store_memory", "CPU") for name in resources)
    return {**resources, "CPU": 1.0}, 1.0 if asks else 0.0


def _groups(value: Any) -> dict[str, int]:
    if not value:
        return {}
    if len(value) > _limits.CONCURRENCY_GROUPS_MAX:
        raise ValueError(
            f"there are {len(value):,} concurrency groups, but at most "
            f"{_limits.CONCURRENCY_GROUPS_MAX:,} are allowed"
        )
    if isinstance(value, list):
        return {item["name"]: int(item["max_concurrency"]) for item in value}
    groups: dict[str, int] = {}
    for name, limit in value.items():
        if not isinstance(name, str) or not isinstance(limit, int) or limit < 1:
            raise ValueError(
                "concurrency_groups maps names to numbers of at least 1, but there is "
                f"{name!r}: {limit!r}"
            )
        _limits.check_name("The name of a concurrency group", name)
        groups[name] = limit
    return groups


def check(options: Mapping[str, Any], *, in_options: bool) -> None:
    """ValueError: no such option, or no such value. TypeError: a value of the wrong type."""
    _options.check_keywords(options, _ACTOR_OPTIONS, "actors")
    if in_options and "concurrency_groups" in options:
        raise ValueError("Setting 'concurrency_groups' is not supported in '.options()'.")
    for keyword in ("max_restarts", "max_task_retries", "max_pending_calls"):
        value = options.get(keyword)
        if value is not None and value < -1:
            raise ValueError(
                f"The keyword '{keyword}' only accepts None, 0, -1 or a positive integer, "
                "where -1 represents infinity."
            )
    concurrency = options.get("max_concurrency")
    if concurrency is not None and concurrency < 0:
        raise ValueError(
            "The keyword 'max_concurrency' only accepts None, 0 or a positive integer."
        )
    _check_strategy(options.get("scheduling_strategy"))
    _options.check_one_place(options)
    if options.get("lifetime") not in (None, "detached", "non_detached"):
        raise ValueError(
            "actor `lifetime` argument must be one of 'detached', 'non_detached' and 'None'."
        )
    _options._resources({**options, "num_cpus": options.get("num_cpus") or 0})
    _environments.check(options.get("runtime_env"))


def _check_strategy(strategy: Any) -> None:
    """TypeError: neither a text nor one of `util.scheduling_strategies`. ValueError: no such text."""
    from mobula.util import scheduling_strategies

    kinds: tuple[type, ...] = (_NONE, str)
    for name in ("PlacementGroup", "NodeAffinity", "NodeLabel"):
        kind = getattr(scheduling_strategies, f"{name}SchedulingStrategy", None)
        kinds += (kind,) if kind is not None else ()
    if not isinstance(strategy, kinds):
        raise TypeError(
            f"The type of keyword 'scheduling_strategy' must be {kinds}, but received type "
            f"{type(strategy)}"
        )
    if isinstance(strategy, str) and strategy not in ("DEFAULT", "SPREAD"):
        raise ValueError(
            f"Invalid scheduling_strategy value {strategy}. Valid values are "
            '["DEFAULT" | "SPREAD" | PlacementGroupSchedulingStrategy | '
            "NodeAffinitySchedulingStrategy]"
        )


def check_creation(options: Mapping[str, Any]) -> None:
    """What only a creation must fulfil."""
    _limits.check_texts(options)
    if options.get("name") == "":
        raise ValueError("Actor name cannot be an empty string.")
    if options.get("namespace") == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    if options.get("get_if_exists") and not options.get("name"):
        raise ValueError("The actor name must be specified to use `get_if_exists`.")


CALL_OPTIONS = (*METHOD_OPTIONS, "name", "_decorator")


def check_call(options: Mapping[str, Any]) -> None:
    """What a method's `options` is given. TypeError: no such keyword."""
    for keyword in options:
        if keyword not in CALL_OPTIONS:
            raise TypeError(
                f"ActorMethod.options() got an unexpected keyword argument '{keyword}'. "
                f"There are {', '.join(CALL_OPTIONS[:-1])}."
            )
    _limits.check_texts(options)


def check_method(options: Mapping[str, Any]) -> None:
    """AssertionError: no such keyword of `method`."""
    for keyword in options:
        if keyword not in METHOD_OPTIONS:
            raise AssertionError(
                f"Unexpected keyword argument to @ray.method: '{keyword}'. "
                f"The supported keyword arguments are {list(METHOD_OPTIONS)}"
            )
    num_returns = options.get("num_returns")
    if not isinstance(num_returns, (int, str, _NONE)) or isinstance(num_returns, bool):
        raise TypeError(f"num_returns must be an integer or a text, not {num_returns!r}")
    if isinstance(num_returns, int):
        _limits.check_returns(num_returns)
    group = options.get("concurrency_group")
    if group is not None and not isinstance(group, str):
        raise TypeError(f"concurrency_group must be a text, not {group!r}")
    retry = options.get("retry_exceptions")
    if not isinstance(retry, (bool, list, tuple, _NONE)):
        raise TypeError(f"retry_exceptions must be a boolean or a list of classes, not {retry!r}")
    retries = options.get("max_task_retries")
    if retries is not None and (not isinstance(retries, int) or retries < -1):
        raise ValueError("max_task_retries only accepts None, 0, -1 or a positive integer.")
