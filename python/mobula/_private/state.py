"""What there is on the node, under the names by which programs look it up in Ray.

Use `mobula.util.state` in new programs: it says more, and filters.
"""

from __future__ import annotations

from typing import Any

import mobula
from mobula import _machine, _session, _state
from mobula.runtime_context import get_runtime_context
from mobula.util.placement_group import placement_group_table
from mobula.util.state import schema

nodes = mobula.nodes
cluster_resources = mobula.cluster_resources
available_resources = mobula.available_resources
timeline = mobula.timeline


def actors(
    actor_id: str | None = None, job_id: Any = None, actor_state_name: str | None = None
) -> Any:
    """Rows of actors by their ids, also of the last ones that are dead; with `actor_id` its own row,
    {} if there is none. ValueError: no such state."""
    _session.require_session()
    states = ("DEPENDENCIES_UNREADY", "PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD")
    if actor_state_name is not None and actor_state_name not in states:
        raise ValueError(
            f'"{actor_state_name}" is not a valid actor state name, it must be one of {states}'
        )
    rows = _state.gather(tasks_max=0, ended_max=0).actors()
    if actor_id is not None:
        return next((_row(row) for row in rows if row.actor_id == actor_id), {})
    job = None if job_id is None else getattr(job_id, "hex", lambda: job_id)()
    return {
        row.actor_id: _row(row)
        for row in rows
        if job in (None, row.job_id) and actor_state_name in (None, row.state)
    }


def _row(actor: schema.ActorState) -> dict[str, Any]:
    node_id = actor.node_id or ""
    return {
        "ActorID": actor.actor_id,
        "ActorClassName": actor.class_name,
        "IsDetached": bool(actor.is_detached),
        "Name": actor.name or "",
        "JobID": actor.job_id,
        "Address": {"IPAddress": "127.0.0.1" if node_id else "", "Port": 0, "NodeID": node_id},
        "OwnerAddress": {
            "IPAddress": "127.0.0.1",
            "Port": 0,
            "NodeID": get_runtime_context().get_node_id(),
        },
        "State": actor.state,
        "NumRestarts": actor.num_restarts or 0,
        "DeathCause": actor.death_cause or {},
        "Pid": actor.pid or 0,
    }


def jobs() -> list[dict[str, Any]]:
    """Drivers that there are and were."""
    _session.require_session()
    return [
        {
            "JobID": job.job_id,
            "DriverIPAddress": "127.0.0.1",
            "DriverPid": int(job.driver_info.pid) if job.driver_info else 0,
            "Timestamp": job.start_time,
            "StartTime": job.start_time,
            "EndTime": job.end_time,
            "IsDead": job.status != "RUNNING",
            "Entrypoint": job.entrypoint,
        }
        for job in _state.gather(tasks_max=0, ended_max=0).jobs()
    ]


def node_ids() -> list[str]:
    """Names of the resources that stand for nodes."""
    return [
        name
        for name in cluster_resources()
        if name.startswith("node:") and name != _machine.HEAD_RESOURCE
    ]


def current_node_id() -> str:
    """Of the node on which the caller runs."""
    return get_runtime_context().get_node_id()


def available_resources_per_node() -> dict[str, dict[str, float]]:
    """What is left, by the id of the node."""
    return {current_node_id(): available_resources()}


def total_resources_per_node() -> dict[str, dict[str, float]]:
    """What there is, by the id of the node."""
    return {current_node_id(): cluster_resources()}


class _GlobalState:
    """`state`, the object whose methods these functions call in Ray."""

    def actor_table(self, actor_id: str | None = None, *rest: Any) -> Any:
        return actors(actor_id, *rest)

    def job_table(self) -> list[dict[str, Any]]:
        return jobs()

    def node_table(self) -> list[dict[str, Any]]:
        return nodes()

    def placement_group_table(self, placement_group_id: Any = None) -> dict[str, Any]:
        table = placement_group_table()
        if placement_group_id is None:
            return table
        text = getattr(placement_group_id, "hex", lambda: placement_group_id)()
        row: dict[str, Any] = table.get(text, {})
        return row

    def cluster_resources(self) -> dict[str, float]:
        return cluster_resources()

    def available_resources(self) -> dict[str, float]:
        return available_resources()

    def available_resources_per_node(self) -> dict[str, dict[str, float]]:
        return available_resources_per_node()

    def total_resources_per_node(self) -> dict[str, dict[str, float]]:
        return total_resources_per_node()


state = _GlobalState()
