"""Which nodes a task may run on: label selectors and affinity, checked and compared with this node.

A request that this node can never meet becomes a request for a resource that no node has, under a
name that says what was asked for. So it waits, and is told of, like any other that cannot be met.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mobula.util import scheduling_strategies as strategies

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"^([A-Za-z0-9]([-A-Za-z0-9.]{{0,251}}[A-Za-z0-9])?/)?{_NAME}$")
_VALUE = re.compile(rf"^({_NAME})?$")
_SELECTOR = re.compile(r"^(?P<no>!)?(in\((?P<list>[^()]*)\)|(?P<one>[^()]*))$")


class Placement:
    """What is asked of a node: every alternative is a text for people and its conditions."""

    def __init__(self) -> None:
        self._alternatives: list[tuple[str, dict[str, Any]]] = []
        self.node_id: str | None = None

    def add(self, text: str, conditions: dict[str, Any]) -> None:
        """One more alternative: label to In, NotIn, Exists or DoesNotExist."""
        self._alternatives.append((text, conditions))

    def missing(self, labels: Mapping[str, str], node_id: str) -> dict[str, float]:
        """Resources to ask for besides: none if the node meets the request, else one that says why
        it does not."""
        if self.node_id is not None and self.node_id != node_id:
            return {f"node({self.node_id})": 1.0}
        if not self._alternatives:
            return {}
        for _, conditions in self._alternatives:
            if all(want.matches(labels.get(key)) for key, want in conditions.items()):
                return {}
        return {" or ".join(text for text, _ in self._alternatives): 1.0}


def of_options(options: Mapping[str, Any]) -> Placement | None:
    """None: anywhere. ValueError, TypeError: no such selector or strategy."""
    placement = Placement()
    selector = options.get("label_selector")
    if selector:
        placement.add(_text(selector), parse_selector(selector))
    for other in options.get("fallback_strategy") or []:
        if not isinstance(other, dict) or set(other) - {"label_selector"}:
            raise ValueError(
                f"fallback_strategy is a list of {{'label_selector': ...}}, but it has {other!r}"
            )
        selector = other.get("label_selector") or {}
        placement.add(_text(selector), parse_selector(selector))
    strategy = options.get("scheduling_strategy")
    if isinstance(strategy, strategies.NodeAffinitySchedulingStrategy):
        if not strategy.soft:
            placement.node_id = strategy.node_id
    elif isinstance(strategy, strategies.NodeLabelSchedulingStrategy):
        if strategy.hard:
            text = ", ".join(f"{key}: {want!r}" for key, want in strategy.hard.items())
            placement.add(f"label({text})", strategy.hard)
    elif not isinstance(strategy, (str, type(None))):
        raise TypeError(
            "scheduling_strategy is 'DEFAULT', 'SPREAD' or one of mobula.util.scheduling_strategies, "
            f"not {strategy!r}"
        )
    if placement.node_id is None and not placement._alternatives:
        return None
    return placement


def _text(selector: Mapping[str, str]) -> str:
    return "label(" + ", ".join(f"{key}={value}" for key, value in selector.items()) + ")"


def parse_selector(selector: Mapping[Any, Any]) -> dict[str, Any]:
    """{"region": "eu", "zone": "!in(a,b)"} as conditions. TypeError: not strings. ValueError: not
    the syntax of labels, which is that of Kubernetes."""
    conditions: dict[str, Any] = {}
    for key, value in selector.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"A label selector is made of strings, but it has {key!r}: {value!r}")
        if not _KEY.match(key):
            raise ValueError(
                f"Invalid label key {key!r}: letters, digits, '-', '_' and '.', beginning and ending "
                "with a letter or digit, at most 63; an optional prefix ends with '/'"
            )
        found = _SELECTOR.match(value)
        values = None
        if found:
            listed = found["list"]
            values = [found["one"]] if listed is None else [v.strip() for v in listed.split(",")]
        if found is None or values is None or not all(_VALUE.match(v) for v in values):
            raise ValueError(
                f"Invalid label selector value {value!r}: it is 'v', '!v', 'in(a,b)' or '!in(a,b)', of "
                "values as labels have them"
            )
        conditions[key] = strategies.NotIn(*values) if found["no"] else strategies.In(*values)
    return conditions
