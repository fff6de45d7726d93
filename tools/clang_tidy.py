#!/usr/bin/env python3
"""Runs clang-tidy over src/ without its tests, only for files that changed since they last passed.

    tools/clang_tidy.py --build build/release [--jobs 2] [FILE...]

A file that passed is remembered under a hash of its text, of all headers of ours it includes, of
.clang-tidy and of the compile command, in BUILD/clang-tidy/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
EXTRA = [
    "-Wno-unknown-warning-option",
    "-Wno-unused-command-line-argument",
    # Half-filled tables of Python types. The build turns it off too, but clang heeds the order.
    "-Wno-missing-field-initializers",
    # Asio 1.74 does not see clang's coroutines by itself.
    "-DBOOST_ASIO_HAS_CO_AWAIT",
    "-DBOOST_ASIO_HAS_STD_COROUTINE",
]


class Headers:
    """Hashes of files together with everything of ours that they include."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders
        self.text = cache(self._text)

    def _text(self, path: Path) -> str:
        return path.read_text(encoding="utf-8", errors="replace")

    def closure(self, path: Path) -> list[Path]:
        seen = {path}
        waiting = [path]
        while waiting:
            for name in INCLUDE.findall(self.text(waiting.pop())):
                for folder in self.folders:
                    header = folder / name
                    if header.is_file() and header not in seen:
                        seen.add(header)
                        waiting.append(header)
        return sorted(seen)

    def digest(self, path: Path, extra: str) -> str:
        state = hashlib.sha256(extra.encode())
        for header in self.closure(path):
            state.update(f"{header}\0{self.text(header)}\0".encode())
        return state.hexdigest()


def compile_commands(build: Path) -> dict[Path, str]:
    entries = json.loads((build / "compile_commands.json").read_text())
    return {Path(entry["file"]): entry["command"] for entry in entries}


def check(path: Path, build: Path) -> tuple[bool, float, str]:
    """(passed, seconds, what clang-tidy said)."""
    start = time.monotonic()
    command = ["clang-tidy", "--quiet", "-p", str(build)]
    command += [f"--extra-arg={flag}" for flag in EXTRA]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True)
    said = done.stdout if done.returncode == 0 else done.stdout + done.stderr
    return done.returncode == 0, time.monotonic() - start, said.strip()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="clang-tidy over what changed in src/.")
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    build = options.build.resolve()
    commands = compile_commands(build)
    wanted = {file.resolve() for file in options.files}
    sources = [
        path
        for path in sorted(commands)
        if path.is_relative_to(ROOT / "src") and path.is_file()
        if (path in wanted if wanted else not path.stem.endswith(("_test", "_test_support")))
    ]
    headers = Headers([ROOT / "src", build / "generated"])
    config = (ROOT / ".clang-tidy").read_text() + " ".join(EXTRA)
    passed_before = build / "clang-tidy"
    passed_before.mkdir(exist_ok=True)
    stamps = {path: headers.digest(path, config + commands[path]) for path in sources}
    todo = [path for path in sources if not (passed_before / stamps[path]).exists()]

    failed = 0
    start = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        for path, (passed, seconds, said) in zip(
            todo, pool.map(lambda path: check(path, build), todo), strict=True
        ):
            if passed:
                (passed_before / stamps[path]).touch()
            else:
                failed += 1
            print(f"clang-tidy {path.relative_to(ROOT)} {seconds:.1f} s", flush=True)
            if said:
                print(said, flush=True)
    took = time.monotonic() - start
    print(f"clang-tidy: {len(sources)} files, {len(todo)} checked in {took:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
