"""Exceptions on their way to another process."""

from __future__ import annotations

import types
from typing import Any


def itself(value: Any) -> Any:
    return value


class Portable:
    """Pickles an exception so that it can be made again without its `__init__`: what is passed there
    is seldom what `args` has, which is all that pickle knows of it."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        kind = type(self._error)
        if isinstance(kind.__reduce__, types.FunctionType) or (
            kind.__reduce_ex__ is not object.__reduce_ex__
        ):
            return itself, (self._error,)  # It has its own way.
        made = self._error.__reduce__()
        if not isinstance(made, tuple) or made[0] is not kind:
            return itself, (self._error,)
        return _made_again, (kind, *made[1:])


def _made_again(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any] | None = None
) -> BaseException:
    try:
        error = kind(*args)
    except Exception:
        base: Any = next(k for k in kind.__mro__ if k.__module__ == "builtins")
        error = base.__new__(kind, *args)
        base.__init__(error, *args)
    if not isinstance(error, OSError):  # Its name of a file is not among `args`.
        error.args = args
    if state:
        error.__setstate__(state)
    return error
