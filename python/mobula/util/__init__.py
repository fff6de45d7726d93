"""Small things beside the core: waiting in other ways, addresses, what cannot be pickled."""

from __future__ import annotations

import importlib
from typing import Any

from mobula.util import accelerators, scheduling_strategies
from mobula.util._logging import disable_log_once_globally, enable_periodic_logging, log_once
from mobula.util._named_actors import list_named_actors
from mobula.util._waiting import as_completed, map_unordered
from mobula.util.actor_pool import ActorPool
from mobula.util.check_serialize import inspect_serializability
from mobula.util.client_connect import connect, disconnect
from mobula.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from mobula.util.serialization import deregister_serializer, register_serializer


def get_node_instance_id() -> str:
    """What a cloud calls this machine: nothing that is known here."""
    return ""


def get_node_ip_address(address: str | None = None) -> str:
    """The address of this machine as the nodes know it: loopback, while there is one machine.
    `address` is not looked at."""
    from mobula import _machine

    return _machine.address()


# Ray has imported these with the package, some under another name.
_LAZY = {
    "actor_group": "actor_group",
    "client": "client",
    "collective": "collective",
    "iter": "iter",
    "pdb": "rpdb",
    "ray_debugpy": "debugpy",
    "rpdb": "rpdb",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{_LAZY[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ActorPool",
    "accelerators",
    "as_completed",
    "connect",
    "deregister_serializer",
    "disable_log_once_globally",
    "disconnect",
    "enable_periodic_logging",
    "get_current_placement_group",
    "get_node_instance_id",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "placement_group",
    "placement_group_table",
    "register_serializer",
    "remove_placement_group",
    "scheduling_strategies",
]
