"""Runs subjects in interpreters of their own and takes measurements from them in turns."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import processes
from bench.settings import Settings
from oracle.engines import LOOPBACK, MARK_VARIABLE, end_marked, interpreter

ROOT = Path(__file__).resolve().parents[1]
# The module of the subjects that run in the virtual environment of the real Ray.
RAY_ITSELF = "ray_itself"
STEP_SECONDS_MAX = 120.0

Measurement = dict[str, Any]


class SubjectFailed(Exception):
    pass


def ray_is_there() -> bool:
    return interpreter("ray").exists()


class Running:
    """A subject in its own interpreter. `facts`: what it told before its first measurement."""

    def __init__(self, module: str, name: str, settings: Settings) -> None:
        self.name = f"{module} {name}"
        self._mark = uuid.uuid4().hex
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        command = ["-m", "bench.subjects", module, name, settings.to_json()]
        environment = {**os.environ, MARK_VARIABLE: self._mark}
        if module == RAY_ITSELF:
            # Ray listens on all addresses: it gets a network with nothing but loopback.
            command = [str(LOOPBACK), str(interpreter("ray")), *command]
            environment |= {
                "RAY_TMPDIR": str(self._folder),
                "RAY_USAGE_STATS_ENABLED": "0",
                "PYTHONPATH": str(ROOT),
            }
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the runner, which ends its subjects itself.
        )

    def ask(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # answer() then says how it ended.
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def answer(self) -> Measurement:
        assert self._process.stdout is not None
        deadline = time.monotonic() + STEP_SECONDS_MAX
        line = b""
        while not line.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                raise SubjectFailed(f"{self.name}: no answer in {STEP_SECONDS_MAX:.0f} s")
            read = os.read(self._process.stdout.fileno(), 1 << 16)
            if not read:
                raise SubjectFailed(f"{self.name}: ended with status {self._process.wait()}")
            line += read
        answer: Measurement = json.loads(line)
        return answer

    def step(self) -> Measurement:
        self.ask()
        return self.answer()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()  # Its session sees that it is gone.
            self._process.wait()
        self._process.stdout.close()
        end_marked(self._mark)
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass
class Load:
    """What everybody else did to the machine while a case ran."""

    seconds: float = 0.0
    others_cpu_s: float = 0.0

    @property
    def others_cores(self) -> float:
        return self.others_cpu_s / self.seconds if self.seconds else 0.0

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        start = time.perf_counter()
        machine, ours = processes.busy_seconds_of_machine(), own_cpu_seconds()
        yield
        busy = processes.busy_seconds_of_machine() - machine
        self.others_cpu_s += max(0.0, busy - (own_cpu_seconds() - ours))
        self.seconds += time.perf_counter() - start


def own_cpu_seconds() -> float:
    return processes.cpu_seconds_of_tree(os.getpid())


@dataclass
class Taken:
    """All measurements of one case, by subject module."""

    facts: dict[str, Measurement] = field(default_factory=dict)
    measurements: dict[str, list[Measurement]] = field(default_factory=dict)
    load: Load = field(default_factory=Load)

    def raw(self, settings: Settings) -> dict[str, Any]:
        """Everything that was measured, and how."""
        return {
            "settings": settings,
            "facts_then_measurements": {
                module: [self.facts[module], *measurements]
                for module, measurements in self.measurements.items()
            },
        }


def take(
    modules: Sequence[str], name: str, repeats: int, settings: Settings, *, at_once: bool = False
) -> Taken:
    """Measures the subject `name` of each module `repeats` times, in turns; `at_once`: all subjects at
    the same time, for those that only wait."""
    taken = Taken()
    with contextlib.ExitStack() as stack:
        running = {}
        for module in modules:
            running[module] = Running(module, name, settings)
            stack.callback(running[module].close)
            taken.facts[module] = running[module].step()
            taken.measurements[module] = []
        with taken.load.measured():
            for _ in range(repeats):
                for module, subject in running.items():
                    subject.ask()
                    if not at_once:
                        taken.measurements[module].append(subject.answer())
                for module, subject in running.items():
                    if at_once:
                        taken.measurements[module].append(subject.answer())
    return taken
