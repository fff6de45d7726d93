"""Marks of an API's stability, for libraries that use Ray's. They change nothing in it."""

from __future__ import annotations

import enum
from typing import Any


class AnnotationType(enum.Enum):
    """What such a mark says."""

    PUBLIC_API = "PublicAPI"
    DEVELOPER_API = "DeveloperAPI"
    DEPRECATED = "Deprecated"
    UNKNOWN = "Unknown"


class RayDeprecationWarning(DeprecationWarning):
    """Something that a program uses is going to disappear."""


def _mark(*args: Any, **_options: Any) -> Any:
    """Both `@Mark` and `@Mark(stability="beta")`."""
    if len(args) == 1 and not _options and callable(args[0]):
        return args[0]
    return lambda marked: marked


PublicAPI = _mark
DeveloperAPI = _mark
Deprecated = _mark
