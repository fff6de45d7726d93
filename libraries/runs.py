"""Runs a case in one way and tells what passed.

A run has a folder of its own for its files, a process group of its own, and a limit. Every process that
it starts carries a mark in its environment; what is still there some seconds after its program has
ended is told and killed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import uuid
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from libraries import environments
from libraries.case_files import PROGRAMS, Case, Run
from libraries.ways import Way, bound_cpus, network_prefix, variables
from oracle.engines import end_marked, marked

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
# Both systems need a moment after their driver has ended.
ENDING_SECONDS_MAX = 15.0
MESSAGE_LENGTH_MAX = 300
OUTPUT_BYTES_KEPT = 400_000
# Of all that programs of this machine put into /dev/shm meanwhile.
OURS = re.compile("mobula|plasma")
PYTEST_ENDED = (0, 1)  # All passed; some failed.
CHECK = re.compile(r"(ok|FAILED) ([^:\n]+)(?:: (.*))?")
END_OF_CHECKS = "all checks were made"
PYTEST_OPTIONS = ("-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "junit_family=xunit1")


@dataclass
class Result:
    """Of a case in one way."""

    # {test or check: (PASSED and so on, the first line of why)}
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    seconds: float = 0.0
    troubles: list[str] = field(default_factory=list)  # Anything but an outcome: died, hung, left.

    def as_json(self) -> dict[str, Any]:
        return {
            "outcomes": {name: list(outcome) for name, outcome in self.outcomes.items()},
            "seconds": round(self.seconds, 2),
            "troubles": self.troubles,
        }

    @staticmethod
    def from_json(said: dict[str, Any]) -> Result:
        outcomes = {name: (status, why) for name, (status, why) in said["outcomes"].items()}
        return Result(outcomes, said["seconds"], said["troubles"])


def run_case(case: Case, way: Way, python: Path, outputs: Path) -> Result:
    """All runs of the case, one after the other, in at most `case.seconds_max` together."""
    result = Result()
    for number, run in enumerate(case.runs):
        mark = uuid.uuid4().hex
        folder = Path(tempfile.mkdtemp(prefix="libraries-"))
        output = outputs / f"{case.library}-{way.name}-{number}.txt"
        try:
            _run(_Place(case, run, way, python, folder, mark, output), result)
        except BaseException:
            end_marked(mark)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Place:
    """One run, and where it takes place."""

    case: Case
    run: Run
    way: Way
    python: Path
    folder: Path
    mark: str
    output: Path

    @property
    def report(self) -> Path:
        return self.folder / "report.xml"

    @property
    def title(self) -> str:
        return self.run.program or self.run.example or "pytest"


def _run(place: _Place, result: Result) -> None:
    for name in ("home", "run", "work"):
        (place.folder / name).mkdir(mode=0o700)
    command = [*network_prefix(), str(place.python), *place.way.launcher, *_command(place)]
    before = set(os.listdir("/dev/shm"))
    begun = time.monotonic()
    with open(place.output, "wb") as file:
        process = subprocess.Popen(
            command,
            cwd=place.folder / "work",
            env=variables(place.python, place.folder, place.mark, place.case.variables),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=bound_cpus,
        )
        try:
            status: int | None = process.wait(max(0.0, place.case.seconds_max - result.seconds))
        except subprocess.TimeoutExpired:
            status = None
        result.seconds += time.monotonic() - begun
        left = _left_behind(place, status is not None, before)
        try:
            end_marked(place.mark)
        except TimeoutError as error:
            left.append(str(error))
        process.wait()
    if left:
        result.troubles.append(f"{place.title} left behind: {'; '.join(left)}")
    printed = _printed(place.output)
    if status is None:
        result.troubles.append(f"{place.title} was ended after {place.case.seconds_max:.0f} s")
    if place.run.pytest:
        _count_tests(place, status, result)
    elif place.run.program:
        _count_checks(place, status, printed, result)
    elif status is not None:
        last = (printed.strip().splitlines() or [""])[-1]
        result.outcomes[place.run.example] = (
            (PASSED, "") if status == 0 else (FAILED, last[:MESSAGE_LENGTH_MAX])
        )


def _command(place: _Place) -> list[str]:
    """What the interpreter is told to run; puts there what it needs."""
    run, work = place.run, place.folder / "work"
    if run.program:
        # Under another name, and alone: a program called as a library hides it.
        for path in (*PROGRAMS.glob("_*.py"), PROGRAMS / run.program):
            shutil.copy(path, work / _name_of_copy(path))
        return [_name_of_copy(Path(run.program)), *run.arguments]
    if run.source == "sdist":
        archive = environments.sdist(place.case.library, place.case.version, run.sdist, run.sha256)
        unpack(archive, work)
        packages = environments.site_packages(environments.base_of(place.case.environment))
        needed = [run.example, *run.pytest]
        for name in (*run.without, *top_level(packages, place.case.library)):
            if not any(word == name or word.startswith(f"{name}/") for word in needed):
                remove(work / name)
    if run.example:
        return [run.example, *run.arguments]
    return ["-m", "pytest", *PYTEST_OPTIONS, f"--junitxml={place.report}", *run.pytest]


def _name_of_copy(path: Path) -> str:
    return path.name if path.name.startswith("_") else f"example_of_{path.name}"


def unpack(archive: Path, work: Path) -> None:
    """The contents of the one folder that an sdist has."""
    inside = work.parent / "unpacked"
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(inside)
    else:
        with tarfile.open(archive) as packed_tar:
            packed_tar.extractall(inside, filter="data")
    (top,) = inside.iterdir()
    for path in top.iterdir():
        path.rename(work / path.name)


def top_level(packages: Path, library: str) -> list[str]:
    """The packages that a distribution installs: tests are to find these, not the ones beside them."""
    for folder in packages.glob("*.dist-info"):
        name = folder.name.removesuffix(".dist-info").rpartition("-")[0]
        if environments.normal(name) == environments.normal(library):
            record = (folder / "RECORD").read_text()
            tops = {line.split("/")[0] for line in record.splitlines() if "/" in line}
            return sorted(top for top in tops if re.fullmatch(r"\w+", top))
    return []


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _printed(output: Path) -> str:
    printed = output.read_bytes()
    if len(printed) > OUTPUT_BYTES_KEPT:
        printed = printed[-OUTPUT_BYTES_KEPT:]
        output.write_bytes(printed)
    return printed.decode(errors="replace")


def _left_behind(place: _Place, ended: bool, before: set[str]) -> list[str]:
    """What outlives the program, described. Nothing is said of one that was ended."""
    if not ended:
        return []
    deadline = time.monotonic() + ENDING_SECONDS_MAX
    while (pids := marked(place.mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [f"process {_command_line(pid)}" for pid in pids]
    shared = sorted(name for name in set(os.listdir("/dev/shm")) - before if OURS.search(name))
    left += [f"/dev/shm/{name}" for name in shared]
    left += [f"session {path.name}" for path in (place.folder / "run").glob("*mobula*/*")]
    return left


def _command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "(ended)"
    return b" ".join(words).decode(errors="replace").strip()[:100]


def _count_tests(place: _Place, status: int | None, result: Result) -> None:
    if status is not None and status not in PYTEST_ENDED:
        result.troubles.append(f"pytest ended with status {status}")
    if place.report.exists():
        result.outcomes |= read_junit(place.report.read_text())


def read_junit(text: str) -> dict[str, tuple[str, str]]:
    """The outcomes of tests by their ids, as pytest prints these."""
    outcomes = {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error")]
        skipped = [child for child in case if child.tag == "skipped"]
        status = FAILED if bad else SKIPPED if skipped else PASSED
        lines = " ".join(child.get("message", "") for child in (*bad, *skipped)).splitlines()
        why = lines[0][:MESSAGE_LENGTH_MAX] if lines else ""
        outcomes[_test_id(case)] = (status, why)
    return outcomes


def _test_id(case: ElementTree.Element) -> str:
    name, classes = case.get("name", ""), case.get("classname", "").split(".")
    file = case.get("file", "").rpartition("site-packages/")[2]
    if not file:
        return "::".join([".".join(classes), name]).strip(":")
    stem = Path(file).stem
    # Without the path in it, if the file lies outside of pytest's root folder.
    inside = classes[len(classes) - classes[::-1].index(stem) :] if stem in classes else classes
    return "::".join([file, *filter(None, inside), name])


def _count_checks(place: _Place, status: int | None, printed: str, result: Result) -> None:
    checks = read_checks(printed)
    for name, outcome in checks.items():
        result.outcomes[f"{place.run.program}::{name}"] = outcome
    failed = any(outcome[0] == FAILED for outcome in checks.values())
    if status is not None and (status != int(failed) or END_OF_CHECKS not in printed):
        last = (printed.strip().splitlines() or [""])[-1][:MESSAGE_LENGTH_MAX]
        result.troubles.append(f"{place.title} ended with status {status}: {last}")


def read_checks(printed: str) -> dict[str, tuple[str, str]]:
    """What a program's lines `ok NAME` and `FAILED NAME: why` say."""
    checks = {}
    for line in printed.splitlines():
        match = CHECK.fullmatch(line.rstrip())
        if match is not None:
            status = PASSED if match.group(1) == "ok" else FAILED
            checks[match.group(2).strip()] = (status, match.group(3) or "")
    return checks
