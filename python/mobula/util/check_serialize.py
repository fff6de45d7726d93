"""Finding out what in a value cannot be sent to another process."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TextIO

from mobula import _serialization


@dataclass(frozen=True, eq=False)
class FailureTuple:
    """An object that cannot be serialized, under the name by which its holder knows it."""

    obj: Any
    name: str
    parent: Any

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={self.obj}, parent={self.parent}])"


def inspect_serializability(
    base_obj: Any,
    name: str | None = None,
    depth: int = 3,
    print_file: TextIO | None = None,
) -> tuple[bool, set[FailureTuple]]:
    """Can `base_obj` be serialized? If not: which objects inside it cannot, `depth` levels down.

    Prints what it finds to `print_file` (stdout if None). Returns (serializable, failures): the
    innermost objects that fail, which are what has to change.
    """
    out = print_file if print_file is not None else sys.stdout
    shown = name or str(getattr(base_obj, "__name__", type(base_obj).__name__))
    print(f"Checking whether {shown!r} can be serialized", file=out)
    failures: set[FailureTuple] = set()
    if _serialization.pickles(base_obj):
        print("  It can.", file=out)
        return True, failures
    _search(base_obj, shown, None, depth, failures, {id(base_obj)})
    for failure in failures:
        print(f"  It cannot, because of {failure.name}: {failure.obj!r}", file=out)
    return False, failures


def _search(
    value: Any, name: str, parent: Any, depth: int, failures: set[FailureTuple], seen: set[int]
) -> None:
    found = False
    if depth > 0:
        for step, part in _serialization.parts(value):
            if id(part) in seen:
                continue
            seen.add(id(part))
            if not _serialization.pickles(part):
                found = True
                _search(part, _plain(step), value, depth - 1, failures, seen)
    if not found:
        failures.add(FailureTuple(value, name, parent))


def _plain(step: str) -> str:
    """The name of a part without the way to it: " -> lock" and ".lock" are "lock"."""
    return step.removeprefix(" -> ").removeprefix(".").strip()


__all__ = ["FailureTuple", "inspect_serializability"]
