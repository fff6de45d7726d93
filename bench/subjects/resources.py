"""CPU time and memory of this process and of those below it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from bench import processes


def memory_below_this_process() -> dict[str, Any]:
    """The memory of all descendants; this process is the user's program and does not count."""
    everyone = [
        processes.memory_of(stat) for stat in processes.tree(os.getpid()) if stat.pid != os.getpid()
    ]
    if not everyone:
        raise RuntimeError("there are no processes below this one")
    return {
        "value": sum(one.pss_mib for one in everyone),
        "private_mib": sum(one.private_mib for one in everyone),
        "processes": [asdict(one) for one in everyone],
    }


def cpu_percent(wait: Callable[[], object]) -> dict[str, Any]:
    """CPU time of this process and its descendants while wait() runs, in percent of a core."""
    before = {stat.pid: stat for stat in processes.tree(os.getpid())}
    start = time.perf_counter()
    wait()
    seconds = time.perf_counter() - start
    used = {
        f"{stat.name}:{stat.pid}": stat.own_cpu_s
        - (before[stat.pid].own_cpu_s if stat.pid in before else 0.0)
        for stat in processes.tree(os.getpid())
    }
    percent = {name: 100 * cpu_s / seconds for name, cpu_s in used.items()}
    return {"value": sum(percent.values()), "percent_by_process": percent}
