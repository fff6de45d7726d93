"""The virtual environments in .venv-libraries, made from libraries/environments.

    NAME/base         what NAME.txt pins, installed without what these ask for; never Ray, never Mobula
    NAME/ray          sees the packages of base, then those of the environment `ray`
    NAME/mobula       the same with `mobula`; nothing is installed in these three
    NAME/shim         the same with `mobula` and `mobula-as-ray`
    ray               Ray, as requirements/oracle.txt has it
    mobula            the wheel of dist/, and what it needs
    mobula-as-ray     the wheel of the shim
    sdists            archives of libraries that bring tests or examples

Each remembers what it was made from, and is made anew when that has changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from libraries.ways import Way

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "libraries" / "environments"
VENVS = ROOT / ".venv-libraries"
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
RAY_REQUIREMENTS = ROOT / "requirements" / "oracle.txt"
STAMP = "made-from"
# Each way brings its own.
NEVER = {"ray", "mobula", "mobula-as-ray"}
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)")


class EnvironmentFailed(Exception):
    """An environment cannot be made, or has what it must not have."""


def normal(name: str) -> str:
    """The name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, str]:
    """{distribution: version} of a file in libraries/environments."""
    pins: dict[str, str] = {}
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        match = PIN.fullmatch(line)
        if match is None:
            raise EnvironmentFailed(f"not a full pin: {line!r}")
        name = normal(match.group(1))
        if name in NEVER:
            raise EnvironmentFailed(f"{name} does not belong here")
        if name in pins:
            raise EnvironmentFailed(f"{name} is pinned twice")
        pins[name] = match.group(2)
    return pins


def installed(site: Path) -> dict[str, str]:
    """{distribution: version} of what lies in a folder of packages."""
    found = {}
    for folder in site.glob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        found[normal(name)] = version
    return found


def site_packages(venv: Path) -> Path:
    (site,) = venv.glob("lib/python3*/site-packages")
    return site


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Two runners do not make the same environment."""
    VENVS.mkdir(exist_ok=True)
    with open(VENVS / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(name: str, way: Way) -> Path:
    """The interpreter of the environment for `way`, made if it is not there."""
    with locked():
        base = _base(name)
        sites = [site_packages(base), *(site_packages(_packages(one)) for one in way.packages)]
        return _thin(VENVS / name / way.name, sites)


def pins_of(name: str) -> dict[str, str]:
    path = PINS / f"{name}.txt"
    if not path.exists():
        raise EnvironmentFailed(f"there is no {path.relative_to(ROOT)}")
    return read_pins(path.read_text())


def base_of(name: str) -> Path:
    return VENVS / name / "base"


def _base(name: str) -> Path:
    pins = pins_of(name)
    made_from = "".join(f"{package}=={version}\n" for package, version in sorted(pins.items()))
    venv = base_of(name)
    if not _is_made(venv, made_from):
        _make_venv(venv)
        pinned = venv / "pins.txt"
        pinned.write_text(made_from)
        _pip(venv, "--no-deps", "-r", pinned)
        there = installed(site_packages(venv))
        if NEVER & set(there):
            raise EnvironmentFailed(f"{name} has {', '.join(sorted(NEVER & set(there)))}")
        _stamp(venv, made_from)
    return venv


def _packages(name: str) -> Path:
    """An environment that others look into."""
    venv = VENVS / name
    if name == "ray":
        options: Sequence[str | Path] = ("-c", CONSTRAINTS, "-r", RAY_REQUIREMENTS)
        made_from = RAY_REQUIREMENTS.read_text() + CONSTRAINTS.read_text()
    else:
        wheel = newest_wheel(name)
        with_needs: Sequence[str | Path] = (
            ("-c", CONSTRAINTS) if name == "mobula" else ("--no-deps",)
        )
        options = (*with_needs, wheel)
        made_from = f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    if not _is_made(venv, made_from):
        _make_venv(venv)
        _pip(venv, *options)
        _stamp(venv, made_from)
    return venv


def newest_wheel(name: str) -> Path:
    wheels = list((ROOT / "dist").glob(f"{name.replace('-', '_')}-*.whl"))
    if not wheels:
        raise EnvironmentFailed(f"no wheel of {name} in dist: run `make wheel`")
    return max(wheels, key=lambda path: path.stat().st_mtime)


def _thin(venv: Path, sites: list[Path]) -> Path:
    """A venv without packages that sees those of `sites`, the first first; their .pth files count."""
    line = "import site; " + "; ".join(f"site.addsitedir({str(site)!r})" for site in sites)
    if not _is_made(venv, line):
        _make_venv(venv)
        (site_packages(venv) / "libraries.pth").write_text(f"{line}\n")
        _stamp(venv, line)
    return venv / "bin" / "python"


def _make_venv(venv: Path) -> None:
    print(f"libraries: making {venv.relative_to(VENVS.parent)}", file=sys.stderr, flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    _quietly([sys.executable, "-m", "venv", "--without-pip", venv])


def _pip(venv: Path, *options: str | Path) -> None:
    for_it = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "-q"]
    _quietly([*for_it, "--disable-pip-version-check", *options])


def _quietly(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        shown = " ".join(map(str, command))
        raise EnvironmentFailed(f"{shown}\n{(done.stdout + done.stderr)[-3000:]}")


def _is_made(venv: Path, made_from: str) -> bool:
    stamp = venv / STAMP
    return stamp.exists() and stamp.read_text() == f"{venv}\n{made_from}"


def _stamp(venv: Path, made_from: str) -> None:
    """A venv knows its own path, so one that was moved here counts as not made."""
    (venv / STAMP).write_text(f"{venv}\n{made_from}")


def sdist(library: str, version: str, file: str, sha256: str) -> Path:
    """The archive of a library's source, downloaded once, and checked each time."""
    folder = VENVS / "sdists"
    path = folder / file
    with locked():
        if not path.exists():
            folder.mkdir(exist_ok=True)
            print(f"libraries: downloading {file}", file=sys.stderr, flush=True)
            options = ("-q", "--no-deps", "--no-binary", library, "-d", folder)
            _quietly([sys.executable, "-m", "pip", "download", *options, f"{library}=={version}"])
        if not path.exists():
            raise EnvironmentFailed(f"{library} {version} has no sdist {file}")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise EnvironmentFailed(f"{file} has the SHA-256 {found}, not {sha256}")
    return path
