"""`python -m mobula.ray script.py`: runs a program that says `import ray`, on Mobula.

    python -m mobula.ray script.py [arguments]
    python -m mobula.ray -m module [arguments]
    python -m mobula.ray -c "code" [arguments]

`ray` is a module with the attributes of `mobula` then, and `ray.x` is `mobula.x`, here, in workers and
in Python programs that it starts, whether a real Ray is installed or not. `ray.__version__`, and that
of the distribution `ray`, are those of the Ray that Mobula is compatible with. What Mobula does not
have raises ModuleNotFoundError or AttributeError.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import TYPE_CHECKING, NoReturn

from mobula import _alias

if TYPE_CHECKING:
    import types

_USAGE = "usage: python -m mobula.ray [-m module | -c code | script.py] [arguments]"

install = _alias.install
module = _alias.ray_module


def main(arguments: list[str]) -> None:
    """What the interpreter would do with these arguments, with `ray` as an alias."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if arguments else 2)
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
    folder = _alias.FOLDER
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
    # The program has its own `from __future__ import`, not the one above.
    exec(compile(code, "<string>", "exec", dont_inherit=True), _fresh_main().__dict__)


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
    exec(compile(source, path, "exec", dont_inherit=True), main_module.__dict__)


if __name__ == "__main__":
    # The module that runs must be the one that `install` knows.
    from mobula import ray

    ray.main(sys.argv[1:])
