"""What the programs here are written with: each check prints one line, by which it is counted.

from _checks import check, done

check("squares come back", ray.get(refs) == [0, 1, 4])
check("an error arrives", lambda: raises(ValueError, ray.get, ref))
done()
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

_failed: list[str] = []


def check(name: str, condition: object) -> bool:
    """Tells whether `condition` holds, or what it returns if it can be called. An exception in it is a
    failure, and the program goes on. Names are unique in a program, and have no colon."""
    why = "it is not so"
    try:
        holds = bool(condition() if callable(condition) else condition)
    except Exception as error:
        traceback.print_exc()
        holds, why = False, " ".join(f"{type(error).__name__}: {error}".split())[:300]
    # In a line of its own, whatever a progress bar left behind.
    print(f"\nok {name}" if holds else f"\nFAILED {name}: {why}", flush=True)
    if not holds:
        _failed.append(name)
    return holds


def raises(kind: type[BaseException], function: Callable[..., object], *arguments: object) -> bool:
    """Whether `function(*arguments)` raises an exception of `kind`; others go on."""
    try:
        function(*arguments)
    except kind:
        return True
    return False


def done() -> NoReturn:
    """Ends the program. Without it the runner takes the checks for incomplete."""
    print("\nall checks were made", flush=True)
    sys.exit(1 if _failed else 0)
