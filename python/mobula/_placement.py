"""Where a task may run: label selectors and affinity, compared with this node; placement groups.

A request that this node can never meet becomes a request for a resource that no node has, under a
name that says what was asked for. So it waits, and is told of, like any other that cannot be met.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mobula import _core, _limits
from mobula.util import scheduling_strategies as strategies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mobula.util.placement_group import PlacementGroup

_Bundle = tuple[int, int, bool]  # As _core takes them: group, index, captures.
NO_BUNDLE: _Bundle = (0, -1, False)
_GONE = 2**63  # The number of no group.
_EPSILON = 1e-9

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"([A-Za-z0-9]([-A-Za-z0-9.]{{0,251}}[A-Za-z0-9])?/)?{_NAME}")
_SELECTOR = re.compile(rf"!?(in\( *{_NAME} *(, *{_NAME} *)*\)|{_NAME})|")


class Placement:
    """What is asked of a node: labels that it must have, and perhaps which one it is."""

    def __init__(
        self,
        alternatives: Sequence[Mapping[str, str]],
        hard: Mapping[str, Any],
        node_id: str | None,
        group: strategies.PlacementGroupSchedulingStrategy | None = None,
        is_outside: bool = False,
    ) -> None:
        """alternatives: label selectors, one of which must fit; empty: no matter. hard: label to In,
        NotIn, Exists or DoesNotExist, all of which must fit. node_id: None: no matter. group: None:
        as the caller's task, unless it `is_outside` of all groups."""
        self._alternatives = [(_text(one), parse_selector(one)) for one in alternatives]
        self._hard = hard
        self._node_id = node_id
        self._group = group
        self._is_outside = is_outside
        # It is known without a session where that is.
        self.is_plain = is_outside and not any(alternatives) and not hard and node_id is None

    def bundle(
        self, name: str, resources: Mapping[str, float], kept: Mapping[str, float] | None = None
    ) -> _Bundle | None:
        """The place in a placement group for who asks for `resources`; of an actor, `kept` is what it
        keeps of them. (0, ..): in no group; None: as the caller's task.

        ValueError: there is no such bundle, or none can ever hold it."""
        if self._group is None:
            return NO_BUNDLE if self._is_outside else None
        group = self._group.placement_group
        index = self._group.placement_group_bundle_index
        captures = self._group.placement_group_capture_child_tasks
        if captures is None:
            current = _core.current_bundle()
            captures = current is not None and current[2]
        if isinstance(group, str):  # "default"
            group = _group_of_caller(captures)
        if group.is_empty:
            if index != -1:
                raise ValueError(
                    "If placement group is not set, the value of bundle index must be -1."
                )
            return NO_BUNDLE
        _check_fit(name, group.bundle_specs, index, resources, kept)
        return (group.id.group_on(_core.session_info()["node_id"]) or _GONE, index, captures)

    def missing(self, labels: Mapping[str, str]) -> dict[str, float]:
        """Resources to ask for besides: none if the labels of the node fit, else such as no node
        has, with names that say what does not fit."""
        missing = {}
        if self._alternatives and not any(_fit(want, labels) for _, want in self._alternatives):
            missing[" or ".join(text for text, _ in self._alternatives)] = 1.0
        if not _fit(self._hard, labels):
            text = ", ".join(f"{key}: {want!r}" for key, want in self._hard.items())
            missing[f"label({text})"] = 1.0
        return missing

    def impossible(self, node_id: str) -> str:
        """Why the task can never run, if it is bound to a node other than this, the only one; ""
        otherwise."""
        if self._node_id in (None, node_id):
            return ""
        return (
            f"NodeAffinitySchedulingStrategy with soft=False names the node {self._node_id}, which "
            f"does not exist. There is {node_id}."
        )


def _group_of_caller(captures: bool) -> PlacementGroup:
    from mobula.util.placement_group import PlacementGroup, get_current_placement_group

    return (get_current_placement_group() if captures else None) or PlacementGroup.empty()


def check_captured(
    name: str, resources: Mapping[str, float], kept: Mapping[str, float] | None = None
) -> None:
    """As `Placement.bundle`, for a request that says nothing of a group, where one may capture it."""
    from mobula.util.placement_group import get_current_placement_group

    current = _core.current_bundle()
    if current is None or not current[2]:
        return
    group = get_current_placement_group()
    if group is not None:
        _check_fit(name, group.bundle_specs, -1, resources, kept)


def _check_fit(
    name: str,
    bundles: Sequence[Mapping[str, float]],
    index: int,
    resources: Mapping[str, float],
    kept: Mapping[str, float] | None,
) -> None:
    if not bundles:  # It is gone: the task will fail with that.
        return
    if not -1 <= index < len(bundles):
        raise ValueError(
            f"placement group bundle index {index} is invalid. Valid placement group indexes: "
            f"0-{len(bundles)}"
        )

    def fits(request: Mapping[str, float]) -> bool:
        return any(
            all(bundle.get(key, 0) + _EPSILON >= value for key, value in request.items())
            for bundle in bundles
        )

    if fits(resources):
        return
    if kept is not None and fits(kept):
        raise ValueError(
            f"Cannot schedule {name} with the placement group because the actor requires "
            f"{resources.get('CPU', 0):g} CPU for creation, but it cannot fit into any bundles for "
            f"the placement group, {_limits.listed_values(bundles)}. Consider creating a placement "
            "group with CPU resources."
        )
    others = {key: value for key, value in resources.items() if key != "CPU"}
    wanted = {**others, "CPU": resources.get("CPU", 0)}  # A group is missing CPUs, most often.
    request = _limits.short_text(
        {key: int(value) if value == int(value) else value for key, value in wanted.items()}
    )
    raise ValueError(
        f"Cannot schedule {name} with the placement group because the resource request "
        f"{request} cannot fit into any bundles for the placement group, "
        f"{_limits.listed_values(bundles)}."
    )


def _fit(conditions: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return all(want.matches(labels.get(key)) for key, want in conditions.items())


def of_options(options: Mapping[str, Any]) -> Placement | None:
    """None: anywhere. ValueError, TypeError: no such selector or strategy."""
    alternatives = [options.get("label_selector") or {}]
    alternatives += [_fallback(one) for one in options.get("fallback_strategy") or []]
    hard: Mapping[str, Any] = {}
    node_id = None
    strategy = options.get("scheduling_strategy")
    group = _old_group(options)
    if isinstance(strategy, strategies.PlacementGroupSchedulingStrategy):
        group = strategy
    elif isinstance(strategy, strategies.NodeAffinitySchedulingStrategy):
        node_id = None if strategy.soft else strategy.node_id
    elif isinstance(strategy, strategies.NodeLabelSchedulingStrategy):
        hard = strategy.hard
    elif not isinstance(strategy, (str, type(None))):
        raise TypeError(
            "The type of keyword 'scheduling_strategy' must be 'DEFAULT', 'SPREAD' or one of "
            f"mobula.util.scheduling_strategies, but it is {type(strategy).__name__}: {strategy!r}"
        )
    # Who names a strategy does not follow the caller into its group.
    is_outside = group is None and strategy is not None
    placement = Placement(alternatives, hard, node_id, group, is_outside)
    anywhere = len(alternatives) == 1 and not alternatives[0] and not hard and node_id is None
    return None if anywhere and group is None and not is_outside else placement


def _old_group(
    options: Mapping[str, Any],
) -> strategies.PlacementGroupSchedulingStrategy | None:
    """What the options placement_group, .._bundle_index and .._capture_child_tasks say."""
    group = options.get("placement_group", "default")
    index = options.get("placement_group_bundle_index", -1)
    captures = options.get("placement_group_capture_child_tasks")
    if isinstance(group, str) and group == "default":
        of_caller = captures is None or options.get("scheduling_strategy") is not None
        if index == -1 and of_caller:
            return None
    elif isinstance(group, str):
        raise ValueError(f"placement_group is a PlacementGroup, None or 'default', not {group!r}")
    return strategies.PlacementGroupSchedulingStrategy(group, index, captures)


def _fallback(options: Any) -> Mapping[str, str]:
    """The label selector of one of the option dicts of fallback_strategy."""
    if not isinstance(options, dict):
        raise ValueError(f"Each element of fallback_strategy is a dict, but one is {options!r}")
    if not options:
        raise ValueError("A dict in fallback_strategy is empty")
    others = sorted(set(options) - {"label_selector"}, key=repr)
    if others:
        raise ValueError(
            f"Unsupported option in fallback_strategy: {others[0]!r}. There is 'label_selector' only"
        )
    selector = options["label_selector"]
    if not isinstance(selector, dict):
        raise ValueError(f"label_selector in fallback_strategy is a dict, not {selector!r}")
    return selector


def _text(selector: Mapping[str, str]) -> str:
    return "label(" + ", ".join(f"{key}={value}" for key, value in selector.items()) + ")"


def parse_selector(selector: Mapping[Any, Any]) -> dict[str, Any]:
    """{"region": "eu", "zone": "!in(a,b)"} as conditions. TypeError: not strings. ValueError: not
    the syntax of labels, which is that of Kubernetes."""
    conditions: dict[str, Any] = {}
    for key, value in selector.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"A label selector is made of strings, but it has {key!r}: {value!r}")
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"Invalid label key {key!r}: letters, digits, '-', '_' and '.', beginning and ending "
                "with a letter or digit, at most 63; an optional prefix ends with '/'"
            )
        if not _SELECTOR.fullmatch(value):
            raise ValueError(
                f"Invalid label selector value {value!r}: it is 'v', '!v', 'in(a,b)' or '!in(a,b)', of "
                "values as labels have them"
            )
        wanted = value.removeprefix("!")
        values = [wanted]
        if wanted.startswith("in("):
            values = [one.strip() for one in wanted[len("in(") : -1].split(",")]
        kind = strategies.NotIn if value.startswith("!") else strategies.In
        conditions[key] = kind(*values)
    return conditions
