"""What tests of actors have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

DEADLINE_SECONDS = 60.0


def wait_until(condition: Callable[[], object]) -> None:
    """Fails after a deadline that only a bug reaches."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
