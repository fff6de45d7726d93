"""Prints at the driver what its workers printed.

Threads: one of its own per session, in `_core.next_log_lines`; it ends with the session. A second one
starts when lines are held back (`_log_repeats.py`), and prints them when their time has come. One lock
makes them print one after the other.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from mobula import _core, _driver_streams
from mobula._log_repeats import Line, Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mobula._log_repeats import Settings

_CYAN = "\x1b[36m"
_RESET = "\x1b[0m"


class LogPrinter:
    """Runs from construction until the session has ended; `join` waits for that."""

    def __init__(self, repeats: Settings | None, labels: bool = True) -> None:
        """repeats: how lines that many processes print are treated; None: all are printed. labels:
        say in front of each line whose it is."""
        self._repeats = Repeats(repeats) if repeats is not None else None
        self._labels = labels
        self._changed = threading.Condition()
        self._ended = False
        self._later: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="mobula-logs", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Call after `_core.disconnect`. What was printed before is on the streams afterwards."""
        if threading.current_thread() in (self._thread, self._later):
            return
        self._thread.join()
        if self._later is not None:
            self._later.join()

    def _run(self) -> None:
        while (lines := _core.next_log_lines()) is not None:
            if self._repeats is None:
                _print((Line(*fields) for fields in lines), self._labels)
            else:
                self._print_but_repeats(self._repeats, lines)
        with self._changed:
            self._ended = True
            if self._repeats is not None:
                _print(self._repeats.end(), self._labels)
            self._changed.notify()

    def _print_but_repeats(
        self, repeats: Repeats, lines: Iterable[tuple[int, str, bool, str]]
    ) -> None:
        with self._changed:
            waited_for = repeats.next_due()
            _print(repeats.take(lines, time.monotonic()), self._labels)
            if repeats.next_due() == waited_for:
                return
            if self._later is None:
                self._later = threading.Thread(
                    target=self._print_later, args=(repeats,), name="mobula-repeats", daemon=True
                )
                self._later.start()
            self._changed.notify()

    def _print_later(self, repeats: Repeats) -> None:
        with self._changed:
            while not self._ended:
                due = repeats.next_due()
                self._changed.wait(None if due is None else max(0.0, due - time.monotonic()))
                _print(repeats.due(time.monotonic()), self._labels)


def _print(lines: Iterable[Line], labels: bool) -> None:
    # Through sys.stdout and sys.stderr as they are now, so that notebooks and redirections see it.
    # Runs of lines for one stream go out together: other threads do not come in between.
    for is_stderr, run in _runs(lines):
        _driver_streams.show("stderr" if is_stderr else "stdout", _texts(run, labels))


def _texts(run: list[Line], labels: bool) -> Callable[[Any], list[str]]:
    def for_stream(stream: Any) -> list[str]:
        if not labels:
            return [f"{line.text}\n" for line in run]
        colour = _wants_colour(stream)
        return [_labelled(line, colour) for line in run]

    return for_stream


def _runs(lines: Iterable[Line]) -> Iterable[tuple[bool, list[Line]]]:
    run: list[Line] = []
    for line in lines:
        if run and run[-1].is_stderr != line.is_stderr:
            yield run[-1].is_stderr, run
            run = []
        run.append(line)
    if run:
        yield run[-1].is_stderr, run


def _labelled(line: Line, colour: bool) -> str:
    pid, name, _, text = line
    label = f"({name} pid={pid})" if name else f"(pid={pid})"
    if pid == 0:  # The node says something itself.
        label = "(mobula)"
    if colour:
        return f"{_CYAN}{label}{_RESET} {text}\n"
    return f"{label} {text}\n"


def _wants_colour(stream: Any) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    try:
        return bool(stream.isatty())
    except BaseException:  # It is the program's, and may do anything.
        return False
