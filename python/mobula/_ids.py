"""Ids as Ray programs use them: texts of hexadecimal digits that have `hex()` and `binary()`."""

from __future__ import annotations


class _Id(str):
    """Compares, hashes and prints like its hexadecimal text."""

    __slots__ = ()

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


class JobID(_Id):
    """8 digits."""

    __slots__ = ()


class ActorID(_Id):
    """32 digits."""

    __slots__ = ()


class NodeID(_Id):
    """As `nodes()` shows it."""

    __slots__ = ()
