"""What /proc says of processes: who descends from whom, their CPU time and memory, and how busy the
machine is besides."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stat:
    pid: int
    name: str
    parent: int
    own_cpu_s: float
    reaped_cpu_s: float  # Of children that ended and were waited for.


def stat_of(pid: int) -> Stat | None:
    """None: no such process any more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")  # A name may hold anything.
    fields = rest.split()
    user, system, reaped_user, reaped_system = (int(ticks) for ticks in fields[11:15])
    return Stat(
        pid=pid,
        name=name,
        parent=int(fields[1]),
        own_cpu_s=(user + system) / TICKS_PER_SECOND,
        reaped_cpu_s=(reaped_user + reaped_system) / TICKS_PER_SECOND,
    )


def tree(root: int) -> list[Stat]:
    """`root` and all its descendants that live now."""
    everyone = {
        stat.pid: stat
        for entry in os.listdir("/proc")
        if entry.isdigit() and (stat := stat_of(int(entry))) is not None
    }
    children: dict[int, list[int]] = {}
    for stat in everyone.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid in everyone:
            found.append(everyone[pid])
        waiting += children.get(pid, [])
    return found


def cpu_seconds_of_tree(root: int) -> float:
    """What `root` and all its descendants used so far, those that have ended included."""
    return sum(stat.own_cpu_s + stat.reaped_cpu_s for stat in tree(root))


@dataclass(frozen=True)
class Memory:
    pid: int
    name: str
    pss_mib: float  # A page that n processes share counts 1/n for each.
    private_mib: float


def memory_of(stat: Stat) -> Memory:
    kib = {"Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    for line in Path(f"/proc/{stat.pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, _, amount = line.partition(":")
        if key in kib:
            kib[key] = int(amount.split()[0])
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return Memory(stat.pid, stat.name, round(kib["Pss"] / 1024, 2), round(private / 1024, 2))


def busy_seconds_of_machine() -> float:
    """CPU time that all CPUs together spent on anything but idling. Stolen time is busy: somebody
    else had the CPU."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(ticks) for ticks in fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def mapping_of(address: int) -> tuple[str, str]:
    """The permissions and the name of the mapping of this process that holds `address`."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions, *rest = line.split(maxsplit=5)
        first, last = (int(edge, 16) for edge in span.split("-"))
        if first <= address < last:
            return permissions, rest[3] if len(rest) > 3 else ""
    raise ValueError(f"nothing is mapped at {address:#x}")
