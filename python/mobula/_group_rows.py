"""What the node daemon says of placement groups, as people see it."""

from __future__ import annotations

from typing import Any

from mobula import _options
from mobula._ids import PlacementGroupID


def row(group: dict[str, Any], node_id: str) -> dict[str, Any]:
    """As `placement_group_table` shows it."""
    bundles = bundles_of(group)
    was_placed = group["placed_ns"] > 0
    took_ms = round((group["placed_ns"] - group["created_ns"]) / 1e6, 3) if was_placed else 0.0
    scheduling = {"CREATED": "FINISHED", "REMOVED": "REMOVED"}.get(group["state"], "QUEUED")
    if group["state"] == "PENDING" and not group["feasible"]:
        scheduling = "INFEASIBLE"
    return {
        "placement_group_id": str(PlacementGroupID.of(node_id, group["group"])),
        "name": group["name"],
        "bundles": dict(enumerate(bundles)),
        "bundles_to_node_id": dict.fromkeys(range(len(bundles)), node_id if was_placed else ""),
        "strategy": group["strategy"],
        "state": group["state"],
        "stats": {
            "end_to_end_creation_latency_ms": took_ms,
            "scheduling_latency_ms": took_ms,
            "scheduling_attempt": 1 if was_placed else 0,
            "highest_retry_delay_ms": 0.0,
            "scheduling_state": scheduling,
        },
    }


def bundles_of(group: dict[str, Any]) -> list[dict[str, float]]:
    """The resources of each."""
    return [
        {name: amount / _options.RESOURCE_UNIT for name, amount in bundle.items()}
        for bundle in group["bundles"]
    ]
