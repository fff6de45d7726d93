"""The results as JSON, with what one needs to know of the machine to compare them with others."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mobula

from bench import beside_ray, ways_in
from bench.cases import Result
from bench.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


def first_line(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def commit() -> str:
    """The commit that is measured, with "+" if the tree differs from it; "" outside a repository."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if head.returncode != 0:
        return ""
    changed = subprocess.run(
        [*git, "status", "--porcelain", "src", "python"], capture_output=True, text=True
    )
    return head.stdout.strip() + ("+" if changed.stdout else "")


def machine() -> dict[str, Any]:
    return {
        "cpu": first_line("/proc/cpuinfo", "model name") or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "mobula": mobula.__version__,
        "commit": commit(),
        "load_average": os.getloadavg(),
        "memory_available": first_line("/proc/meminfo", "MemAvailable"),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def row_record(result: Result, settings: Settings) -> dict[str, Any]:
    return {
        "name": result.row.name,
        "title": result.row.title.format(**asdict(settings)),
        "unit": result.row.unit,
        "measured": result.measured,
        "min": min(result.ours),
        "max": max(result.ours),
        "values": result.ours,
        "target": result.row.target,
        "more_is_better": result.row.more_is_better,
        "met": result.met,
        "floor": result.floor,
        "times_floor": result.times_as_good_as(result.floor),
        "pool": result.pool,
        "times_pool": result.times_as_good_as(result.pool),
        "others_cores": result.others_cores,
        "noisy": result.noisy,
    }


def row_record_beside_ray(result: beside_ray.Result, settings: Settings) -> dict[str, Any]:
    return {
        "name": result.row.name,
        "title": result.row.title.format(**asdict(settings)),
        "unit": result.row.unit,
        "measured": result.measured,
        "values": result.ours,
        "ray": result.of_ray,
        "ray_values": result.ray,
        "times_ray": result.times,
        "times_ray_target": result.row.times_ray,
        "bound": result.row.bound,
        "more_is_better": result.row.more_is_better,
        "met": result.met,
        "others_cores": result.others_cores,
        "noisy": result.noisy,
    }


def row_record_of_way_in(result: ways_in.Result) -> dict[str, Any]:
    return {
        "name": result.row.name,
        "title": result.row.title,
        "unit": "/s",
        "measured": result.measured,
        "values": result.ours,
        "target": result.row.target,
        "times_others_target": result.row.times_others,
        "met": result.met,
        "floor": result.floor,
        "times_floor": result.times_floor,
        "others": result.others,
        "times_others": result.times_others,
        "others_cores": result.others_cores,
        "noisy": result.noisy,
    }
