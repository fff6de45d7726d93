"""Placement groups: bundles of resources that are reserved together.

group = placement_group([{"CPU": 1}, {"CPU": 1, "GPU": 1}])
ray.get(group.ready())
strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=1)
ref = task.options(scheduling_strategy=strategy).remote()
"""

from __future__ import annotations

import json
import math
import sys
import types
from typing import TYPE_CHECKING, Any

from mobula import _core, _limits, _placement
from mobula import _group_rows as _tables
from mobula._ids import PlacementGroupID

if TYPE_CHECKING:
    from collections.abc import Callable

    from mobula._core import ObjectRef

_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
_WHAT_BUNDLES_ARE = (
    "Bundles must be a non-empty list of resource dictionaries. "
    'For example: `[{"CPU": 1.0}, {"GPU": 1.0}]`.'
)
# Room for objects is shared by all: it cannot be reserved.
_NOT_RESERVED = "object_store_memory"
# The label of a node that says its id, and the name of a resource that Ray makes for each bundle.
NODE_ID_LABEL_KEY = "ray.io/node-id"
PLACEMENT_GROUP_BUNDLE_RESOURCE_NAME = "bundle"
_SECONDS_MAX = 1e9


class PlacementGroup:
    """A placement group, which may be waiting for its resources, or be gone."""

    def __init__(
        self, id: PlacementGroupID, bundle_cache: list[dict[str, float]] | None = None
    ) -> None:
        self.id = id
        self.bundle_cache = bundle_cache

    @staticmethod
    def empty() -> PlacementGroup:
        """Names no group: a task in it is in none."""
        return PlacementGroup(PlacementGroupID.nil())

    @property
    def is_empty(self) -> bool:
        """Does it name no group?"""
        return self.id.is_nil()

    def ready(self) -> ObjectRef[PlacementGroup]:
        """A ref whose value is this group, as soon as it has its resources. If it is removed before:
        TaskPlacementGroupRemoved."""
        from mobula.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(self, placement_group_capture_child_tasks=False)
        ref: ObjectRef[PlacementGroup] = (
            _itself().options(scheduling_strategy=strategy).remote(self)
        )
        return ref

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Waits until it has its resources; False: not within that time. Exception: it was removed."""
        if isinstance(timeout_seconds, bool) or not isinstance(timeout_seconds, (int, float)):
            raise TypeError(f"timeout_seconds must be a number, not {timeout_seconds!r}")
        if timeout_seconds <= 0:
            state = placement_group_table(self).get("state", "REMOVED")
            if state == "REMOVED":
                raise Exception(f"Placement group {self.id!r} does not exist.")
            return bool(state == "CREATED")
        try:
            return _core.wait_for_group(_number(self.id), min(float(timeout_seconds), _SECONDS_MAX))
        except LookupError:
            raise Exception(f"Placement group {self.id!r} does not exist.") from None

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle."""
        if self.bundle_cache is None:
            table = placement_group_table(self)
            self.bundle_cache = list(table["bundles"].values()) if table else []
        return self.bundle_cache

    @property
    def bundle_count(self) -> int:
        """How many bundles it has."""
        return len(self.bundle_specs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id}, bundles={self.bundle_cache})"


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: dict[str, str] | None = None,
) -> PlacementGroup:
    """Reserves `bundles`, all of them together, as soon as there is room; returns at once.

    strategy: "PACK" (the default), "SPREAD", "STRICT_PACK", "STRICT_SPREAD". There is one node, so
    only the last makes a difference: a group of it with more than one bundle stays pending.
    name: for get_placement_group(), in this namespace. lifetime: "detached": it does not end with
    this job. ValueError: no such bundles, strategy, lifetime. RaySystemError: the name is taken."""
    from mobula import exceptions, runtime_context

    checked = _check_bundles(bundles)
    strategy = _check_strategy(strategy, _soft_target_node_id)
    _check_lifetime(lifetime)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"The name of a placement group is a text, not {name!r}")
    _limits.check_name("The name of a placement group", name or "")
    selectors = _check_selectors(bundle_label_selector, len(checked))
    context = runtime_context.get_runtime_context()
    labels = context.get_node_labels()
    impossible = any(_placement.Placement([one], {}, None).missing(labels) for one in selectors)
    reserved = [
        {key: value for key, value in bundle.items() if key != _NOT_RESERVED} for bundle in checked
    ]
    try:
        group = _core.create_group(
            reserved,
            (name or "", context.namespace),
            _STRATEGIES.index(strategy),
            lifetime == "detached",
            impossible,
        )
    except LookupError as error:
        reason = error.args[1]
        if name and "already exists" in reason:
            raise exceptions.RaySystemError(
                f"Failed to create placement group because {reason}."
            ) from None
        raise ValueError(f"Failed to create placement group: {reason}") from None
    return PlacementGroup(_id_of(group), checked)


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Gives the resources of the group back. What runs in it is killed; tasks that wait in it fail
    with TaskPlacementGroupRemoved. Nothing happens if it is gone already. Returns when the node has
    begun: who calls an actor of the group afterwards learns of its end."""
    number = _number(placement_group.id)
    if number:
        _core.remove_group(number)
        for _ in range(2):  # It acts when it has read what there is, and answers at once.
            _core.groups()


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The group of this name in this namespace. ValueError: there is none."""
    from mobula import runtime_context

    if not placement_group_name:
        raise ValueError("Please supply a non-empty value to get_placement_group")
    namespace = runtime_context.get_runtime_context().namespace
    for group in _groups():
        is_it = group["name"] == placement_group_name and group["namespace"] == namespace
        if is_it and group["state"] != "REMOVED":
            return PlacementGroup(_id_of(group["group"]), _tables.bundles_of(group))
    raise ValueError(f"Failed to look up placement group with name: {placement_group_name}")


def get_current_placement_group() -> PlacementGroup | None:
    """The group in which the caller's task or actor is. None: in none, or the caller is a driver."""
    id = current_id()
    return None if id is None else PlacementGroup(id)


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """What is known of the group: state, bundles, where they are. No argument: of all, by id."""
    groups = _groups()
    node_id = _core.session_info()["node_id"]
    listed = [_tables.row(group, node_id) for group in groups]
    rows = {row["placement_group_id"]: row for row in listed}
    if placement_group is None:
        return rows
    row: dict[str, Any] = rows.get(str(placement_group.id), {})
    return row


def check_placement_group_index(placement_group: PlacementGroup, bundle_index: int) -> None:
    """ValueError: the group has no such bundle; -1 is any."""
    if placement_group.is_empty:
        if bundle_index != -1:
            raise ValueError("If placement group is not set, the value of bundle index must be -1.")
    elif not -1 <= bundle_index < placement_group.bundle_count:
        raise ValueError(
            f"placement group bundle index {bundle_index} is invalid. Valid placement group "
            f"indexes: 0-{placement_group.bundle_count}"
        )


def validate_placement_group(
    bundles: list[dict[str, float]],
    strategy: str | None = None,
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: dict[str, str] | None = None,
) -> bool:
    """True, or what `placement_group` would raise of these arguments."""
    _check_lifetime(lifetime)
    checked = _check_bundles(bundles)
    _check_strategy(strategy, _soft_target_node_id)
    _check_selectors(bundle_label_selector, len(checked))
    return True


def _groups() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = json.loads(_core.groups())
    return groups


def _id_of(group: int) -> PlacementGroupID:
    return PlacementGroupID.of(_core.session_info()["node_id"], group)


def _number(id: PlacementGroupID) -> int:
    """The daemon's number of the group; 0: of no group that it knows."""
    from mobula import _session

    if not _core.is_connected():
        _session.auto_init()
    return id.group_on(_core.session_info()["node_id"])


def current_id() -> PlacementGroupID | None:
    """The id of the group in which the caller's task or actor is."""
    bundle = _core.current_bundle()
    return None if bundle is None else _id_of(bundle[0])


def _check_bundles(bundles: Any) -> list[dict[str, float]]:
    if not isinstance(bundles, list):
        raise ValueError(f"Placement group bundles must be a list, got {type(bundles)}.")
    if not bundles:
        raise ValueError(f"{_WHAT_BUNDLES_ARE} Got empty list instead.")
    for bundle in bundles:
        if not isinstance(bundle, dict) or not all(
            isinstance(key, str) and isinstance(value, (int, float))
            for key, value in bundle.items()
        ):
            raise ValueError(_WHAT_BUNDLES_ARE)
        _limits.check_resources(bundle)
        for key, value in bundle.items():
            if not math.isfinite(value) or value < 0:
                raise ValueError(
                    f"The quantity of resource {key} in a bundle must be a finite number of at "
                    f"least 0, not {value}"
                )
        if not any(value and key != _NOT_RESERVED for key, value in bundle.items()):
            raise ValueError(
                "Bundles cannot be an empty dictionary or resources with only 0 values. "
                f"Bundles: {_limits.listed_values(bundles)}"
            )
        gpus = bundle.get("GPU", 0)
        if gpus > 1 and not float(gpus).is_integer():
            raise ValueError(f"More than one GPU in a bundle must be a whole number, not {gpus}")
    return [_plain(bundle) for bundle in bundles]


def _check_lifetime(lifetime: str | None) -> None:
    if lifetime not in (None, "detached"):
        raise ValueError(
            "Placement group `lifetime` argument must be either `None` or 'detached'. "
            f"Got {lifetime}."
        )


def _plain(bundle: dict[str, Any]) -> dict[str, float]:
    plain = {key: float(value) for key, value in bundle.items() if value}
    if "memory" in plain:
        plain["memory"] = float(int(plain["memory"]))
    return plain


def _check_strategy(strategy: str | None, soft_target: str | None) -> str:
    if strategy is None:
        strategy = "PACK"
    if strategy not in _STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {strategy}. "
            f"Supported strategies are: {set(_STRATEGIES)}."
        )
    if soft_target is not None and strategy != "STRICT_PACK":
        raise ValueError(
            f"_soft_target_node_id currently only works with STRICT_PACK but got {strategy}"
        )
    return strategy


def _check_selectors(selectors: Any, bundle_count: int) -> list[dict[str, str]]:
    if not selectors:
        return []
    if not isinstance(selectors, list) or len(selectors) != bundle_count:
        raise ValueError(
            f"bundle_label_selector must be a list with a dict for each of the {bundle_count} "
            f"bundles, not {selectors!r}"
        )
    for selector in selectors:
        if not isinstance(selector, dict):
            raise ValueError(f"Each of bundle_label_selector is a dict, but one is {selector!r}")
        _placement.parse_selector(selector)
    return [selector for selector in selectors if selector]


_itself_function: Any = None


def _itself() -> Any:
    """The remote function behind ready()."""
    global _itself_function
    if _itself_function is None:
        from mobula._remote import remote

        _itself_function = remote(num_cpus=0, name="placement_group.ready")(_return_group)
    return _itself_function


def _return_group(group: PlacementGroup) -> PlacementGroup:
    return group


class _CallableModule(types.ModuleType):
    """`util.placement_group` is a function and a module: whichever the import system leaves under that
    name, both uses work."""

    __call__: Callable[..., PlacementGroup] = staticmethod(placement_group)


sys.modules[__name__].__class__ = _CallableModule

__all__ = [
    "PlacementGroup",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]
