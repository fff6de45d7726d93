"""What this machine offers to this process: CPUs, memory, GPUs, its name and address.

Reads /proc and the cgroup file system only; asks nobody.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # cgroup v1 writes a number near 2**63 for "no limit".

# What a new session does not hand out as the resource "memory".
_STORE_SHARE = 0.3
_STORE_BYTES_MAX = 200 * 10**9


def cpu_count() -> int:
    """CPUs this process may use: its affinity, and the CPU quota of its cgroup (rounded up)."""
    count = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def memory_bytes() -> int:
    """Memory that is free for new use now, within the limits of this process's cgroup."""
    available = _meminfo("MemAvailable")
    for limit, used in _memory_limits():
        available = min(available, max(0, limit - used))
    return available


def memory_limit_bytes() -> int:
    """Memory that there is, within the limits of this process's cgroup."""
    return min([_meminfo("MemTotal"), *(limit for limit, _ in _memory_limits())])


def default_store_bytes() -> int:
    """Size of the object store if nobody says: 30 % of `memory_bytes()`, at most 200 GB."""
    return min(int(memory_bytes() * _STORE_SHARE), _STORE_BYTES_MAX)


def gpu_ids() -> list[str]:
    """The NVIDIA GPUs that programs started from here would see, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        # CUDA stops at the first invalid entry; "-1" and "" hide all that follow.
        shown: list[str] = []
        for name in names:
            if name in ("", "-1", "NoDevFiles"):
                break
            shown.append(name)
        return shown
    devices = [name for name in os.listdir("/dev") if name.startswith("nvidia")]
    return [str(i) for i in range(sum(name[6:].isdigit() for name in devices))]


def address() -> str:
    """The address of this machine in its own eyes: nothing of a private session listens beyond it."""
    return "127.0.0.1"


HEAD_RESOURCE = "node:__internal_head__"


def node_resource() -> str:
    """The resource of which only this node has some: who asks for a little of it runs here."""
    return "node:" + address()


def is_of_one_node(resource: str) -> bool:
    """Does a resource only say which node it is?"""
    return resource in (HEAD_RESOURCE, node_resource())


def _meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cpu_quota() -> float | None:
    """CPUs per period, the smallest from this process's cgroup up; None without one."""
    quotas = []
    for folder in _cgroup_folders(""):
        words = _words(folder / "cpu.max")
        if len(words) == 2 and words[0] != "max":
            quotas.append(int(words[0]) / int(words[1]))
    for folder in _cgroup_folders("cpu"):
        quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        if quota and period and int(quota[0]) > 0:
            quotas.append(int(quota[0]) / int(period[0]))
    return min(quotas, default=None)


def _memory_limits() -> Iterator[tuple[int, int]]:
    """(limit, in use) in bytes of each cgroup that limits this process."""
    for folder in _cgroup_folders(""):
        limit, used = _words(folder / "memory.max"), _words(folder / "memory.current")
        if limit and used and limit[0] != "max":
            yield int(limit[0]), int(used[0])
    for folder in _cgroup_folders("memory"):
        limit = _words(folder / "memory.limit_in_bytes")
        used = _words(folder / "memory.usage_in_bytes")
        if limit and used and int(limit[0]) < _NO_LIMIT:
            yield int(limit[0]), int(used[0])


def _cgroup_folders(controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and its parents; `controller` "" means cgroup v2."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if controller:
            if controller not in controllers.split(","):
                continue
            root = _CGROUP_ROOT / controllers
            if not root.is_dir():
                root = _CGROUP_ROOT / controller
        else:
            if number != "0":
                continue
            root = _CGROUP_ROOT / "unified"
            if not root.is_dir():
                root = _CGROUP_ROOT
        folder = root / path.lstrip("/")
        if not folder.is_dir():
            folder = root  # In a container /sys/fs/cgroup often is the group itself.
        while True:
            yield folder
            if folder == root or root not in folder.parents:
                break
            folder = folder.parent


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
