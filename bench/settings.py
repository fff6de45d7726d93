"""How much to measure. One value, chosen on the command line, goes to all subjects."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Settings:
    quick: bool = False
    workers: int = 2
    repeats: int = 7
    block_s: float = 0.4  # One measurement of a rate takes this long.
    array_mib: int = 100
    wait_s: float = 10.0
    wait_repeats: int = 3
    cpu_tasks: int = 1000
    cpu_task_ms: float = 2.0
    nested_tasks: int = 2_000  # Of each parent.
    queued: int = 1_000_000
    queued_in_ray: int = 20_000  # Ray takes minutes for a million.
    beside_repeats: int = 5
    queued_repeats: int = 3
    spill_store_mib: int = 200
    spilled_mib: int = 2048
    cpu_task_steps: int = 0  # So many steps of work take cpu_task_ms here; measured before use.

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Settings:
        return Settings(**json.loads(text))


QUICK = Settings(
    quick=True,
    repeats=2,
    block_s=0.05,
    array_mib=16,
    wait_s=1.0,
    wait_repeats=1,
    cpu_tasks=100,
    nested_tasks=100,
    queued=20_000,
    spill_store_mib=80,
    spilled_mib=320,
    queued_in_ray=2_000,
    beside_repeats=1,
    queued_repeats=1,
)
