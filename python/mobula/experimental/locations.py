"""Where values are: whether in the node's object store, how large, and whether on disk too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mobula import ObjectRef, _core, _state
from mobula.exceptions import GetTimeoutError

_OBJECTS_MAX = 1_000_000
_IN_THE_STORE = ("memory", "memory+disk", "disk", "file", "moving")
_PLACES_ON_DISK = ("memory+disk", "disk")


def get_object_locations(
    obj_refs: Sequence[ObjectRef[Any]], timeout_ms: int = -1
) -> dict[ObjectRef[Any], dict[str, Any]]:
    """For each ref a dict of three:

    - `node_ids`: ids in hexadecimal of the nodes whose object store has the value; small values are
      in the memory of processes, with no node.
    - `object_size`: bytes; None as long as there is no value.
    - `did_spill`: it is in a file, too or only.

    Does not wait for values. timeout_ms: how long to wait for processes that know of the objects, at
    most a second, which is what a negative one means. TypeError: not a list of refs. GetTimeoutError:
    too late. RaySystemError: not connected.
    """
    if isinstance(obj_refs, _core.ObjectRef) or not all(
        isinstance(ref, _core.ObjectRef) for ref in obj_refs
    ):
        raise TypeError(f"obj_refs must be a list of ObjectRefs, got {obj_refs!r}")
    if not obj_refs:
        return {}
    timeout = None if timeout_ms < 0 else timeout_ms / 1000
    snapshot = _state.gather(timeout=timeout, tasks_max=0, ended_max=0, objects_max=_OBJECTS_MAX)
    if timeout is not None and snapshot.silent:
        raise GetTimeoutError(f"not all processes answered within {timeout_ms} ms")
    told: dict[str, dict[str, Any]] = {}
    for row in snapshot.objects():
        place = row.where or ""
        size = row.object_size if row.object_size >= 0 else None
        known = told.get(row.object_id)
        if known is not None and (known["object_size"] is not None or size is None):
            continue  # By who knows more.
        told[row.object_id] = {
            "node_ids": [snapshot.node_id] if place in _IN_THE_STORE else [],
            "object_size": size,
            "did_spill": place in _PLACES_ON_DISK,
        }
    unknown: dict[str, Any] = {"node_ids": [], "object_size": None, "did_spill": False}
    return {ref: told.get(ref.hex(), unknown) for ref in obj_refs}


def get_local_object_locations(
    obj_refs: Sequence[ObjectRef[Any]],
) -> dict[ObjectRef[Any], dict[str, Any]]:
    """As `get_object_locations`: with one node it knows no less."""
    return get_object_locations(obj_refs)
