"""Finding out what in a value cannot be sent to another process."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TextIO

from mobula import _culprits


@dataclass(frozen=True, eq=False)
class FailureTuple:
    """An object that cannot be serialized, the names that lead to it, and who holds it."""

    obj: Any
    path: tuple[str, ...]
    parent: Any

    @property
    def name(self) -> str:
        """The name by which its holder knows it."""
        return self.path[-1] if self.path else repr(self.obj)

    def __repr__(self) -> str:
        way = " -> ".join(self.path)
        return f"FailTuple({self.name} [path={way}, obj={self.obj}, parent={self.parent}])"


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
    print(f"Checking Serializability of {base_obj}", file=out)
    failures: set[FailureTuple] = set()
    why = _culprits.why_not(base_obj)
    if why is None:
        return True, failures
    print(f"!!! FAIL serialization: {why}", file=out)
    _search(base_obj, (name,) if name else (), None, depth, failures, {id(base_obj)})
    for failure in failures:
        print(f"    {failure}\n    was found to be non-serializable.", file=out)
    print(
        "There may be others that were not looked at. Make such objects where they are used, in the "
        "task, or leave them out of what is sent.",
        file=out,
    )
    return False, failures


def _search(
    value: Any,
    path: tuple[str, ...],
    parent: Any,
    depth: int,
    failures: set[FailureTuple],
    seen: set[int],
) -> None:
    found = False
    if depth > 0:
        for step, part in _culprits.parts(value):
            if id(part) in seen:
                continue
            seen.add(id(part))
            if not _culprits.pickles(part):
                found = True
                _search(part, (*path, _plain(step)), value, depth - 1, failures, seen)
    if not found:
        failures.add(FailureTuple(value, path, parent))


def _plain(step: str) -> str:
    """The name of a part without the way to it: " -> lock" and ".lock" are "lock"."""
    return step.removeprefix(" -> ").removeprefix(".").strip()


__all__ = ["FailureTuple", "inspect_serializability"]
