"""Models of pydantic 1, whose compiled form has functions that nobody finds by their names.

A field of a model is made again from what it was declared as, which is how it came by those functions.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_FIELDS = (
    "name",
    "class_validators",
    "model_config",
    "default",
    "default_factory",
    "required",
    "final",
    "field_info",
)


def add_reducer(reducers: dict[type, Callable[[Any], Any]]) -> None:
    """If the compiled form is imported by now."""
    fields = sys.modules.get("pydantic.fields")
    if fields is not None and not str(fields.__file__).endswith(".py"):
        reducers.setdefault(fields.ModelField, reduce_field)


def reduce_field(field: Any) -> Any:
    given = {name: getattr(field, name) for name in _FIELDS if hasattr(field, name)}
    if field.has_alias:
        given["alias"] = field.alias
    given["type_"] = field.outer_type_  # With names and type variables looked up.
    rest = {name: getattr(field, name) for name in ("allow_none", "annotation")}
    return _make_field, (type(field), given), (None, rest)  # It has slots.


def _make_field(kind: Any, given: dict[str, Any]) -> Any:
    return kind(**given)
