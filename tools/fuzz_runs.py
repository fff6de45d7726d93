#!/usr/bin/env python3
"""Runs every libFuzzer program of a build for a while, each from its committed corpus.

    tools/fuzz_runs.py --build build/fuzz --seconds 60 [--only wire_control_fuzz] [--keep]

What a program finds is written to <build>/<program>.found/, and the whole run fails. New inputs that
reach new code stay in <build>/<program>.corpus/; --keep copies the smallest set that reaches everything
into tests/fuzz/corpus/, to be committed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
# Of the committed corpus, so that it stays small.
INPUT_BYTES_MAX = 4096


def run(program: Path, seconds: int) -> bool:
    found = program.with_suffix(".found")
    grown = program.with_suffix(".corpus")
    committed = CORPUS / program.name
    for folder in (found, grown, committed):
        folder.mkdir(parents=True, exist_ok=True)
    print(f"{program.name}: {seconds} s", flush=True)
    ended = subprocess.run(
        [
            program,
            grown,
            committed,
            f"-max_total_time={seconds}",
            f"-artifact_prefix={found}/",
            "-timeout=10",
            "-rss_limit_mb=2048",
            f"-max_len={INPUT_BYTES_MAX}",
            "-use_value_profile=1",
            "-print_final_stats=1",
            "-verbosity=0",
        ],
        capture_output=True,
        text=True,
    )
    if ended.returncode != 0:
        print(ended.stdout + ended.stderr)
        print(f"{program.name} found something: {found}/")
        return False
    for line in ended.stderr.splitlines():
        if "number_of_executed_units" in line or "new_units_added" in line:
            print(f"  {line.strip()}")
    return True


def keep(program: Path) -> None:
    """Merges what was found to reach new code into the committed corpus."""
    committed = CORPUS / program.name
    merged = program.with_suffix(".merged")
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir()
    grown = program.with_suffix(".corpus")
    folders = [str(folder) for folder in (merged, committed, grown)]
    command = [str(program), "-merge=1", f"-max_len={INPUT_BYTES_MAX}", *folders]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(committed)
    shutil.copytree(merged, committed)
    print(f"  {program.name}: {len(list(committed.iterdir()))} inputs kept")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each program")
    parser.add_argument("--only", default="", help="programs with this in their name")
    parser.add_argument("--keep", action="store_true", help="update the committed corpus")
    options = parser.parse_args()
    programs = [
        path
        for path in sorted(options.build.glob("*_fuzz"))
        if path.is_file() and options.only in path.name
    ]
    if not programs:
        print(f"no fuzz programs in {options.build}")
        return 2
    passed = [run(program, options.seconds) for program in programs]
    if options.keep and all(passed):
        for program in programs:
            keep(program)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
