"""What an interpreter is started with that is no argument or variable of a program.

Those are limited by the kernel: 128 KiB each, and together a quarter of the stack. The interpreters of
a job read memory first, whose descriptor they are given: texts, each of them ended by a NUL: the number
of entries of sys.path, these entries, the spec of the environment that is to be prepared (empty: none),
and the variables, NAME=value, that the program could not be started with. The node daemon writes it
(src/node/setup_memory.h); so does who becomes another interpreter.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping

# Below what the kernel takes: there are arguments, too.
_TEXT_BYTES_MAX = 120 << 10
_BYTES_MIN, _BYTES_MAX = 96 << 10, 1 << 20
_POINTER_BYTES = 8
_SETUP_BYTES_MAX = 64 << 20

# Looked at before a program can set any itself.
_FIRST = ("LD_", "PYTHON", "MALLOC_", "GLIBC_", "LC_")
_FIRST_NAMES = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR"})


def split(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The variables that a program can be started with, and the others: the largest, if there are too
    many."""
    sizes = {name: _size(name, value) for name, value in environ.items()}
    left = _bytes_max()
    if sum(sizes.values()) <= left and max(sizes.values(), default=0) <= _TEXT_BYTES_MAX:
        return dict(environ), {}
    now: set[str] = set()
    for name in sorted(sizes, key=lambda name: (not _is_first(name), sizes[name])):
        if sizes[name] <= min(left, _TEXT_BYTES_MAX):
            left -= sizes[name]
            now.add(name)
    return (
        {name: value for name, value in environ.items() if name in now},
        {name: value for name, value in environ.items() if name not in now},
    )


def check(environ: Mapping[str, str], path: Iterable[str]) -> None:
    """ValueError: more than can be handed to workers."""
    size = sum(_size(name, value) for name, value in environ.items())
    size += sum(len(os.fsencode(entry)) + 1 for entry in path)
    if size > _SETUP_BYTES_MAX:
        raise ValueError(
            f"the environment and sys.path of this program have {size:,} bytes, but at most "
            f"{_SETUP_BYTES_MAX:,} can be handed to workers"
        )


def _size(name: str, value: str) -> int:
    return len(os.fsencode(name)) + len(os.fsencode(value)) + 2 + _POINTER_BYTES


def _bytes_max() -> int:
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if stack == resource.RLIM_INFINITY:
        return _BYTES_MAX
    return max(_BYTES_MIN, min(stack // 8, _BYTES_MAX))


def _is_first(name: str) -> bool:
    return name.startswith(_FIRST) or name in _FIRST_NAMES


def variables(texts: Iterable[str]) -> dict[str, str]:
    """Of the last texts."""
    found = {}
    for text in texts:
        name, is_one, value = text.partition("=")
        if is_one:
            found[name] = value
    return found


def make(path: list[str], late: Mapping[str, str]) -> int:
    """A descriptor, inherited by the program that this process becomes."""
    texts = [str(len(path)), *path, "", *(f"{name}={value}" for name, value in late.items())]
    descriptor = os.memfd_create("mobula-setup", 0)
    view = memoryview(os.fsencode("".join(f"{text}\0" for text in texts)))
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
