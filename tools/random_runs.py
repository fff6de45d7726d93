#!/usr/bin/env python3
"""Runs the seeded random tests again and again, each time with a fresh seed, for a while.

    tools/random_runs.py --build build/release --seconds 300

The random tests are the GoogleTest tests with "random" in their name and the pytest tests marked
`random`. They take their seed from MOBULA_SEED, so the command printed for a failure replays it.
With MOBULA_SEED already set, each test runs once with that seed.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILTER = "--gtest_filter=*random*:*Random*"
NO_TESTS_COLLECTED = 5  # pytest's exit status.


@dataclass(frozen=True)
class Suite:
    name: str
    command: list[str]


def listed_tests(output: str) -> int:
    """How many tests `--gtest_list_tests` printed: those are the indented lines."""
    return sum(1 for line in output.splitlines() if line.startswith("  "))


def cpp_suites(build: Path) -> list[Suite]:
    """The test executables of `build` that have random tests."""
    suites = []
    for program in sorted(build.glob("src/*/mobula_*_test")):
        listing = subprocess.run(
            [program, FILTER, "--gtest_list_tests"], check=True, capture_output=True, text=True
        ).stdout
        if listed_tests(listing):
            shown = os.path.relpath(program, ROOT)
            suites.append(Suite(program.name, [shown, FILTER, "--gtest_brief=1"]))
    return suites


def python_suites(tests: Path) -> list[Suite]:
    command = [sys.executable, "-m", "pytest", "-m", "random", os.path.relpath(tests, ROOT)]
    collected = subprocess.run(
        [*command, "--collect-only"], cwd=ROOT, capture_output=True, text=True
    )
    if collected.returncode == NO_TESTS_COLLECTED:
        return []
    if collected.returncode != 0:
        raise SystemExit(collected.stdout + collected.stderr)
    return [Suite("pytest", command)]


def replay_command(suite: Suite, seed: int) -> str:
    return f"MOBULA_SEED={seed} {shlex.join(suite.command)}"


def run_once(suite: Suite, seed: int, seconds: float) -> bool:
    """Runs `suite` with `seed`. One that is still running after `seconds` has failed."""
    environment = {**os.environ, "MOBULA_SEED": str(seed)}
    try:
        done = subprocess.run(
            suite.command,
            cwd=ROOT,
            env=environment,
            timeout=seconds,
            text=True,
            errors="backslashreplace",  # tests print names that are not UTF-8, and get cut
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired as hung:
        print((hung.output or b"").decode(errors="backslashreplace"))  # Bytes, whatever was asked.
        print(f"random: {suite.name} did not end within {seconds:.0f} s, seed {seed}")
        print(f"random: replay with  {replay_command(suite, seed)}")
        return False
    if done.returncode != 0:
        print(done.stdout)
        print(f"random: {suite.name} failed with seed {seed}")
        print(f"random: replay with  {replay_command(suite, seed)}")
    return done.returncode == 0


def run_for(suites: list[Suite], seconds: float, hang_seconds: float) -> int:
    """Takes the suites in turn until the time is up, at least once each. The number of runs."""
    until = time.monotonic() + seconds
    first = secrets.randbits(63)
    print(f"random: {', '.join(suite.name for suite in suites)}; first seed {first}", flush=True)
    runs = 0
    while runs < len(suites) or time.monotonic() < until:
        suite = suites[runs % len(suites)]
        if not run_once(suite, (first + runs) % 2**63, hang_seconds):
            raise SystemExit(1)
        runs += 1
    return runs


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Runs the seeded random tests for a while.")
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--tests", type=Path, default=ROOT / "tests")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--hang-seconds", type=float, default=300)
    options = parser.parse_args(arguments)
    suites = cpp_suites(options.build.resolve()) + python_suites(options.tests.resolve())
    if not suites:
        print("random: no random tests found")
        return 1
    if "MOBULA_SEED" in os.environ:
        seed = int(os.environ["MOBULA_SEED"])
        results = [run_once(suite, seed, options.hang_seconds) for suite in suites]
        return 0 if all(results) else 1
    runs = run_for(suites, options.seconds, options.hang_seconds)
    print(f"random: {runs} runs passed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
