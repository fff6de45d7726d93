"""The three ways in which a library runs: on Ray, and on Mobula with and without the shim."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from oracle.engines import LOOPBACK, MARK_VARIABLE

CPUS = 2
NOT_INHERITED = ("RAY_", "MOBULA_", "ORACLE_", "PYTHON", "PYTEST_", "CUDA_", "XDG_", "VIRTUAL_")


@dataclass(frozen=True)
class Way:
    name: str
    packages: tuple[str, ...]  # Of libraries/environments.py; seen behind those of the library.
    launcher: tuple[str, ...]  # What stands between `python` and the program.
    title: str


WAYS = {
    way.name: way
    for way in (
        Way("ray", ("ray",), (), "Ray 2.60"),
        Way("mobula", ("mobula",), ("-m", "mobula.ray"), "`python -m mobula.ray`"),
        Way("shim", ("mobula", "mobula-as-ray"), (), "mobula-as-ray"),
    )
}


@functools.cache
def network_prefix() -> tuple[str, ...]:
    """What gives a command a network with nothing but loopback in it: Ray listens on all addresses,
    and no library has anything to fetch. Empty if the kernel does not allow that."""
    prefix = (sys.executable, str(LOOPBACK))
    allowed = subprocess.run([*prefix, "/bin/true"], capture_output=True).returncode == 0
    return prefix if allowed else ()


def variables(python: Path, folder: Path, mark: str, said: Mapping[str, str]) -> dict[str, str]:
    """The environment of a run, whose files all go to `folder`; with what its case says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    return {
        **kept,
        MARK_VARIABLE: mark,
        "HOME": str(folder / "home"),
        # Kept: to look at all fonts takes a second or two, and has nothing to do with Ray.
        "MPLCONFIGDIR": str(python.parents[2] / "matplotlib"),
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
        "RAY_worker_niceness": "0",  # As Mobula's: what else runs slows down both alike.
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "TMPDIR": str(folder),
        "VIRTUAL_ENV": str(python.parent.parent),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        **{name: value.replace("{work}", str(folder / "work")) for name, value in said.items()},
    }


def bound_cpus() -> None:
    """In the child, before its program starts: no way has more CPUs than another machine may have."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:CPUS]))
