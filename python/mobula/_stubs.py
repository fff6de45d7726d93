"""Parameters of an actor's methods, as callers know them who have no code of its class."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_PREFIXES: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def parameters(function: Any, skip_first: bool) -> str:
    """A function's parameters as source text, without values of defaults."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return "*args, **kwargs"
    if skip_first and parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        parameters = parameters[1:]
    pieces = []
    last_kind = None
    for parameter in parameters:
        kind = parameter.kind
        if last_kind is inspect.Parameter.POSITIONAL_ONLY and kind is not last_kind:
            pieces.append("/")
        if kind is inspect.Parameter.KEYWORD_ONLY and last_kind not in (
            inspect.Parameter.KEYWORD_ONLY,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            pieces.append("*")
        prefix = _PREFIXES.get(kind, "")
        has_default = parameter.default is not inspect.Parameter.empty
        pieces.append(f"{prefix}{parameter.name}{'=None' if has_default else ''}")
        last_kind = kind
    if last_kind is inspect.Parameter.POSITIONAL_ONLY:
        pieces.append("/")
    return ", ".join(pieces)


@functools.lru_cache(maxsize=4096)
def stub(parameters_text: str, name: str) -> Callable[..., Any]:
    """A function with these parameters, against which calls are checked; `name` is for errors."""
    made: Callable[..., Any] = eval(f"lambda {parameters_text}: None")  # Names, no values.
    made.__name__ = made.__qualname__ = name
    return made
