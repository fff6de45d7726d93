"""What the programs of the tour share: options, clocks and the report.

This module starts no task: every call of the runtime stands in the programs
themselves, so that each can be read on its own. It takes the times, keeps who
ran what when, and writes it down as JSON for the table and the picture.
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
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

WORKERS_TIMEOUT_S = 180
TIMELINE_TIMEOUT_S = 30
POLL_S = 0.05
BAR = {
    "ncols": 76,
    "bar_format": "  {desc:<9}{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}]",
}


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
        self._serial: list[tuple[float, float]] = []
        self._parallel_began: tuple[float, float] = (0.0, 0.0)

    def say(self, text: str) -> None:
        print(f"{self.program}: {text}", flush=True)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a phase. Prints go above the progress bar instead of through it."""
        if name == "parallel":
            self._parallel_began = (time.time(), time.monotonic())
        began = time.perf_counter()
        with contextlib.redirect_stdout(_AboveTheBar(sys.stdout)):
            yield
        self._phases[name] = time.perf_counter() - began

    def serially(self, items: Iterable[Item]) -> Iterator[Item]:
        """Hands out the items one by one behind a progress bar and notes how long each took."""
        first = None
        for item in tqdm(list(items), desc="serial", **BAR):
            began = time.perf_counter()
            first = began if first is None else first
            yield item
            self._serial.append((began - first, time.perf_counter() - first))

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
        results_agree: bool,
        function: str,
        timeline: Callable[[], list[dict[str, Any]]],
        details: dict[str, Any] | None = None,
    ) -> None:
        """Prints and writes the report. Ends the program with status 1 where results differ.

        `function` is the task whose runs in the timeline are this program's work.
        """
        events = _complete_timeline(timeline, function, tasks)
        serial_s, parallel_s = self._phases["serial"], self._phases["parallel"]
        record = {
            "program": self.program,
            "quick": self.quick,
            "tasks": tasks,
            "serial_s": serial_s,
            "parallel_s": parallel_s,
            "speedup": serial_s / parallel_s,
            "results_agree": results_agree,
            "cpus": cpus,
            "init_s": self._phases["init"],
            "warm_up_s": self._phases["warm-up"],
            "python": platform.python_version(),
            "details": details or {},
            "serial": [{"start_s": start, "end_s": end} for start, end in self._serial],
            "parallel": _task_spans(events, function, self._parallel_began),
        }
        if self._json_file:
            Path(self._json_file).write_text(json.dumps(record, indent=1) + "\n")
        if self._trace_file:
            Path(self._trace_file).write_text(json.dumps(events))
        self.say(
            f"serial {serial_s:.2f} s, parallel {parallel_s:.2f} s, "
            f"{record['speedup']:.2f} times as fast; "
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
    """The events, once the program's tasks are all there: workers may report in batches."""
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
    events: list[dict[str, Any]], function: str, began: tuple[float, float]
) -> list[dict[str, Any]]:
    """Who ran what when, in seconds since the parallel part began.

    Trace times are microseconds, of the wall clock or of the monotonic one: `began` is the same
    moment on both, and only one of them is anywhere near the trace.
    """
    tasks = sorted(
        (event for event in events if _is_task(event, function)), key=lambda event: event["ts"]
    )
    origin = min(began, key=lambda moment: abs(tasks[0]["ts"] / 1e6 - moment))
    return [
        {
            "worker": f"{event['pid']} {event['tid']}",
            "start_s": event["ts"] / 1e6 - origin,
            "end_s": (event["ts"] + event["dur"]) / 1e6 - origin,
        }
        for event in tasks
    ]
