"""Which task of this worker was told to stop: one that is run again by itself must know."""

from __future__ import annotations

from mobula import _core

_task_id: list[str] = []


def note_current_task() -> None:
    """The task that runs here was cancelled."""
    task = _core.current_task()
    if task is not None:
        _task_id[:] = [task["task_id"]]


def is_current_task() -> bool:
    """Was the task, or the call of this actor, that runs here cancelled?"""
    task = _core.current_task()
    return task is not None and ([task["task_id"]] == _task_id or _core.is_cancelled())
