"""Packages that a runtime environment has installed: `pip` and `uv`.

Each distinct list is one virtual environment in the cache, over the interpreter of the driver: what
is installed there is there too, unless the list says otherwise. What the tools say goes to standard
output.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobula import _cache, exceptions

_ENV_DIRECTORY = "RAY_RUNTIME_ENV_CREATE_WORKING_DIR"


@dataclass
class Installed:
    folder: Path
    python: Path
    site_packages: list[str]


def of(packed: dict[str, Any]) -> Installed | None:
    """What the environment asks for; None if it asks for no packages. RuntimeEnvSetupError."""
    for field in ("pip", "uv"):
        if packed.get(field):
            return _virtual_environment(field, packed[field])
    return None


def _virtual_environment(field: str, wanted: dict[str, Any]) -> Installed:
    identity = json.dumps(
        [
            field,
            wanted,
            _local_files(wanted["packages"]),
            sys.executable,
            sys.version,
            _parents(),
            _sees_system_packages(),
        ]
    )
    key = hashlib.sha256(identity.encode()).hexdigest()[:32]

    def make(folder: Path) -> None:
        _make(folder, field, wanted)

    folder = _cache.get_or_make("venvs", key, make)
    _hold(folder)
    python = folder / "bin" / "python"
    purelib = sysconfig.get_path("purelib", "venv", vars={"base": str(folder)})
    # With what .pth files there add.
    code = "import sys, json; print(json.dumps(sys.path))"
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    answer = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, env=clean
    )
    if answer.returncode != 0:
        raise exceptions.RuntimeEnvSetupError(
            f"{python} does not run:\n{answer.stderr}\nRemove {folder} to have it made anew."
        )
    path = [entry for entry in json.loads(answer.stdout.splitlines()[-1]) if entry]
    more = [entry for entry in path if entry not in sys.path and entry != purelib]
    inside = [entry for entry in more if not entry.startswith((sys.base_prefix, sys.prefix))]
    return Installed(folder, python, [purelib, *inside])


def _hold(folder: Path) -> None:
    """The process that this one becomes holds the folder as long as it lives."""
    descriptor = _cache.hold(folder)
    os.set_inheritable(descriptor, True)


def _parents() -> list[str]:
    """Where the driver's own packages are."""
    return [
        entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")
    ]


def _sees_system_packages() -> bool:
    """Not in a virtual environment that is closed to those of the interpreter below: workers do not
    see them then, so they must not count as installed."""
    if sys.prefix == sys.base_prefix:
        return True
    scheme = {"base": sys.base_prefix, "platbase": sys.base_prefix}
    return sysconfig.get_path("purelib", "posix_prefix", vars=scheme) in sys.path


def _local_files(packages: list[str]) -> list[list[Any]]:
    """Requirements that are files or directories here, as they are now: another content is another
    environment."""
    found: list[list[Any]] = []
    for requirement in packages:
        path = requirement.split("@")[-1].strip().removeprefix("-e").strip().removeprefix("file://")
        if os.sep not in path and not path.endswith((".whl", ".zip", ".tar.gz", ".txt")):
            continue
        path = path.split("[")[0]
        if os.path.isfile(path):
            found.append([path, hashlib.sha256(Path(path).read_bytes()).hexdigest()])
        elif os.path.isdir(path):
            newest = max(
                (
                    os.stat(os.path.join(where, name)).st_mtime_ns
                    for where, _, names in os.walk(path)
                    for name in names
                ),
                default=0,
            )
            found.append([path, newest])
    return found


def _run(command: list[str], what: str) -> None:
    """RuntimeEnvSetupError: it failed. What it says is in the log."""
    print("+", " ".join(command), flush=True)
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    environ.pop("PYTHONPATH", None)
    try:
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=environ, check=False
        ).returncode
    except OSError as error:
        raise exceptions.RuntimeEnvSetupError(f"{what} could not be started: {error}") from error
    if code != 0:
        raise exceptions.RuntimeEnvSetupError(
            f"{what} failed with exit code {code}. Correct the runtime_env, and submit the tasks "
            f"again. The command was: {' '.join(command)}"
        )


def _make(folder: Path, field: str, wanted: dict[str, Any]) -> None:
    own_pip = field == "pip" and wanted.get("pip_version")
    tool = [] if own_pip or field == "uv" else _pip_of_driver()
    options = [] if tool or field == "uv" else ["--clear"]
    without = ["--without-pip"] if tool or field == "uv" else []
    system = ["--system-site-packages"] if _sees_system_packages() else []
    _run(
        [sys.executable, "-m", "venv", *system, *without, *options, str(folder)],
        "Making a virtual environment",
    )
    python = str(folder / "bin" / "python")
    _add_parents(folder)
    if field == "uv":
        _install_with_uv(folder, python, wanted)
        return
    if own_pip:
        requirement = "pip" + wanted["pip_version"]
        _run([python, "-m", "pip", "install", requirement], f"Installing {requirement}")
    pip = [*tool, "--python", python] if tool else [python, "-m", "pip"]
    requirements = _write_requirements(folder, wanted["packages"])
    more = wanted.get("pip_install_options") or ["--no-warn-script-location"]
    _run([*pip, "install", *more, "-r", requirements], "pip install")
    if wanted.get("pip_check"):
        _run([*pip, "check"], "pip check")


def _pip_of_driver() -> list[str]:
    """A pip that can install for another interpreter; empty if the driver's has none."""
    command = [sys.executable, "-m", "pip"]
    said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    try:
        version = tuple(int(part) for part in said.stdout.split()[1].split(".")[:2])
    except (IndexError, ValueError):
        return []
    return command if said.returncode == 0 and version >= (22, 3) else []


def _add_parents(folder: Path) -> None:
    """A virtual environment made in another one sees the packages of the interpreter below, but not
    those of that one."""
    purelib = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    (purelib / "_mobula_parents.pth").write_text("\n".join(_parents()) + "\n")


def _write_requirements(folder: Path, packages: list[str]) -> str:
    path = folder / "requirements.txt"
    lines = [line.replace("${" + _ENV_DIRECTORY + "}", os.getcwd()) for line in packages]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _install_with_uv(folder: Path, python: str, wanted: dict[str, Any]) -> None:
    uv = shutil.which("uv")
    command = [uv] if uv else []
    version = wanted.get("uv_version")
    if version or not command:
        requirement = "uv" + (version or "")
        pip = _pip_of_driver()
        if not pip:
            _run([python, "-m", "ensurepip"], "Installing pip")
            pip = [python, "-m", "pip"]
        target = folder / "uv"
        _run(
            [*pip, "install", "--no-warn-script-location", "--target", str(target), requirement],
            f"Installing {requirement}",
        )
        command = [str(target / "bin" / "uv")]
    requirements = _write_requirements(folder, wanted["packages"])
    more = wanted.get("uv_pip_install_options", ["--no-cache"])
    _run(
        [*command, "pip", "install", "--python", python, *more, "-r", requirements],
        "uv pip install",
    )
    if wanted.get("uv_check"):
        _run([*command, "pip", "check", "--python", python], "uv pip check")
