"""What the programs of the tour share: options, clocks and the report.

This module starts no task: every call of the runtime stands in the programs
themselves, so that each can be read on its own. It lets the serial and the parallel
run take turns, takes the times, keeps who ran what when, and writes it down as JSON
for the table and the picture.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar

import cpus
from tqdm import tqdm

Item = TypeVar("Item")

ROUNDS = 3  # Odd: one of them is in the middle.
WORKERS_TIMEOUT_S = 180
TIMELINE_TIMEOUT_S = 30
POLL_S = 0.05
BAR = {
    "ncols": 76,
    "bar_format": "  {desc:<9}{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}]",
}


@dataclass
class Round:
    """One turn of the serial and of the parallel run."""

    times: dict[str, float] = field(default_factory=dict)
    serial: list[tuple[float, float]] = field(default_factory=list)
    parallel_began: tuple[float, float] = (0.0, 0.0)  # On the wall clock and the monotonic one.
    results_agree: bool = False

    @property
    def speedup(self) -> float:
        return self.times["serial"] / self.times["parallel"]


def middle(rounds: list[Round]) -> int:
    """Which round is in the middle by its speed-up. A round is compared with no other's times."""
    return sorted(range(len(rounds)), key=lambda index: rounds[index].speedup)[len(rounds) // 2]


class Measurement:
    """One program's run: its options, its times and what became of it."""

    def __init__(self, program: str, purpose: str) -> None:
        parser = argparse.ArgumentParser(prog=program, description=purpose.splitlines()[0])
        parser.add_argument(
            "--quick", action="store_true", help="small inputs: a few seconds in all"
        )
        parser.add_argument("--json", metavar="FILE", help="write the measurements here")
        parser.add_argument(
            "--trace", metavar="FILE", help="write the timeline here, as a Chrome trace"
        )
        options = parser.parse_args()
        self.program = program
        self.quick: bool = options.quick
        self._json_file = options.json
        self._trace_file = options.trace
        self._phases: dict[str, float] = {}
        self._rounds: list[Round] = []
        self._others_share = 0.0

    def say(self, text: str) -> None:
        print(f"{self.program}: {text}", flush=True)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a phase. Prints go above the progress bar instead of through it."""
        times = self._rounds[-1].times if self._rounds else self._phases
        if name == "parallel":
            self._rounds[-1].parallel_began = (time.time(), time.monotonic())
        began = time.perf_counter()
        with contextlib.redirect_stdout(_AboveTheBar(sys.stdout)):
            yield
        times[name] = time.perf_counter() - began

    def rounds(self, count: int = ROUNDS) -> Iterator[int]:
        """The numbers of the rounds. In each the program runs serially, then in parallel.

        So what else happens on the machine meets both, and what only the first run pays, such as
        memory that the machine has never used, is not all on one side.
        """
        before = cpus.read()
        for number in range(1, count + 1):
            self._rounds.append(Round())
            yield number
        self._others_share = cpus.others_share(before, cpus.read())

    def compare(self, results_agree: bool) -> None:
        """Notes whether both runs of this round gave the same."""
        self._rounds[-1].results_agree = results_agree

    def serially(self, items: Iterable[Item]) -> Iterator[Item]:
        """Hands out the items one by one behind a progress bar and notes how long each took."""
        first = None
        for item in tqdm(list(items), desc="serial", **BAR):
            began = time.perf_counter()
            first = began if first is None else first
            yield item
            self._rounds[-1].serial.append((began - first, time.perf_counter() - first))

    def until_every_worker_answers(self, workers: int, ask: Callable[[], Iterable[int]]) -> None:
        """Asks for process ids, a round at a time, until that many different workers answered."""
        seen: set[int] = set()
        deadline = time.monotonic() + WORKERS_TIMEOUT_S
        while len(seen) < workers:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"only {len(seen)} of {workers} workers answered in {WORKERS_TIMEOUT_S} s"
                )
            seen.update(ask())

    def finish(
        self,
        *,
        tasks: int,
        cpus: float,
        function: str,
        timeline: Callable[[], list[dict[str, Any]]],
        details: dict[str, Any] | None = None,
    ) -> None:
        """Prints and writes the report. Ends the program with status 1 where results differ.

        `function` is the task whose runs in the timeline are this program's work. The times are
        those of one round, the middle one.
        """
        events = _complete_timeline(timeline, function, tasks * len(self._rounds))
        chosen = middle(self._rounds)
        shown = self._rounds[chosen]
        speedups = [round.speedup for round in self._rounds]
        results_agree = all(round.results_agree for round in self._rounds)
        record = {
            "program": self.program,
            "quick": self.quick,
            "tasks": tasks,
            "serial_s": shown.times["serial"],
            "parallel_s": shown.times["parallel"],
            "speedup": shown.speedup,
            "speedup_of_each_round": speedups,
            "results_agree": results_agree,
            "others_share": self._others_share,
            "cpus": cpus,
            "init_s": self._phases["init"],
            "warm_up_s": self._phases["warm-up"],
            "python": platform.python_version(),
            "details": details or {},
            "serial": [{"start_s": start, "end_s": end} for start, end in shown.serial],
            "parallel": _task_spans(events, function, tasks, chosen, shown.parallel_began),
        }
        if self._json_file:
            Path(self._json_file).write_text(json.dumps(record, indent=1) + "\n")
        if self._trace_file:
            Path(self._trace_file).write_text(json.dumps(events))
        self.say(
            f"serial {record['serial_s']:.2f} s, parallel {record['parallel_s']:.2f} s, "
            f"{shown.speedup:.2f} times as fast "
            f"({min(speedups):.2f} to {max(speedups):.2f} in {len(speedups)} rounds); "
            f"the results {'agree' if results_agree else 'DIFFER'}"
        )
        self.say(
            f"before that: init {record['init_s']:.2f} s, "
            f"workers and imports {record['warm_up_s']:.2f} s"
        )
        if not results_agree:
            sys.exit(1)


class _AboveTheBar(io.TextIOBase):
    """Writes whole lines to a stream, above the progress bar if one is shown.

    Threads: any. What workers print is written by a thread of the runtime.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            lines, newline, self._started = (self._started + text).rpartition("\n")
            if newline:
                with tqdm.external_write_mode(file=sys.stderr):
                    self._stream.write(lines + newline)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


def _complete_timeline(
    timeline: Callable[[], list[dict[str, Any]]], function: str, tasks: int
) -> list[dict[str, Any]]:
    """The events, once that many tasks are there: workers may report in batches."""
    deadline = time.monotonic() + TIMELINE_TIMEOUT_S
    while True:
        events = timeline()
        found = sum(1 for event in events if _is_task(event, function))
        if found >= tasks:
            return events
        if time.monotonic() > deadline:
            raise TimeoutError(f"the timeline holds {found} of {tasks} runs of {function}")
        time.sleep(POLL_S)


def _is_task(event: dict[str, Any], function: str) -> bool:
    """Whether this is a whole run of the function, not a step of one such as storing the result."""
    return event.get("ph") == "X" and str(event.get("name", "")).rpartition(".")[2] == function


def _task_spans(
    events: list[dict[str, Any]], function: str, count: int, part: int, began: tuple[float, float]
) -> list[dict[str, Any]]:
    """Who ran what when in one round, in seconds since its parallel run began.

    A round has `count` tasks, and none begins before the one ahead of it has ended.

    Trace times are microseconds, of the wall clock or of the monotonic one: `began` is the same
    moment on both, and only one of them is anywhere near the trace.
    """
    tasks = sorted(
        (event for event in events if _is_task(event, function)), key=lambda event: event["ts"]
    )[part * count : (part + 1) * count]
    origin = min(began, key=lambda moment: abs(tasks[0]["ts"] / 1e6 - moment))
    return [
        {
            "worker": f"{event['pid']} {event['tid']}",
            "start_s": event["ts"] / 1e6 - origin,
            "end_s": (event["ts"] + event["dur"]) / 1e6 - origin,
        }
        for event in tasks
    ]
