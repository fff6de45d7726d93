"""Losing the bytes of objects.

They are really lost: the index of a segment of the object store is damaged, in the memory that the node
daemon shares with everybody, as a stray write would do it.
"""

from __future__ import annotations

import os
import struct
from typing import Any

from mobula import _session
from mobula._testing import object_location

_HEADER = struct.Struct("<QIIQI")  # Of a segment: magic, version, number, size, entries.
_INDEX = 4096  # Where its index begins.
_ENTRY = struct.Struct("<QQQII")


def _segment(number: int) -> str:
    """The file of a segment of the store, by the daemon's descriptor of it."""
    folder = f"/proc/{_daemon_pid()}/fd"
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        try:
            if not os.readlink(path).startswith("/memfd:mobula-segment"):
                continue
        except OSError:
            continue
        with open(path, "rb") as file:
            if _HEADER.unpack(file.read(_HEADER.size))[2] == number:
                return path
    raise AssertionError(f"no segment {number}")


def _daemon_pid() -> int:
    driver = _session._driver
    assert driver is not None and driver.daemon is not None
    return int(driver.daemon.pid)


def lose(ref: Any) -> None:
    """The bytes of this object are gone."""
    location = object_location(ref)
    assert location is not None, "only what lies in the store can get lost"
    segment, entry, generation = location[:3]
    place = _INDEX + entry * _ENTRY.size
    with open(_segment(segment), "r+b", buffering=0) as file:
        file.seek(place)
        word, offset, size, creator, reserved = _ENTRY.unpack(file.read(_ENTRY.size))
        assert (word >> 8, word & 255) == (generation, 2), "the index is not as expected"
        file.seek(place)
        file.write(_ENTRY.pack((generation << 8) | 3, offset, size, creator, reserved))
