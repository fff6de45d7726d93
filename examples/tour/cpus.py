"""Who uses the CPUs of this machine: this program with all it started, or others.

A speed-up says little while other programs keep the CPUs busy, so the table of the
tour has a column for them. The kernel counts the busy time of all CPUs together
(/proc/stat) and that of each process (/proc/PID/stat). What is busy and not ours is
others', and so is time that the machine's host gave to somebody else ("steal").
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COUNTED = slice(1, 9)  # user, nice, system, idle, iowait, irq, softirq, steal: guests are in user.
IDLE = (3, 4)


@dataclass(frozen=True)
class Reading:
    """Ticks of all CPUs until now: in all, those that were busy, and those that were ours."""

    total: int
    busy: int
    ours: int


def read() -> Reading:
    total, busy = ticks_of_the_machine(Path("/proc/stat").read_text())
    return Reading(total, busy, ticks_of_a_tree(os.getpid(), _process_lines()))


def others_share(before: Reading, after: Reading) -> float:
    """The part of the machine's CPUs, 0 to 1, that others used between two readings."""
    total = after.total - before.total
    others = (after.busy - before.busy) - (after.ours - before.ours)
    # Processes are counted more finely than CPUs, so a short time can seem to hold too much.
    return min(max(others / total, 0.0), 1.0) if total > 0 else 0.0


def ticks_of_the_machine(stat: str) -> tuple[int, int]:
    """All ticks and the busy ones, of /proc/stat."""
    ticks = [int(number) for number in stat.splitlines()[0].split()[COUNTED]]
    return sum(ticks), sum(ticks) - sum(ticks[index] for index in IDLE)


def ticks_of_a_tree(root: int, lines: Iterable[str]) -> int:
    """What a process and all its descendants used, of the lines in /proc/PID/stat.

    A process that has ended is counted by the one that waited for it.
    """
    used: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for line in lines:
        # The name stands in parentheses and may hold anything, parentheses too.
        fields = line[line.rindex(")") + 2 :].split()
        pid = int(line.partition(" ")[0])
        children.setdefault(int(fields[1]), []).append(pid)
        used[pid] = sum(map(int, fields[11:15]))
    ticks, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        ticks += used.get(pid, 0)
        waiting += children.get(pid, [])
    return ticks


def _process_lines() -> Iterable[str]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                yield Path("/proc", name, "stat").read_text()
            except OSError:
                continue  # It ended meanwhile, or is hidden from us.
