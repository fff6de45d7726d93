"""`python -m mobula.ray script.py`: runs a program that says `import ray`, on Mobula.

    python -m mobula.ray script.py [arguments]
    python -m mobula.ray -m module [arguments]
    python -m mobula.ray -c "code" [arguments]

`ray` and `ray.x` are the modules `mobula` and `mobula.x` then, here, in workers and in Python programs
that it starts, whether a real Ray is installed or not. What Mobula does not have raises
ModuleNotFoundError or AttributeError.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import runpy
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence

# Set for workers, which install the alias, too.
VARIABLE = "MOBULA_AS_RAY"

_USAGE = "usage: python -m mobula.ray [-m module | -c code | script.py] [arguments]"


class _AliasLoader(importlib.abc.Loader):
    """Gives a module of Mobula, which is imported once, whatever it is called."""

    def __init__(self, real_name: str) -> None:
        self._real_name = real_name
        self._kept: dict[str, object] = {}

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = importlib.import_module(self._real_name)
        # The import system writes its own idea of these into the module.
        self._kept = {
            name: getattr(module, name)
            for name in ("__name__", "__spec__", "__loader__", "__package__", "__path__")
            if hasattr(module, name)
        }
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        for name, value in self._kept.items():
            setattr(module, name, value)


class _AliasFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "ray" and not fullname.startswith("ray."):
            return None
        real_name = "mobula" + fullname[len("ray") :]
        if importlib.util.find_spec(real_name) is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: Mobula, which runs as ray here, has no {real_name!r}",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, _AliasLoader(real_name))


def install() -> None:
    """From now on `import ray` means Mobula, in this process."""
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AliasFinder())
    for name in [n for n in sys.modules if n == "ray" or n.startswith("ray.")]:
        del sys.modules[name]


def main(arguments: list[str]) -> None:
    """What the interpreter would do with these arguments, with `ray` as an alias."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if arguments else 2)
    os.environ[VARIABLE] = "1"
    _reach_children()
    install()
    kind, rest = arguments[0], arguments[1:]
    if kind == "-c":
        if not rest:
            _refuse("-c needs code")
        sys.argv = ["-c", *rest[1:]]
        sys.path[0] = ""
        _run_code(rest[0])
    elif kind == "-m":
        if not rest:
            _refuse("-m needs the name of a module")
        sys.argv = rest
        sys.path[0] = os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind.startswith("-"):
        _refuse(f"unknown option {kind}")
    else:
        _run_script(kind, rest)


def _reach_children() -> None:
    """Interpreters that the program starts find the alias, too."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_as_ray")
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = folder + os.pathsep + path if path else folder
    sys.path.insert(1, folder)  # What multiprocessing tells its children.


def _refuse(why: str) -> NoReturn:
    print(f"mobula.ray: {why}\n{_USAGE}", file=sys.stderr)
    sys.exit(2)


def _fresh_main() -> types.ModuleType:
    import types

    main_module = types.ModuleType("__main__")
    main_module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main_module
    return main_module


def _run_code(code: str) -> None:
    exec(compile(code, "<string>", "exec"), _fresh_main().__dict__)


def _run_script(path: str, arguments: list[str]) -> None:
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        _refuse(f"cannot open {path!r}: {error.strerror}")
    sys.argv = [path, *arguments]
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    main_module = _fresh_main()
    main_module.__file__ = path
    exec(compile(source, path, "exec"), main_module.__dict__)


if __name__ == "__main__":
    # The module that runs must be the one that `install` knows.
    from mobula import ray

    ray.main(sys.argv[1:])
