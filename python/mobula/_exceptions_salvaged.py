"""Exceptions whose pickles cannot be loaded here: classes are missing, or fail to make something again.
What can be loaded is, and the rest is replaced by stand-ins."""

from __future__ import annotations

import importlib
import io
import pickle
from typing import Any, ClassVar


class Missing:
    """What could not be loaded. It can be called, and have a state, like what it stands for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Missing:
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__}, which could not be loaded>"


_PythonUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined, unused-ignore]


class _Salvager(_PythonUnpickler):  # type: ignore[misc]
    """In Python, since it must go on after a failure in the middle."""

    dispatch: ClassVar[Any] = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.missing: dict[str, None] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("cloudpickle.cloudpickle", "subimport"):
            return self._import
        try:
            return super().find_class(module, name)
        except Exception as error:
            return self._stand_in(f"{module}.{name}", error)

    def _import(self, name: str) -> Any:
        try:
            return importlib.import_module(name)
        except Exception as error:
            return self._stand_in(name, error)

    def _stand_in(self, name: str, error: Exception) -> type:
        self.missing[f"{name}: {type(error).__qualname__}: {error}"] = None
        return type(name.rpartition(".")[2], (Missing,), {"__qualname__": name})

    def _made(self, function: Any, args: Any, kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            return self._stand_in(getattr(function, "__qualname__", str(function)), error)()

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._made(self.stack[-1], args, {})

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        args = self.stack.pop()
        kind = self.stack.pop()
        self.append(self._made(kind.__new__, (kind, *args), {}))

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        kwargs = self.stack.pop()
        args = self.stack.pop()
        kind = self.stack.pop()
        self.append(self._made(kind.__new__, (kind, *args), kwargs))

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def load_build(self) -> None:
        instance = self.stack[-2]
        try:
            super().load_build()
        except Exception as error:  # It stays without its state.
            self._stand_in(type(instance).__qualname__, error)

    dispatch[pickle.BUILD[0]] = load_build


def loads(pickled: bytes) -> tuple[Any, list[str]]:
    """(the value, what is missing of it)"""
    try:
        return pickle.loads(pickled), []
    except Exception:  # A class may be missing here, or fail to make what it should.
        salvager = _Salvager(io.BytesIO(pickled))
        value = salvager.load()
        return value, list(salvager.missing)
