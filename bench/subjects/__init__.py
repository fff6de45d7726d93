"""What is measured, one module for each thing that is compared.

A subject is a generator function of `Settings`; `SUBJECTS` of its module names it. The code before its
first `yield` prepares and warms up; what it yields there are facts to be recorded. After that each
step makes one measurement, with the figure under "value".
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Workers import this module for its functions: what they do not need would be time of theirs.
    from bench.settings import Settings

Subject = Callable[["Settings"], Iterator[dict[str, Any]]]

# For `init` of Ray and Mobula.
QUIET: dict[str, Any] = {
    "include_dashboard": False,
    "logging_level": "error",
    "log_to_driver": False,
}


def per_second(batch: Callable[[], object], size: int, seconds: float) -> float:
    """How many operations a second `batch` does; it does `size` of them a call."""
    done = 0
    start = time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        batch()
        done += size
    return done / (now - start)


def rates(batch: Callable[[], object], size: int, settings: Settings) -> Iterator[dict[str, Any]]:
    per_second(batch, size, settings.block_s)  # Warm-up.
    yield {}
    while True:
        yield {"value": per_second(batch, size, settings.block_s)}


def work(steps: int) -> int:
    """A CPU-bound task: a fixed amount of work, so lost CPU time shows as lost time."""
    total = 0
    for step in range(steps):
        total += step * step
    return total


def run_program(program: str) -> dict[str, Any]:
    """Runs a program in a fresh interpreter; it prints its figures."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, timeout=60
    )
    return {**json.loads(done.stdout), "whole_program_s": time.perf_counter() - start}


def seconds_of_work(steps: int) -> float:
    start = time.perf_counter()
    work(steps)
    return time.perf_counter() - start
