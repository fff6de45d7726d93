"""Runs one program under one engine, in processes that all end with it.

Every process that a program starts inherits a mark in its environment, so that what it leaves running
is found and ended, whatever the engine calls it. Its files go to a folder that is removed. Ray gets a
network of its own with nothing but loopback in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

ENGINES = ("ray", "mobula")
ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "oracle" / "programs"
LOOPBACK = ROOT / "oracle" / "loopback.py"
MARK_VARIABLE = "ORACLE_RUN"
KILL_SECONDS_MAX = 30.0
OUTPUT_LINES_SHOWN = 30
# No case may take nearly as long, and no engine to start.
SILENCE_SECONDS_MAX = 150.0
# Of a case that brings Ray down.
TRIES_MAX = 2
ENDED_WELL = "the driver ended with status 0"


def interpreter(engine: str) -> Path:
    """The Python that has `engine`."""
    return ROOT / {"ray": ".venv-ray", "mobula": ".venv"}[engine] / "bin" / "python"


def run_program(
    program: Path, engine: str, part: str, seconds_max: float, remarks: list[str]
) -> dict[str, dict[str, Any]]:
    """The outcomes of the cases of `program` whose names contain `part`, by name.

    A case may bring the program down, or hang, and so may the engine before it gets to any. The
    program is run again then with the cases that are left. Where that happens for the second time,
    it is the outcome of the case; with Mobula the first time counts. All of it takes at most
    `seconds_max`. What went wrong is told in `remarks`."""
    outcomes: dict[str, dict[str, Any]] = {}
    tries_max = TRIES_MAX if engine == "ray" else 1
    failures: dict[str, int] = {}
    deadline = time.monotonic() + seconds_max
    while True:
        records, end = _run_once(program, engine, part, list(outcomes), deadline)
        begun = [record for record in records if "begins" in record]
        over = {record.pop("name"): record for record in records if "name" in record}
        outcomes |= over
        cut_off = [record for record in begun if record["begins"] not in over]
        for record in cut_off:
            name = record["begins"]
            failures[name] = failures.get(name, 0) + 1
            remarks.append(f"{program.stem} under {engine}: {end} in {name} (try {failures[name]})")
            if failures[name] >= tries_max:
                died = {"differs": record["differs"], "compared": end, "message": ""}
                outcomes[name] = {**died, "seconds": 0.0}
        if not begun and end != ENDED_WELL:
            failures[""] = failures.get("", 0) + 1
            remarks.append(f"{program.stem} under {engine}: {end}, before any case ran")
        if time.monotonic() > deadline:
            remarks.append(f"{program.stem} under {engine}: given up after {seconds_max:.0f} s")
            return outcomes
        may_try_again = bool(cut_off) or (not begun and failures.get("", 0) < TRIES_MAX)
        if end == ENDED_WELL or not may_try_again:
            return outcomes


def _run_once(
    program: Path, engine: str, part: str, done: list[str], deadline: float
) -> tuple[list[dict[str, Any]], str]:
    """What the program wrote, and how it ended, in words."""
    mark = uuid.uuid4().hex
    folder = Path(tempfile.mkdtemp(prefix="oracle-"))
    results = folder / "results"
    output = folder / "output"
    environment = _environment(engine, mark, folder) | {
        "ORACLE_RESULTS": str(results),
        "ORACLE_CASES": part,
        "ORACLE_DONE": ",".join(done),
    }
    try:
        with open(output, "wb") as file:
            process = subprocess.Popen(
                [*_prefix(engine), str(interpreter(engine)), str(program)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = _wait(process, results, deadline)
                end = (
                    "the driver hung"
                    if status is None
                    else f"the driver ended with status {status}"
                )
            finally:
                end_marked(mark)
                process.wait()
        if process.returncode != 0:
            _complain(f"{program.stem} under {engine}: {end}", output)
        lines = results.read_text().splitlines() if results.exists() else []
        return [json.loads(line) for line in lines], end
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], results: Path, deadline: float) -> int | None:
    """The exit status. None: it has gone on for too long, in all or without a new result."""
    size = 0
    seen = time.monotonic()
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
        size_now = results.stat().st_size if results.exists() else 0
        if size_now != size:
            size, seen = size_now, time.monotonic()
        if time.monotonic() > seen + SILENCE_SECONDS_MAX:
            return None
    return None


def _prefix(engine: str) -> list[str]:
    """What goes before the command. Mobula listens on no network and needs nothing."""
    return [sys.executable, str(LOOPBACK)] if engine == "ray" else []


def _environment(engine: str, mark: str, folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MOBULA_", "ORACLE_", "PYTHON", "CUDA_"))
    }
    path = [str(ROOT)] + ([str(ROOT / "python")] if engine == "mobula" else [])
    return {
        **kept,
        MARK_VARIABLE: mark,
        "ORACLE_ENGINE": engine,
        "ORACLE_TEMP": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "RAY_DEDUP_LOGS": "0",
    }


def _complain(what: str, output: Path) -> None:
    print(f"oracle: {what}. The end of its output:", file=sys.stderr)
    for line in output.read_text(errors="replace").splitlines()[-OUTPUT_LINES_SHOWN:]:
        print(f"  | {line}", file=sys.stderr)


def marked(mark: str) -> list[int]:
    """The processes that carry `mark` in their environment. The dead among them are not counted."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found


def end_marked(mark: str) -> None:
    """Kills what carries `mark`, again and again until nothing does. TimeoutError: something stays."""
    deadline = time.monotonic() + KILL_SECONDS_MAX
    while pids := marked(mark):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {pids} do not end")
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
