"""The `mobula` command: runs the packaged executable in this process's place."""

from __future__ import annotations

import os
import sys

from mobula._daemon import EXECUTABLE


def main() -> None:
    try:
        os.execv(EXECUTABLE, ["mobula", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"mobula: cannot run {EXECUTABLE}: {error}")
