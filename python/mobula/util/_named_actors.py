"""Which named actors there are."""

from __future__ import annotations

from typing import Any


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Names of all named actors that live, of this namespace; or of all, as
    {"name": ..., "namespace": ...}. RaySystemError: not connected."""
    from mobula import _core, _session, runtime_context

    _session.require_session()
    if all_namespaces:
        return [{"name": n, "namespace": space} for n, space in _core.list_actors("")]
    namespace = runtime_context.get_runtime_context().namespace
    return [name for name, _ in _core.list_actors(namespace)]
