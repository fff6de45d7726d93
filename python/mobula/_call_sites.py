"""Which lines of a program made an object, for `mobula memory`. Asked only with
MOBULA_RECORD_CALL_SITE=1."""

from __future__ import annotations

import os
import sys

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_FRAMES_MAX = 4


def of_caller(how: str) -> str:
    """ "(put object) | file.py:function:12 | file.py:<module>:20": the innermost frames that are not
    this package's."""
    parts = [f"({how})"]
    frame = sys._getframe(1)
    while frame is not None and len(parts) <= _FRAMES_MAX:
        code = frame.f_code
        if not code.co_filename.startswith((_PACKAGE, "<frozen ")):
            parts.append(f"{code.co_filename}:{code.co_name}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return " | ".join(parts)
