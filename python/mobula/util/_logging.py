"""Saying something once."""

from __future__ import annotations

import time

_said: set[str] = set()
_state = {"disabled": False, "period": 0.0, "last": 0.0}


def log_once(key: str) -> bool:
    """True the first time it is called with `key` in this process; then False."""
    if _state["disabled"]:
        return False
    if _state["period"] and time.monotonic() - _state["last"] > _state["period"]:
        _said.clear()
        _state["last"] = time.monotonic()
    if key in _said:
        return False
    _said.add(key)
    return True


def reset_log_once(key: str | None = None) -> None:
    """`log_once` is True once more: with this key, or with each."""
    if key is None:
        _said.clear()
    else:
        _said.discard(key)


def disable_log_once_globally() -> None:
    """`log_once` is False from now on."""
    _state["disabled"] = True


def enable_periodic_logging() -> None:
    """`log_once` is True again every minute."""
    _state.update(disabled=False, period=60.0, last=time.monotonic())
