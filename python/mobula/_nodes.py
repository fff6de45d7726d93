"""Nodes as Ray's `nodes()` describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mobula import _session

if TYPE_CHECKING:
    from mobula import _core


def describe(record: _core.NodeRecord) -> dict[str, Any]:
    """Ports and sockets that a node of Mobula does not have are 0 and ""."""
    return {
        "NodeID": record["node_id"],
        "Alive": record["alive"],
        "NodeManagerAddress": record["address"],
        "NodeManagerHostname": record["hostname"],
        "NodeManagerPort": 0,
        "ObjectManagerPort": 0,
        "ObjectStoreSocketName": "",
        "RayletSocketName": "",
        "MetricsExportPort": record["metrics_port"],
        "MetricsAgentPort": -1,
        "DashboardAgentListenPort": -1,
        "NodeName": record["hostname"],
        "RuntimeEnvAgentPort": 0,
        "DeathReason": 0,
        "DeathReasonMessage": "",
        "alive": record["alive"],
        "Resources": dict(record["resources"]) if record["alive"] else {},
        "Labels": {"ray.io/node-id": record["node_id"], **_session.driver_labels()},
    }
