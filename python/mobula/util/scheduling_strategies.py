"""Where a task may run: values of the option `scheduling_strategy`."""

from __future__ import annotations

import re
from typing import Any

_HEX = re.compile("([0-9a-f]{2})+")


class NodeAffinitySchedulingStrategy:
    """On the node with this id; with `soft` on another one if there is no such node.

    A hard one to a node that does not exist makes the task fail with TaskUnschedulableError.
    ValueError: `node_id` is no hexadecimal text."""

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        if not isinstance(node_id, str) or not _HEX.fullmatch(node_id):
            raise ValueError(
                f"Invalid node_id {node_id!r}: it must be a hexadecimal text, as nodes() shows it"
            )
        if _spill_on_unavailable and not soft:
            raise ValueError("_spill_on_unavailable is for soft=True only")
        self.node_id = node_id
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy(node_id={self.node_id!r}, soft={self.soft})"


class _Operator:
    """A condition on one label. `value` is None if the node has no such label."""

    def matches(self, value: str | None) -> bool:
        raise NotImplementedError


class In(_Operator):
    """The label has one of these values."""

    def __init__(self, *values: str) -> None:
        self.values = _texts(type(self).__name__, values)

    def matches(self, value: str | None) -> bool:
        return value in self.values

    def __repr__(self) -> str:
        return f"In({', '.join(map(repr, self.values))})"


class NotIn(_Operator):
    """The label has none of these values, or is not there."""

    def __init__(self, *values: str) -> None:
        self.values = _texts(type(self).__name__, values)

    def matches(self, value: str | None) -> bool:
        return value not in self.values

    def __repr__(self) -> str:
        return f"NotIn({', '.join(map(repr, self.values))})"


class Exists(_Operator):
    """The node has the label."""

    def matches(self, value: str | None) -> bool:
        return value is not None

    def __repr__(self) -> str:
        return "Exists()"


class DoesNotExist(_Operator):
    """The node does not have the label."""

    def matches(self, value: str | None) -> bool:
        return value is None

    def __repr__(self) -> str:
        return "DoesNotExist()"


def _texts(operator: str, values: tuple[Any, ...]) -> list[str]:
    if not values:
        raise ValueError(f"{operator} needs at least one value, as in {operator}('a', 'b')")
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"Values of labels are strings, but one of {operator} is {value!r}")
    return list(values)


class NodeLabelSchedulingStrategy:
    """On a node whose labels meet all of `hard`; rather on one that meets `soft` too.

    hard, soft: name of a label to In, NotIn, Exists or DoesNotExist. ValueError: anything else."""

    def __init__(self, hard: dict[str, Any], *, soft: dict[str, Any] | None = None) -> None:
        self.hard = _conditions("hard", hard)
        self.soft = _conditions("soft", soft or {})
        if not self.hard and not self.soft:
            raise ValueError("NodeLabelSchedulingStrategy needs a condition, hard or soft")

    def __repr__(self) -> str:
        return f"NodeLabelSchedulingStrategy(hard={self.hard}, soft={self.soft})"


def _conditions(which: str, conditions: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(conditions, dict):
        raise ValueError(f"{which} must be a dict of labels, not {conditions!r}")
    for key, condition in conditions.items():
        if not isinstance(key, str):
            raise ValueError(f"Names of labels are strings, but one is {key!r}")
        if not isinstance(condition, _Operator):
            raise ValueError(
                f"The condition on label {key!r} must be In, NotIn, Exists or DoesNotExist, "
                f"not {condition!r}"
            )
    return dict(conditions)


class PlacementGroupSchedulingStrategy:
    """In a bundle of a placement group, or in any of them if the index is -1; a group of None: in none;
    of "default": in that of the caller, if it captures what the caller submits.

    placement_group_capture_child_tasks: what the task or actor submits is in the group, too, unless
    it says otherwise. None: as of the caller. TypeError: no group."""

    def __init__(
        self,
        placement_group: Any,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        from mobula.util.placement_group import PlacementGroup

        if placement_group is None:
            placement_group = PlacementGroup.empty()
        if not isinstance(placement_group, PlacementGroup) and placement_group != "default":
            raise TypeError(
                f"A PlacementGroup, 'default' or None is needed here, not {placement_group!r}"
            )
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks

    def __repr__(self) -> str:
        return (
            f"PlacementGroupSchedulingStrategy({self.placement_group!r}, "
            f"{self.placement_group_bundle_index}, {self.placement_group_capture_child_tasks})"
        )


__all__ = [
    "DoesNotExist",
    "Exists",
    "In",
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "NotIn",
    "PlacementGroupSchedulingStrategy",
]
