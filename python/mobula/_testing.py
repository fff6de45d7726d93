"""What tests of programs on Mobula may look at, and programs should not.

`object_exists` tells whether a value is still held; `object_location` where the bytes of a large one
lie; `runtime_state` how much this process knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mobula import _core

if TYPE_CHECKING:
    from mobula import ObjectRef


def object_exists(ref_or_id: ObjectRef[Any] | str | bytes) -> bool:
    """Is a value of this object held here, by this process or by the node, in memory or spilled?

    Takes a ref or an id as `ref.hex()` or `ref.binary()` gives it, so that one can ask after the last
    ref is gone. A value that is still being computed does not exist.
    """
    node, creator, index = _id_of(ref_or_id)
    return bool(_core._has_value(node, creator, index))


def object_location(ref: ObjectRef[Any]) -> tuple[int, int, int, int, int] | None:
    """(segment, entry, generation, offset, size) of the bytes in the object store; None for a value
    that is not there."""
    location: tuple[int, int, int, int, int] | None = _core._location(ref)
    return location


def runtime_state() -> dict[str, int]:
    """Objects, tasks and tables of this process, by name."""
    words = (word.partition("=") for word in _core.debug_state().split())
    return {name: int(value) for name, _, value in words}


def _id_of(ref_or_id: ObjectRef[Any] | str | bytes) -> tuple[int, int, int]:
    if isinstance(ref_or_id, _core.ObjectRef):
        data = ref_or_id.binary()
    elif isinstance(ref_or_id, str):
        data = bytes.fromhex(ref_or_id)
    elif isinstance(ref_or_id, bytes):
        data = ref_or_id
    else:
        raise TypeError(f"an ObjectRef or its id is needed, not {ref_or_id!r}")
    if len(data) != 28:
        raise ValueError(f"the id of an object has 28 bytes, not {len(data)}")
    return (
        int.from_bytes(data[:4], "big"),
        int.from_bytes(data[4:8], "big"),
        int.from_bytes(data[8:16], "big"),
    )
