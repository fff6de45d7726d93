"""Tasks and actors in other languages, which Mobula does not run: these names say so."""

from __future__ import annotations

import enum
from typing import NoReturn


class Language(enum.Enum):
    """The languages in which Ray's tasks can be written. Mobula runs those in Python."""

    PYTHON = 0
    JAVA = 1
    CPP = 2

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


def java_function(class_name: str, function_name: str) -> NoReturn:
    """NotImplementedError."""
    _refuse(f"java_function({class_name!r}, {function_name!r})")


def java_actor_class(class_name: str) -> NoReturn:
    """NotImplementedError."""
    _refuse(f"java_actor_class({class_name!r})")


def cpp_function(function_name: str) -> NoReturn:
    """NotImplementedError."""
    _refuse(f"cpp_function({function_name!r})")


def cpp_actor_class(create_function_name: str, class_name: str) -> NoReturn:
    """NotImplementedError."""
    _refuse(f"cpp_actor_class({create_function_name!r}, {class_name!r})")


def _refuse(what: str) -> NoReturn:
    raise NotImplementedError(f"{what}: Mobula runs tasks and actors in Python only.")


__all__ = ["Language", "cpp_actor_class", "cpp_function", "java_actor_class", "java_function"]
