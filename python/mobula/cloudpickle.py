"""The pickler of functions and classes, under the name by which Ray programs import it."""

from __future__ import annotations

from cloudpickle import (  # type: ignore[import-untyped]
    CloudPickler,
    dump,
    dumps,
    load,
    loads,
    register_pickle_by_value,
    unregister_pickle_by_value,
)

# The modules of cloudpickle are looked up in it.
__path__: list[str] = []

Pickler = CloudPickler

__all__ = [
    "CloudPickler",
    "Pickler",
    "dump",
    "dumps",
    "load",
    "loads",
    "register_pickle_by_value",
    "unregister_pickle_by_value",
]
