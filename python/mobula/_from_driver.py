"""What a worker knows from its driver besides what its program sees: texts under names.

They come as variables of its environment, whatever their size (`_setup_memory.py`), and are taken out
of it before anything of the user's runs: programs that a task starts need none of them.
"""

from __future__ import annotations

import os

NODE_LABELS = "MOBULA_NODE_LABELS"
RUNTIME_ENV = "MOBULA_RUNTIME_ENV"
LOGGING_CONFIG = "MOBULA_LOGGING_CONFIG"
SETUP_HOOK = "MOBULA_SETUP_HOOK"
SYS_PATH_FILE = "MOBULA_SYS_PATH_FILE"

_texts: dict[str, str] = {}


def take() -> None:
    """In a zygote, and in a worker that no zygote made."""
    for name in (NODE_LABELS, RUNTIME_ENV, LOGGING_CONFIG, SETUP_HOOK, SYS_PATH_FILE):
        _texts[name] = os.environ.pop(name, "")


def text(name: str) -> str:
    """Empty: nothing was said."""
    return _texts.get(name, "")
