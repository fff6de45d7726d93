"""Connecting to another machine, which cannot be done yet."""

from __future__ import annotations

from typing import Any, NoReturn


def connect(conn_str: str, *args: Any, **kwargs: Any) -> NoReturn:
    """ConnectionError: sessions of other machines cannot be joined yet."""
    from mobula.util.client import ray

    ray.connect(conn_str)


def disconnect() -> None:
    """There is nothing to end."""


__all__ = ["connect", "disconnect"]
