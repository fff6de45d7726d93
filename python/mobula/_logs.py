"""Prints at the driver what its workers printed.

Threads: one of its own per session, in `_core.next_log_lines`; it ends with the session.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from mobula import _core

if TYPE_CHECKING:
    from collections.abc import Iterable

_CYAN = "\x1b[36m"
_RESET = "\x1b[0m"


class LogPrinter:
    """Runs from construction until the session has ended; `join` waits for that."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=_run, name="mobula-logs", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Call after `_core.disconnect`. What was printed before is on the streams afterwards."""
        if self._thread is not threading.current_thread():
            self._thread.join()


def _run() -> None:
    while (lines := _core.next_log_lines()) is not None:
        _print(lines)


def _print(lines: Iterable[tuple[int, str, bool, str]]) -> None:
    # Through sys.stdout and sys.stderr as they are now, so that notebooks and redirections see it.
    # Runs of lines for one stream go out in one write: other threads do not come in between.
    for is_stderr, run in _runs(lines):
        stream = sys.stderr if is_stderr else sys.stdout
        if stream is None:
            continue
        try:
            stream.write("".join(_labelled(line, _wants_colour(stream)) for line in run))
            stream.flush()
        except (OSError, ValueError):
            # The stream is closed, or its reader has gone away. There is nowhere left to say so, and
            # the program has noticed or will on its own next print.
            continue


def _runs(
    lines: Iterable[tuple[int, str, bool, str]],
) -> Iterable[tuple[bool, list[tuple[int, str, bool, str]]]]:
    run: list[tuple[int, str, bool, str]] = []
    for line in lines:
        if run and run[-1][2] != line[2]:
            yield run[-1][2], run
            run = []
        run.append(line)
    if run:
        yield run[-1][2], run


def _labelled(line: tuple[int, str, bool, str], colour: bool) -> str:
    pid, name, _, text = line
    label = f"({name} pid={pid})" if name else f"(pid={pid})"
    if colour:
        return f"{_CYAN}{label}{_RESET} {text}\n"
    return f"{label} {text}\n"


def _wants_colour(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False
