"""What Ray asks before each call, whether it is a client's. There are no clients here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

is_client_mode_enabled = False
is_client_mode_enabled_by_default = False


def client_mode_hook(func: _F) -> _F:
    """The function as it is."""
    return func


def client_mode_should_convert() -> bool:
    """Is this process a client?"""
    return False


@contextmanager
def disable_client_hook() -> Iterator[None]:
    """In this block nothing is a client's."""
    yield


@contextmanager
def enable_client_mode() -> Iterator[None]:
    """NotImplementedError: there is no server of clients."""
    raise NotImplementedError(
        "Ray Client is for sessions of other machines, which cannot be joined yet."
    )
    yield
