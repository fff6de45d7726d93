#!/usr/bin/env python3
"""Checks what the Python extension links and exports.

    tools/check_extension_links.py python/mobula/_core*.so

The extension is loaded into programs we do not know, beside libraries we do not know. So it needs
libc and the C++ runtime only, and shows nothing but its init function: a symbol that leaked could
replace one of theirs, or be replaced by it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ALLOWED = {
    "libc.so.6",
    "libm.so.6",
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
}
EXPORTS = {"PyInit__core"}


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def needed_libraries(dynamic: str) -> set[str]:
    """From the output of `readelf -d`."""
    return set(re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", dynamic))


def search_paths(dynamic: str) -> set[str]:
    """RPATH and RUNPATH entries: each would name a folder of the machine that built it."""
    return set(re.findall(r"\((?:RPATH|RUNPATH)\)\s+Library \w+: \[([^\]]*)\]", dynamic))


def exported_symbols(symbols: str) -> set[str]:
    """From the output of `nm -D --defined-only`."""
    return {line.split()[-1].split("@")[0] for line in symbols.splitlines() if line.strip()}


def problems(dynamic: str, symbols: str) -> list[str]:
    found = [f"links {name}" for name in sorted(needed_libraries(dynamic) - ALLOWED)]
    found += [f"has search path {path}" for path in sorted(search_paths(dynamic))]
    exported = exported_symbols(symbols)
    found += [f"exports {name}" for name in sorted(exported - EXPORTS)]
    found += [f"does not export {name}" for name in sorted(EXPORTS - exported)]
    return found


def main(paths: list[str]) -> int:
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    failed = False
    for path in paths:
        if not Path(path).is_file():
            print(f"{path}: no such file; run `make build` first")
            failed = True
            continue
        dynamic = run("readelf", "-d", "-W", path)
        for problem in problems(dynamic, run("nm", "-D", "--defined-only", path)):
            print(f"{path}: {problem}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
