"""Small things, under the names by which libraries look them up in Ray."""

from __future__ import annotations

import math
from typing import Any

from mobula._common.helpers import get_system_memory


def get_num_cpus(override_docker_cpu_warning: bool = False, truncate: bool = True) -> float:
    """CPUs that this process may use; `truncate`: whole ones."""
    from mobula import _machine

    count = _machine.cpu_count()
    return math.floor(count) if truncate else float(count)


def get_used_memory() -> int:
    """Bytes of memory that are in use."""
    from mobula import _machine

    return _machine.memory_limit_bytes() - _machine.memory_bytes()


def estimate_available_memory() -> int:
    """Bytes of memory that are free for new use."""
    from mobula import _machine

    return _machine.memory_bytes()


def get_ray_doc_version() -> str:
    """The part of an address in Ray's documentation that names the version."""
    from mobula._version import RAY_VERSION

    return f"releases-{RAY_VERSION}"


def ensure_str(text: Any, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Bytes decoded; texts as they are."""
    return text if isinstance(text, str) else text.decode(encoding, errors)


__all__ = [
    "ensure_str",
    "estimate_available_memory",
    "get_num_cpus",
    "get_ray_doc_version",
    "get_system_memory",
    "get_used_memory",
]
