"""What tasks of the tests do to find out about each other: through files, as strangers would. Imported
in workers, so it imports little."""

from __future__ import annotations

import os
import time
from pathlib import Path

DEADLINE_SECONDS = 60.0


def meet(folder: str | os.PathLike[str], me: str, others: list[str]) -> bool:
    """Leaves a file and waits for those of the others: true if all were here at the same time."""
    Path(folder, me).touch()
    return all(wait_for(Path(folder, other)) for other in others)


def wait_for(file: str | os.PathLike[str]) -> bool:
    """True once the file exists; false after a deadline that only a bug reaches."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not os.path.exists(file):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def count_call(file: str | os.PathLike[str]) -> int:
    """Counts calls, of whatever process: 1 for the first."""
    with open(file, "ab") as counter:
        counter.write(b".")
        return counter.tell()


def calls(file: str | os.PathLike[str]) -> int:
    try:
        return os.path.getsize(file)
    except FileNotFoundError:
        return 0


def square(x: int) -> int:
    return x * x
