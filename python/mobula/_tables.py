"""Tables for people: aligned columns, and the words in them.

Nothing but the standard library: the package depends on cloudpickle only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

_CELL_CHARS_MAX = 200
_SECONDS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows below headers. Columns of numbers only are aligned to the right. Ends with a newline."""
    texts = [[_cell(value) for value in row] for row in rows]
    columns = list(zip(*texts, strict=True)) if texts else [() for _ in headers]
    widths = [
        max([_width(header), *map(_width, column)])
        for header, column in zip(headers, columns, strict=True)
    ]
    right = [bool(column) and all(map(_is_number, column)) for column in columns]
    lines = [list(headers), *texts]
    return "".join(_line(line, widths, right) for line in lines)


def _cell(value: object) -> str:
    text = str(value)
    return text if len(text) <= _CELL_CHARS_MAX else f"{text[: _CELL_CHARS_MAX - 3]}..."


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, is_right in zip(cells, widths, right, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if is_right else cell + space)
    return "  ".join(padded).rstrip() + "\n"


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


def amount(value: float) -> str:
    """A resource amount without needless zeros."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def size(bytes: float) -> str:
    """12.3 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(bytes) < 1024:
            return f"{bytes:.0f} B" if unit == "B" else f"{bytes:.1f} {unit}"
        bytes /= 1024
    return f"{bytes:.1f} TiB"


def duration(seconds: float) -> str:
    """The two largest units: 3d 4h, 5m 6s."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for name, length in _SECONDS:
        if left >= length or (name == "s" and not parts):
            parts.append(f"{left // length}{name}")
            left %= length
    return " ".join(parts[:2])
