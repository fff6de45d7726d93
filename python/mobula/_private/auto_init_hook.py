"""The session that the first call starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mobula._session import auto_init, is_initialized

_F = TypeVar("_F", bound=Callable[..., Any])


def auto_init_ray() -> None:
    """Starts a session, or joins one, if this process has none and may have one."""
    if not is_initialized():
        auto_init()


def wrap_auto_init(fn: _F) -> _F:
    """The function as it is: what needs a session here starts one itself."""
    return fn
