"""Writes down the public names of Ray Core, module by module, for tests/python/test_public_names.py.

    .venv-ray/bin/python oracle/names_of_ray.py > tests/python/names_of_ray.txt

It runs under the real Ray (`tools/setup oracle`). Public is what a module lists in `__all__`, else
what it defines itself under a name without an underscore; constants are in capitals. One line for each
module: its name, a colon, the names. Modules that need something else to be imported have none here.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

# Libraries on top of Core, and folders that are no part of the API.
OTHERS = [
    *("air", "autoscaler", "core", "dashboard", "data", "llm", "rllib", "scripts", "serve"),
    *("setup-dev", "tests", "thirdparty_files", "train", "tune"),
]
# Names of this kind say nothing: "TYPE_CHECKING", type variables.
NOISE = re.compile(r"TYPE_CHECKING|[A-Z]")
CONSTANT = re.compile(r"[A-Z][A-Z0-9_]+")


def modules(package: ModuleType) -> Iterator[str]:
    """Of a package, and of the packages in it."""
    yield package.__name__
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        last = found.name.rpartition(".")[2]
        is_top = package.__name__ == "ray"
        if last.startswith("_") or last == "conftest" or (is_top and last in OTHERS):
            continue
        module = load(found.name) if found.ispkg else None
        if module is None:
            yield found.name
        else:
            yield from modules(module)


def load(name: str) -> ModuleType | None:
    """None: it needs something that is not installed, or says that it is no longer there."""
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def public_names(module: ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(set(listed))
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not NOISE.fullmatch(name)
        and (
            getattr(value, "__module__", None) == module.__name__
            or (CONSTANT.fullmatch(name) and isinstance(value, (int, float, str, bytes, tuple)))
        )
    )


def main() -> None:
    warnings.simplefilter("ignore")
    import ray

    print(f"# The public names of Ray {ray.__version__}; oracle/names_of_ray.py wrote this.")
    for name in sorted(modules(ray)):
        module = load(name)
        print(f"{name}: {' '.join(public_names(module)) if module else ''}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
