"""How processes are called, in `ps` and in errors: "mobula::name"."""

from __future__ import annotations

import os

from mobula import _core


def title_prefix() -> str:
    """What stands before names; $MOBULA_PROCTITLE_PREFIX changes it."""
    return os.environ.get("MOBULA_PROCTITLE_PREFIX", "mobula::")


def name_process(title: str, short: str) -> None:
    """title: for `ps`, behind the prefix. short: for `top`, at most 15 characters."""
    _core.set_process_title(title, short)
