"""Which named actors there are."""

from __future__ import annotations

from typing import Any


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Names of all named actors that live, of this namespace; or of all, as
    {"name": ..., "namespace": ...}. RaySystemError: not connected."""
    from mobula import actor

    return actor.list_named_actors(all_namespaces)
