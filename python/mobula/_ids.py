"""Ids as Ray programs use them: texts of hexadecimal digits that have `hex()` and `binary()`."""

from __future__ import annotations

import builtins
import os
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from typing import Self


class _Id(str):
    """Compares, hashes and prints like its hexadecimal text."""

    __slots__ = ()
    _bytes: ClassVar[builtins.int] = 0

    def __new__(cls, value: object = "") -> Self:
        """ValueError: bytes, but not as many as there must be."""
        return cls.from_binary(value) if isinstance(value, bytes) else super().__new__(cls, value)

    @classmethod
    def size(cls) -> builtins.int:
        """The number of bytes that the digits stand for."""
        return cls._bytes

    @classmethod
    def nil(cls) -> Self:
        """The id of nothing."""
        return cls("f" * 2 * cls._bytes)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """ValueError: these are no digits, or not as many as there must be."""
        if len(bytes.fromhex(text)) != cls._bytes:
            raise ValueError(f"A {cls.__name__} has {2 * cls._bytes} digits, not {len(text)}")
        return cls(text.lower())

    @classmethod
    def from_binary(cls, data: bytes) -> Self:
        """ValueError: not as many bytes as there must be."""
        return cls.from_hex(data.hex())

    @classmethod
    def from_random(cls) -> Self:
        """One that names nothing that there is."""
        return cls(os.urandom(cls._bytes).hex())

    def hex(self) -> str:
        """The hexadecimal digits as a plain text."""
        return str(self)

    def binary(self) -> bytes:
        """What the digits stand for."""
        return bytes.fromhex(self)

    def is_nil(self) -> bool:
        """Does it name nothing?"""
        return not self.strip("f") or not self.strip("0")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self!s})"


class TaskID(_Id):
    """48 digits."""

    __slots__ = ()
    _bytes = 24


class JobID(_Id):
    """8 digits."""

    __slots__ = ()
    _bytes = 4

    @classmethod
    def from_int(cls, number: builtins.int) -> JobID:
        """Of the job with this number."""
        return cls(f"{number:08x}")

    def int(self) -> builtins.int:
        """The job's number."""
        return builtins.int(self, 16)


class ActorID(_Id):
    """32 digits."""

    __slots__ = ()
    _bytes = 16


class NodeID(_Id):
    """As `nodes()` shows it."""

    __slots__ = ()
    _bytes = 4


class WorkerID(_Id):
    """A driver or worker: 16 digits, the node's first."""

    __slots__ = ()
    _bytes = 8


class UniqueID(_Id):
    """Names anything: 56 digits."""

    __slots__ = ()
    _bytes = 28


class FunctionID(UniqueID):
    """A remote function: 56 digits."""

    __slots__ = ()


class ActorClassID(UniqueID):
    """A class of actors: 56 digits."""

    __slots__ = ()


class ClusterID(UniqueID):
    """A session: 56 digits."""

    __slots__ = ()


class PlacementGroupID(_Id):
    """36 digits."""

    __slots__ = ()
    _bytes = 18

    @classmethod
    def of(cls, node_id: str, group: builtins.int) -> PlacementGroupID:
        """The group with this number on that node."""
        return cls(f"{node_id}{group:016x}".ljust(2 * cls._bytes, "0"))

    def group_on(self, node_id: str) -> builtins.int:
        """Its number on that node; 0 if it is none of it."""
        digits = self[len(node_id) : len(node_id) + 16]
        return builtins.int(digits, 16) if self.startswith(node_id) else 0
