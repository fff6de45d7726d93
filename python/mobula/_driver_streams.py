"""Writes workers' lines on the driver's sys.stdout and sys.stderr, whatever the program puts there.

A program's stream may lack `flush` or an encoding, be closed, refuse characters, or raise anything.
What can be shown is shown: characters that it cannot encode are written as backslash escapes, a line
that it refuses twice goes to the stream that Python began with. Nothing that it raises leaves `show`.

Threads: one at a time (`_logs.py`). It blocks as long as the stream does.
"""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# So many characters fit the buffer of a text stream, however they are encoded.
_PIECE = 2000

_told: set[tuple[str, type]] = set()


def show(name: str, lines_for: Callable[[Any], list[str]]) -> None:
    """name: "stdout" or "stderr". lines_for: what to write on the stream that it is given, each line
    with its newline."""
    stream = getattr(sys, name, None)
    if stream is None:
        return  # As `print` does.
    failure = _Failure()
    lines = _write(stream, lines_for(stream), failure)
    original = getattr(sys, f"__{name}__", None)
    if not lines or original is None or original is stream:
        return
    why = failure.error
    # A closed stream, or one without a reader, is nothing to tell about: the program knows.
    if why is not None and not isinstance(why, (ValueError, OSError)):
        kind = (name, type(stream))
        if kind not in _told:
            _told.add(kind)
            said = f"{type(why).__name__}: {_text_of(why)}"
            lines.insert(0, f"(mobula) sys.{name} refuses lines of tasks ({said})\n")
    _write(original, lines, failure)


class _Failure:
    """What a stream raised last."""

    error: BaseException | None = None


def _write(stream: Any, lines: list[str], failure: _Failure) -> list[str]:
    """Returns the lines that cannot be shown there."""
    if _may_refuse_to_wait(stream):
        left = [line for line in lines if not _write_patiently(stream, line, failure)]
    else:
        try:
            # In one write: other threads do not come in between.
            stream.write("".join(lines))
            left = []
        except BaseException as error:
            failure.error = error
            left = [line for line in lines if not _write_one(stream, line, failure)]
    try:
        flush = getattr(stream, "flush", None)
        if flush is not None:
            flush()
    except BaseException as error:
        failure.error = error  # What was written is in its hands.
    return left


def _write_one(stream: Any, line: str, failure: _Failure) -> bool:
    try:
        try:
            stream.write(line)
        except UnicodeError:
            stream.write(_encodable(stream, line))
    except BaseException as error:
        failure.error = error
        return False
    return True


def _encodable(stream: Any, line: str) -> str:
    """The line with escapes for what the stream's encoding does not have."""
    try:
        encoding = stream.encoding
        return line.encode(encoding, "backslashreplace").decode(encoding)
    except Exception:  # It names no encoding, or one that does not exist.
        return line.encode("ascii", "backslashreplace").decode("ascii")


def _may_refuse_to_wait(stream: Any) -> bool:
    """Does its descriptor fail where others block?"""
    try:
        return not os.get_blocking(stream.fileno())
    except BaseException:
        return False  # It has no descriptor.


def _write_patiently(stream: Any, line: str, failure: _Failure) -> bool:
    """In pieces that the buffer of a text stream can hold: what the descriptor does not take stays
    there, and is flushed when there is room."""
    for start in range(0, len(line), _PIECE):
        if not _write_one(stream, line[start : start + _PIECE], failure):
            return False
        try:
            while not _flushed(stream):
                room = select.poll()
                room.register(stream.fileno(), select.POLLOUT)
                room.poll()
        except BaseException as error:
            failure.error = error
            return False
    return True


def _flushed(stream: Any) -> bool:
    try:
        stream.flush()
    except BlockingIOError:
        return False
    return True


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # The program's own class.
        return ""
