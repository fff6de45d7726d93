"""sys.path of workers."""

from __future__ import annotations

import os
import sys


def of_driver() -> list[str]:
    """Modules beside the script are found there whatever the worker's working directory is."""
    return [os.path.abspath(entry) if entry else os.getcwd() for entry in sys.path]


def _is_installed(entry: str) -> bool:
    return os.path.basename(entry) in ("site-packages", "dist-packages")


def with_site_packages(path: list[str], more: list[str]) -> list[str]:
    """`more` before what is installed otherwise, after the program's own modules."""
    rest = [entry for entry in path if entry not in more]
    at = next((i for i, entry in enumerate(rest) if _is_installed(entry)), len(rest))
    return [*rest[:at], *more, *rest[at:]]
