"""What there is and what happens: tasks, workers, jobs, nodes, and what they print.

    from mobula.util.state import list_tasks, summarize_tasks

    list_tasks(filters=[("state", "=", "FAILED")], detail=True)

Lists come from the running system and cost nothing until they are asked for. Of tasks that have ended
the last 24,576 of each process are kept; how many there were is known of all.
"""

from __future__ import annotations

from mobula.util.state import exception
from mobula.util.state import resources as common
from mobula.util.state._logs import get_log, list_logs
from mobula.util.state.api import (
    StateApiClient,
    explain,
    get_actor,
    get_job,
    get_node,
    get_objects,
    get_placement_group,
    get_task,
    get_worker,
    list_actors,
    list_cluster_events,
    list_jobs,
    list_nodes,
    list_objects,
    list_placement_groups,
    list_runtime_envs,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_objects,
    summarize_tasks,
)

__all__ = [
    "StateApiClient",
    "common",
    "exception",
    "explain",
    "get_actor",
    "get_job",
    "get_log",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_cluster_events",
    "list_jobs",
    "list_logs",
    "list_nodes",
    "list_objects",
    "list_placement_groups",
    "list_runtime_envs",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
]
