"""Decides which of the workers' lines are printed, when many processes print the same line.

The first of equal lines is passed on at once. Equal lines of other processes within a window of time
after it are counted, and passed on as one when the window ends, with "[repeated 3x across cluster]"
behind it. A process is never silenced for repeating itself: while only one prints a line, or if it is
the one whose line was passed on, all of it is passed on. Blank and very long lines always are.

    a line:  new ──passed on──► known ──same from another process──► counting
                                  └──end of the window──► forgotten ◄──┘ passed on once, with the count

Threads: none; its owner sees to it that one call runs at a time.
Time:    only from the `now` arguments, in seconds.
Limits:  _LINES_MAX lines are known at a time, none longer than _LENGTH_MAX characters.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LINES_MAX = 4096
_LENGTH_MAX = 4096

_HINT = " (set MOBULA_DEDUP_LOGS=0 to see every line)"


class Line(NamedTuple):
    """What `_core.next_log_lines` says of one line."""

    pid: int
    name: str
    is_stderr: bool
    text: str


class Settings(NamedTuple):
    """Which lines count as repeated."""

    window_seconds: float = 5.0
    allowed: re.Pattern[str] | None = None
    """Lines in which this is found are all passed on."""
    skipped: re.Pattern[str] | None = None
    """Lines in which this is found are dropped, whoever prints them."""


def settings_of(environment: Mapping[str, str] = os.environ) -> Settings | None:
    """What the variables MOBULA_DEDUP_LOGS... say; None: every line is printed. ValueError: one of
    them makes no sense."""
    if environment.get("MOBULA_DEDUP_LOGS", "1") == "0":
        return None
    return Settings(_window(environment), _regex(environment, "ALLOW"), _regex(environment, "SKIP"))


def _window(environment: Mapping[str, str]) -> float:
    variable = "MOBULA_DEDUP_LOGS_AGG_WINDOW_S"
    text = environment.get(variable) or "5"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{variable} is a number of seconds, not {text!r}")
    return seconds


def _regex(environment: Mapping[str, str], kind: str) -> re.Pattern[str] | None:
    variable = f"MOBULA_DEDUP_LOGS_{kind}_REGEX"
    text = environment.get(variable)
    if not text:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"{variable} is no regular expression: {text!r}: {error}") from None


class _Known:
    """A line that was passed on lately."""

    __slots__ = ("count", "ends", "last", "pid")

    def __init__(self, pid: int, ends: float) -> None:
        self.pid = pid
        self.ends = ends
        self.count = 0
        self.last: Line | None = None  # Of those that were counted.


class Repeats:
    """Lines in, lines to print out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # By stream and text. In the order in which their windows end, as all are equally long.
        # Of a plain dict, finding the first gets slow when many before it are gone.
        self._known: OrderedDict[tuple[bool, str], _Known] = OrderedDict()
        self._counting = 0
        self._hinted = False

    def take(self, lines: Iterable[tuple[int, str, bool, str]], now: float) -> list[Line]:
        """What to print because of `lines`, and because it is `now`."""
        result = self.due(now)
        for fields in lines:
            line = Line(*fields)
            settings = self._settings
            if settings.skipped is not None and settings.skipped.search(line.text):
                continue
            if self._never_repeats(line):
                result.append(line)
                continue
            known = self._known.get((line.is_stderr, line.text))
            if known is None:
                if len(self._known) == _LINES_MAX:
                    result += self._forget_first()
                self._known[line.is_stderr, line.text] = _Known(
                    line.pid, now + settings.window_seconds
                )
                result.append(line)
            elif known.pid == line.pid:
                result.append(line)
            else:
                self._counting += known.count == 0
                known.count += 1
                known.last = line
        return result

    def due(self, now: float) -> list[Line]:
        """What to print because it is `now`."""
        result: list[Line] = []
        while self._known and next(iter(self._known.values())).ends <= now:
            result += self._forget_first()
        return result

    def end(self) -> list[Line]:
        """What to print because nothing more will come."""
        result: list[Line] = []
        while self._known:
            result += self._forget_first()
        return result

    def next_due(self) -> float | None:
        """When `due` has something to print if no lines come; None: never."""
        if not self._counting:
            return None
        return next(known.ends for known in self._known.values() if known.count)

    def _never_repeats(self, line: Line) -> bool:
        if len(line.text) > _LENGTH_MAX or not line.text.strip():
            return True
        allowed = self._settings.allowed
        return allowed is not None and allowed.search(line.text) is not None

    def _forget_first(self) -> list[Line]:
        _, known = self._known.popitem(last=False)
        if known.last is None:
            return []
        self._counting -= 1
        if known.count == 1:
            return [known.last]
        text = f"{known.last.text} [repeated {known.count}x across cluster]"
        if not self._hinted:
            self._hinted = True
            text += _HINT
        return [known.last._replace(text=text)]
