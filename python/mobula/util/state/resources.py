"""What the state API tells, under the name of Ray's module."""

from __future__ import annotations

import enum

from mobula.util.state.schema import (
    DEFAULT_LIMIT,
    DEFAULT_RPC_TIMEOUT,
    ActorState,
    DriverInfo,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RuntimeEnvState,
    StateSchema,
    TaskState,
    WorkerState,
    limit_max,
    source_max,
)

RAY_MAX_LIMIT_FROM_API_SERVER = limit_max()
RAY_MAX_LIMIT_FROM_DATA_SOURCE = source_max()
DEFAULT_LOG_LIMIT = 1000
DRIVER_TASK_ID_PREFIX = "f" * 40


class StateResource(enum.Enum):
    """Of what there are lists."""

    ACTORS = "actors"
    JOBS = "jobs"
    PLACEMENT_GROUPS = "placement_groups"
    NODES = "nodes"
    WORKERS = "workers"
    TASKS = "tasks"
    OBJECTS = "objects"
    RUNTIME_ENVS = "runtime_envs"
    CLUSTER_EVENTS = "cluster_events"


class SummaryResource(enum.Enum):
    """Of what there are summaries."""

    ACTORS = "actors"
    TASKS = "tasks"
    OBJECTS = "objects"


__all__ = [
    "DEFAULT_LIMIT",
    "DEFAULT_LOG_LIMIT",
    "DEFAULT_RPC_TIMEOUT",
    "DRIVER_TASK_ID_PREFIX",
    "RAY_MAX_LIMIT_FROM_API_SERVER",
    "RAY_MAX_LIMIT_FROM_DATA_SOURCE",
    "ActorState",
    "DriverInfo",
    "JobState",
    "NodeState",
    "ObjectState",
    "PlacementGroupState",
    "RuntimeEnvState",
    "StateResource",
    "StateSchema",
    "SummaryResource",
    "TaskState",
    "WorkerState",
]
