"""The options of remote functions: which there are, what they may be, and what they mean now.

It knows nothing of sessions. Amounts of resources are fixed point: 1/10,000 of a unit.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from mobula import _environments, _limits, _placement
from mobula.util.annotations import RayDeprecationWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mobula.runtime_env import RuntimeEnv

RESOURCE_UNIT = 10_000
DEFAULT_MAX_RETRIES = 3
# num_returns of a call whose values would come as a stream.
STREAMING = -1
PRIORITY_MAX = 1000
TIMEOUT_SECONDS_MAX = 30 * 24 * 3600

_CO_GENERATOR = 0x20
_CO_COROUTINE = 0x80
_CO_ASYNC_GENERATOR = 0x200

_NUMBER = (float, int, type(None))

# Keyword -> types it may have. In the order in which errors list them.
_TASK_OPTIONS: dict[str, tuple[type, ...]] = {
    "num_cpus": _NUMBER,
    "num_gpus": _NUMBER,
    "resources": (dict, type(None)),
    "memory": _NUMBER,
    "num_returns": (int, str, type(None)),
    "max_retries": (int, type(None)),
    "retry_exceptions": (bool, list, tuple),
    "name": (str, type(None)),
    "max_calls": (int, type(None)),
    "runtime_env": (dict, type(None)),
    "scheduling_strategy": (object,),  # Checked by _placement.
    "accelerator_type": (str, type(None)),
    "label_selector": (dict, type(None)),
    "fallback_strategy": (list, type(None)),
    "object_store_memory": (int, type(None)),
    "placement_group": (object,),  # So is this.
    "placement_group_bundle_index": (int,),
    "placement_group_capture_child_tasks": (bool, type(None)),
    "enable_task_events": (bool,),
    "priority": (int, type(None)),  # Not Ray's, like the next one.
    "timeout_s": _NUMBER,
    "_labels": (dict, type(None)),
    "_generator_backpressure_num_objects": (int, type(None)),
    "_num_objects_per_yield": (int, type(None)),
}

# Of classes, for the advice that `remote` gives.
_ACTOR_OPTIONS = (
    "max_restarts",
    "max_task_retries",
    "max_pending_calls",
    "max_concurrency",
    "concurrency_groups",
    "lifetime",
    "namespace",
    "get_if_exists",
    "allow_out_of_order_execution",
    "enable_tensor_transport",
)


def decorator_advice() -> str:
    names = sorted({*_TASK_OPTIONS, *_ACTOR_OPTIONS})
    return (
        "The @ray.remote decorator must be applied either with no arguments and no parentheses, for "
        "example '@ray.remote', or it must be applied using some of the arguments in the list "
        f"{names}, by keyword, for example '@ray.remote(num_returns=2, resources={{\"a\": 1}})'."
    )


class TaskOptions:
    """Validated options of one kind of call. Immutable by agreement."""

    __slots__ = (
        "ahead_max",
        "dynamic",
        "max_calls",
        "max_retries",
        "name",
        "num_returns",
        "placement",
        "priority",
        "resources",
        "retry_exceptions",
        "runtime_env",
        "time_limit_ms",
    )

    def __init__(
        self,
        *,
        resources: Mapping[str, float],
        num_returns: int,
        max_retries: int,
        retry_exceptions: bool | tuple[type[BaseException], ...],
        name: str | None,
        dynamic: bool = False,
        ahead_max: int = 0,
        placement: _placement.Placement | None = None,
        max_calls: int = 0,
        priority: int | None = None,
        time_limit_ms: int = 0,
        runtime_env: RuntimeEnv | None = None,
    ) -> None:
        self.resources = resources
        self.num_returns = num_returns
        self.max_retries = max_retries
        self.retry_exceptions = retry_exceptions
        self.name = name
        # The function yields; its items are returned together, as refs.
        self.dynamic = dynamic
        # Items that a streaming task may be ahead of its consumer; 0: any number.
        self.ahead_max = ahead_max
        # On which nodes; None: any.
        self.placement = placement
        # After so many calls in one worker the worker ends; 0: never.
        self.max_calls = max_calls
        # Higher goes first; None: that of the task that submits it, 0 in a driver.
        self.priority = priority
        # How long it may run; 0: for ever.
        self.time_limit_ms = time_limit_ms
        # What it runs in; None: as who submits it.
        self.runtime_env = runtime_env


def is_generator(function: Callable[..., Any]) -> bool:
    return bool(_code_flags(function) & _CO_GENERATOR)


def is_async(function: Callable[..., Any]) -> bool:
    return bool(_code_flags(function) & (_CO_COROUTINE | _CO_ASYNC_GENERATOR))


def _code_flags(function: Callable[..., Any]) -> int:
    code = getattr(function, "__code__", None)
    return int(getattr(code, "co_flags", 0))


def check_types(options: Mapping[str, Any], *, in_options: bool) -> None:
    """ValueError: no such option. TypeError: an option cannot have such a value."""
    check_keywords(options, _TASK_OPTIONS, "remote functions")
    if in_options and "max_calls" in options:
        raise ValueError("Setting 'max_calls' is not supported in '.options()'.")


def check_keywords(
    options: Mapping[str, Any], known: Mapping[str, tuple[type, ...]], whose: str
) -> None:
    """`known`: the types that each keyword takes. ValueError: no such keyword. TypeError: another
    type."""
    for keyword, value in options.items():
        types = known.get(keyword)
        if types is None:
            raise ValueError(
                f"Invalid option keyword {keyword} for {whose}. Valid ones are {list(known)}."
            )
        if not isinstance(value, types):
            names = types[0] if len(types) == 1 else types
            raise TypeError(
                f"The type of keyword '{keyword}' must be {names}, but received type {type(value)}: "
                f"{value!r}"
            )
    _limits.check_texts(options)


def _amount(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        value = _as_number(name, value)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"The quantity of resource {name} must be a finite number, not {value}")
    if value < 0:
        raise ValueError(f"The quantity of resource {name} cannot be negative")
    cut = _cut(float(value))
    if value > 0 and cut == 0:
        raise ValueError(
            f"The precision of the fractional quantity of resource {name} cannot go beyond 0.0001"
        )
    return cut


def _cut(amount: float) -> float:
    """To multiples of 1/10,000: who asks for less than a unit of it does not get one."""
    units = amount * RESOURCE_UNIT
    nearest = round(units)
    # What was meant as a multiple is one, whatever its binary fraction says.
    return (nearest if math.isclose(units, nearest, rel_tol=1e-12) else int(units)) / RESOURCE_UNIT


def _as_number(name: str, value: Any) -> float:
    """numpy's numbers and the like; TypeError for what is none."""
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"The quantity of resource {name} must be a number, but it is "
            f"{type(value).__name__}: {value!r}"
        ) from None


def _resources(options: Mapping[str, Any]) -> dict[str, float]:
    resources: dict[str, float] = {}
    num_cpus = options.get("num_cpus")
    resources["CPU"] = 1.0 if num_cpus is None else _amount("num_cpus", num_cpus)
    num_gpus = options.get("num_gpus")
    if num_gpus is not None:
        resources["GPU"] = _amount("num_gpus", num_gpus)
        if resources["GPU"] > 1 and not resources["GPU"].is_integer():
            raise ValueError(
                f"GPU resource quantities >1 must be whole numbers, but num_gpus is {num_gpus}"
            )
    memory = options.get("memory")
    if memory is not None:
        resources["memory"] = float(int(_amount("memory", memory)))
    custom = options.get("resources") or {}
    if "CPU" in custom or "GPU" in custom:
        raise ValueError(
            "Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU' in 'resources'"
        )
    if "memory" in custom or "object_store_memory" in custom:
        raise ValueError(
            "The resources dictionary must not contain the key 'memory' or 'object_store_memory': use "
            "the keyword 'memory'"
        )
    _limits.check_resources(custom)
    for name, value in custom.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"Names of resources are non-empty strings, but one is {name!r}")
        resources[name] = _amount(name, value)
    accelerator = options.get("accelerator_type")
    if accelerator is not None:
        resources[f"accelerator_type:{accelerator}"] = 0.001
    return {name: value for name, value in resources.items() if value}


def _num_returns(options: Mapping[str, Any], function: Callable[..., Any]) -> int:
    value = options.get("num_returns")
    if value in ("streaming", "dynamic"):
        if value == "dynamic":
            warnings.warn(
                'num_returns="dynamic" is to be removed: use "streaming", which gives each item as '
                "soon as it is there",
                RayDeprecationWarning,
                stacklevel=4,
            )
        if not is_generator(function):
            raise ValueError(
                f"num_returns={value!r} is for generator functions (those that use 'yield'), "
                f"and {function!r} is none"
            )
        return STREAMING if value == "streaming" else 1
    if value is None:
        return STREAMING if is_generator(function) else 1
    if isinstance(value, str) or value < 0:
        raise (TypeError if isinstance(value, str) else ValueError)(
            "The keyword 'num_returns' only accepts None, a non-negative integer, 'streaming' "
            f"(for generators), or 'dynamic', but it is {value!r}"
        )
    _limits.check_returns(value)
    return int(value)


def _retry_exceptions(options: Mapping[str, Any]) -> bool | tuple[type[BaseException], ...]:
    value = options.get("retry_exceptions", False)
    if isinstance(value, bool):
        return value
    for item in value:
        if not (isinstance(item, type) and issubclass(item, Exception)):
            raise ValueError("retry_exceptions must be either a boolean or a list of exceptions")
    return tuple(value)


def _check_values(options: Mapping[str, Any]) -> None:
    max_calls = options.get("max_calls")
    if max_calls is not None and max_calls < 0:
        raise ValueError("The keyword 'max_calls' only accepts None, 0 or a positive integer.")
    max_retries = options.get("max_retries")
    if max_retries is not None and max_retries < -1:
        raise ValueError(
            "The keyword 'max_retries' only accepts None, 0, -1 or a positive integer, "
            "where -1 represents infinity."
        )
    if options.get("object_store_memory") is not None:
        raise ValueError("Setting 'object_store_memory' is not implemented for tasks")
    if options.get("_generator_backpressure_num_objects") == 0:
        raise ValueError(
            "_generator_backpressure_num_objects=0 is not allowed: a generator that may not be "
            "ahead at all never runs. Use 1 for one value per `next`, -1 for no limit."
        )
    check_one_place(options)


def _max_calls(options: Mapping[str, Any], resources: Mapping[str, float]) -> int:
    """Libraries keep GPUs for the life of their process, so by default one is not used again."""
    value = options.get("max_calls")
    if value is None:
        return 1 if resources.get("GPU") else 0
    return int(value)


def _priority(options: Mapping[str, Any]) -> int | None:
    value = options.get("priority")
    if value is not None and not -PRIORITY_MAX <= value <= PRIORITY_MAX:
        raise ValueError(
            f"priority must be from -{PRIORITY_MAX} to {PRIORITY_MAX}, higher goes first, "
            f"but it is {value}"
        )
    return None if value is None else int(value)


def _time_limit_ms(options: Mapping[str, Any]) -> int:
    value = options.get("timeout_s")
    if value is None:
        return 0
    if isinstance(value, bool) or not 0 < value <= TIMEOUT_SECONDS_MAX:
        raise ValueError(
            "timeout_s must be a number of seconds above 0 (None for no limit) and at most "
            f"{TIMEOUT_SECONDS_MAX}, but it is {value!r}"
        )
    return max(1, round(float(value) * 1000))


def task_options(options: Mapping[str, Any], function: Callable[..., Any]) -> TaskOptions:
    """Options whose types were checked, with defaults for those that are absent.

    ValueError, TypeError: no such value."""
    _check_values(options)
    resources = _resources(options)
    num_returns = _num_returns(options, function)
    max_retries = options.get("max_retries")
    return TaskOptions(
        resources=resources,
        num_returns=num_returns,
        max_retries=DEFAULT_MAX_RETRIES if max_retries is None else max_retries,
        retry_exceptions=_retry_exceptions(options),
        name=options.get("name"),
        dynamic=options.get("num_returns") == "dynamic",
        placement=_placement.of_options(options),
        max_calls=_max_calls(options, resources),
        priority=_priority(options),
        time_limit_ms=_time_limit_ms(options),
        ahead_max=max(0, options.get("_generator_backpressure_num_objects") or 0),
        runtime_env=_environments.check(options.get("runtime_env")) or None,
    )


def check_one_place(options: Mapping[str, Any]) -> None:
    """ValueError: no such strategy, or two ways to say where."""
    strategy = options.get("scheduling_strategy")
    if isinstance(strategy, str) and strategy not in ("DEFAULT", "SPREAD"):
        raise ValueError(
            f"Invalid scheduling_strategy value {strategy!r}. Valid values are 'DEFAULT', 'SPREAD' and "
            "the objects of util.scheduling_strategies"
        )
    if strategy is not None and options.get("placement_group") not in (None, "default"):
        raise ValueError(
            "Placement groups should be specified via the scheduling_strategy option. The "
            "placement_group option is deprecated. Give one of them."
        )
