"""get_runtime_context: what a program is told of where it runs."""

from __future__ import annotations

import os
from typing import Any

import mobula as ray
import pytest


def test_in_a_driver(no_session: None) -> None:
    with ray.init(num_cpus=1, namespace="here", labels={"zone": "a"}):
        context = ray.get_runtime_context()
        assert context.get_node_id() == ray.nodes()[0]["NodeID"]
        assert context.namespace == "here"
        assert context.get_node_labels()["zone"] == "a"
        for answer in (
            context.get_task_id(),
            context.get_task_name(),
            context.get_task_function_name(),
            context.get_actor_id(),
        ):
            assert answer is None
        with pytest.raises((RuntimeError, AssertionError)):
            context.get_assigned_resources()
        assert context.get() == {
            "job_id": context.get_job_id(),
            "node_id": context.get_node_id(),
            "namespace": "here",
        }


def test_two_sessions_without_a_namespace_have_different_ones(no_session: None) -> None:
    seen = set()
    for _ in range(2):
        with ray.init(num_cpus=1):
            seen.add(ray.get_runtime_context().namespace)
    assert len(seen) == 2 and "" not in seen


def test_in_a_task(no_session: None) -> None:
    @ray.remote(num_cpus=0.5, resources={"slot": 1.5}, name="renamed")
    def look() -> dict[str, Any]:
        context = ray.get_runtime_context()
        return {
            "task": context.get_task_id(),
            "name": context.get_task_name(),
            "function": context.get_task_function_name(),
            "resources": context.get_assigned_resources(),
            "node": context.get_node_id(),
            "job": context.get_job_id(),
            "worker": context.get_worker_id(),
            "namespace": context.namespace,
            "labels": context.get_node_labels(),
            "env": context.runtime_env,
            "pid": os.getpid(),
        }

    env = {"env_vars": {"SEEN_IN_TASKS": "1"}}
    with ray.init(
        num_cpus=2, resources={"slot": 2}, namespace="ours", labels={"a": "b"}, runtime_env=env
    ):
        ref = look.remote()
        seen = ray.get(ref)
        here = ray.get_runtime_context()
        assert seen["task"] == ref.task_id()
        assert seen["name"] == "renamed"
        assert seen["function"].endswith("look")
        assert seen["resources"] == {"CPU": 0.5, "slot": 1.5}
        assert (seen["node"], seen["job"]) == (here.get_node_id(), here.get_job_id())
        assert seen["worker"] != here.get_worker_id()
        assert seen["namespace"] == "ours"
        assert seen["labels"] == here.get_node_labels()
        assert seen["env"] == env == here.runtime_env


def test_it_starts_a_session(no_session: None) -> None:
    assert ray.get_runtime_context().get_node_id() == ray.nodes()[0]["NodeID"]
    ray.shutdown()
