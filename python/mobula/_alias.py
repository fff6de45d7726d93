"""`ray` as a name of Mobula in this process: `import ray` gives a module of its own with that name and
Ray's version, which has the attributes of `mobula`, and `ray.x` is the module `mobula.x`.

`python -m mobula.ray` installs it, and so does what the distribution mobula-as-ray brings.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from typing import Any

from mobula._version import RAY_VERSION

# Set for workers, which install the alias, too.
VARIABLE = "MOBULA_AS_RAY"

# In this folder interpreters that a program starts find `ray`, and the metadata of its distribution.
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_as_ray")


_ray: types.ModuleType | None = None


def ray_module() -> types.ModuleType:
    """The module `ray`; there is one in a process."""
    global _ray
    if _ray is None:
        mobula = importlib.import_module("mobula")
        made = types.ModuleType("ray", mobula.__doc__)
        # Copied, so that `ray.get` costs what `mobula.get` does.
        made.__dict__.update({k: v for k, v in vars(mobula).items() if not _is_own(k)})
        made.__dict__.update(
            __all__=mobula.__all__,
            __commit__="",  # As `init` says it.
            __file__=mobula.__file__,
            __getattr__=_attribute_of_ray,
            __path__=mobula.__path__,
            __version__=RAY_VERSION,
        )
        _ray = made
    return _ray


def _is_own(name: str) -> bool:
    """Names that say which module this is."""
    return name.startswith("__") and name.endswith("__")


def _attribute_of_ray(name: str) -> Any:
    """What `mobula` imports when it is first asked for."""
    if not _is_own(name):
        try:
            return getattr(sys.modules["mobula"], name)
        except AttributeError:
            pass
    raise AttributeError(f"module 'ray' has no attribute {name!r}", name=name, obj=_ray)


class _AliasLoader(importlib.abc.Loader):
    """Gives a module of Mobula, which is imported once, whatever it is called."""

    def __init__(self, real_name: str) -> None:
        self._real_name = real_name
        self._kept: dict[str, object] = {}

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        if self._real_name == "mobula":
            return ray_module()
        real = importlib.import_module(self._real_name)
        # The import system writes its own idea of these into the module.
        self._kept = {
            name: getattr(real, name)
            for name in ("__name__", "__spec__", "__loader__", "__package__", "__path__")
            if hasattr(real, name)
        }
        return real

    def exec_module(self, module: types.ModuleType) -> None:
        for name, value in self._kept.items():
            setattr(module, name, value)


def spec_of_alias(name: str, real_name: str) -> importlib.machinery.ModuleSpec | None:
    """Of the module `real_name` under another name. None: there is no such module."""
    real = importlib.util.find_spec(real_name)
    if real is None:
        return None
    is_package = real.submodule_search_locations is not None
    loader = _AliasLoader(real_name)
    spec = importlib.machinery.ModuleSpec(name, loader, origin=real.origin, is_package=is_package)
    spec.has_location = real.has_location
    if real.submodule_search_locations is not None:
        spec.submodule_search_locations = list(real.submodule_search_locations)
    return spec


class _AliasFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "ray" and not fullname.startswith("ray."):
            return None
        return spec_of_alias(fullname, "mobula" + fullname[len("ray") :])


def install() -> None:
    """From now on `import ray` means Mobula, in this process and in the workers of its sessions."""
    os.environ[VARIABLE] = "1"
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AliasFinder())
    for name in [n for n in sys.modules if n == "ray" or n.startswith("ray.")]:
        del sys.modules[name]


def is_installed() -> bool:
    """Does this process say `import ray` to Mobula?"""
    return _ray is not None and sys.modules.get("ray") is _ray
