"""Serializers of the user's own for classes that pickle does not know how to handle."""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_registered: dict[type, Any] = {}


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Objects of `cls` are sent as `serializer(object)` and made again by `deserializer(that)`.

    In this process only: register in tasks that send such objects, too. Both functions and what the
    serializer returns must be serializable.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer() takes a class, not {cls!r}")

    def reduce(value: Any) -> tuple[Any, ...]:
        return deserializer, (serializer(value),)

    if cls not in _registered:
        _registered[cls] = copyreg.dispatch_table.get(cls)
    copyreg.pickle(cls, reduce)


def deregister_serializer(cls: type) -> None:
    """Objects of `cls` are pickled as before `register_serializer`. Nothing if it was not called."""
    if cls not in _registered:
        return
    before = _registered.pop(cls)
    if before is None:
        copyreg.dispatch_table.pop(cls, None)
    else:
        copyreg.dispatch_table[cls] = before


__all__ = ["deregister_serializer", "register_serializer"]
