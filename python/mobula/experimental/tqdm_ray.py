"""Progress of loops in drivers, tasks and actors, with tqdm's names.

A bar is a line of text on stderr: at the beginning, every few seconds while it moves, and at the end.
So it needs no terminal, and those of workers come to the driver among what they print.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

_FLUSH_SECONDS = 5.0

_lock = threading.Lock()


class tqdm:
    """`for x in tqdm(things, desc="work"): ...`, or `update()` by hand. Any thread may update."""

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: int | None = None,
        unit: str | None = None,
        *,
        position: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        """total: how much is to be done, by default the length of `iterable`, if it has one. position
        is not looked at."""
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        self._iterable = iterable
        self._desc = desc or ""
        self._unit = unit or "it"
        self._interval = _FLUSH_SECONDS if flush_interval_s is None else flush_interval_s
        self.n = 0
        self.total = total
        self._began = time.monotonic()
        self._shown_at = self._began
        self._shown = ""
        self._closed = False
        self.refresh()

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError("tqdm was given nothing to go through: use update().")
        try:
            for item in self._iterable:
                yield item
                self.update()
        finally:
            self.close()

    def __enter__(self) -> tqdm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        """So much more is done."""
        with _lock:
            self.n += n
            due = time.monotonic() - self._shown_at >= self._interval
        if due:
            self.refresh()

    def set_description(self, desc: str) -> None:
        """What is said in front."""
        self._desc = desc

    def refresh(self) -> None:
        """Shows it now, if it has changed."""
        with _lock:
            self._shown_at = time.monotonic()
            text = self._text()
            if text == self._shown or sys.stderr is None:
                return
            self._shown = text
            passed = self._shown_at - self._began
            rate = f", {self.n / passed:.1f} {self._unit}/s" if self.n and passed > 0 else ""
            print(f"{text} [{passed:.1f} s{rate}]", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Shows how far it came. Nothing happens the second time."""
        if self._closed:
            return
        self._closed = True
        self.refresh()

    def _text(self) -> str:
        front = f"{self._desc}: " if self._desc else ""
        if not self.total:
            return f"{front}{self.n} {self._unit}"
        return f"{front}{self.n}/{self.total} {self._unit} ({100 * self.n // self.total} %)"


def safe_print(*args: Any, **kwargs: Any) -> None:
    """`print`: lines are whole, bars do not get in between."""
    with _lock:
        print(*args, **kwargs)
