"""Prepares a runtime environment, in the process that becomes its zygote.

The daemon starts `python -c <bootstrap> zygote|worker <socket> <daemon's pid> <memory>` with the job's
interpreter, directory and variables, and the spec (see `_environments.py`) in the memory. This
makes what the spec asks for, and replaces the process by the environment's interpreter, which goes on
as zygote or worker. If it cannot, it says so on the socket and on standard output, a log whose last
lines users see, and ends.

The daemon ends the whole process group when it takes too long, or when nobody wants it any more.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mobula import (
    _environment_install,
    _environments,
    _from_driver,
    _setup_memory,
    _worker_path,
    exceptions,
)

_SESSION_VARIABLE = "MOBULA_SESSION_DIRECTORY"

_UNSUPPORTED = {
    "conda": "conda environments are not supported: use pip or uv, or start the driver in that "
    "environment",
    "container": "containers are not supported: start the driver in one",
    "image_uri": "containers are not supported: start the driver in one",
    "java_jars": "there is no Java here",
    "_nsight": "the profiler nsight is not supported: run it on the driver, or use py_executable",
    "_rocprof_sys": "the profiler rocprof-sys is not supported: use py_executable",
}


def main(
    role: str, descriptor: int, daemon_pid: int, spec: str, late: Mapping[str, str]
) -> NoReturn:
    """late: the variables that are not set yet. Does not return."""
    try:
        command, path, environ = _prepare(json.loads(spec), late)
        now, late = _setup_memory.split(environ)
        memory = _setup_memory.make(path, late)
        numbers = [str(number) for number in (descriptor, daemon_pid, memory)]
        arguments = [*command, "-c", sys.orig_argv[2], role, *numbers]
        os.set_inheritable(descriptor, True)
        os.execvpe(arguments[0], arguments, now)
    except BaseException as error:
        _fail(role, descriptor, error)


def _fail(role: str, descriptor: int, error: BaseException) -> NoReturn:
    if isinstance(error, exceptions.RuntimeEnvSetupError):
        text = error.error_message or ""
    elif isinstance(error, OSError):
        text = str(error)
    else:
        import traceback

        text = "".join(traceback.format_exception(error))
    print(text, flush=True)
    if role == "zygote":
        control = socket.socket(fileno=descriptor)
        control.send(json.dumps({"unfit": text[:4000]}).encode())
    os._exit(1)


def _prepare(
    packed: dict[str, Any], late: Mapping[str, str]
) -> tuple[list[str], list[str], dict[str, str]]:
    """The command of the interpreter, its sys.path, and the environment variables."""
    for field, why in _UNSUPPORTED.items():
        if packed.get(field):
            raise exceptions.RuntimeEnvSetupError(f"runtime_env[{field!r}]: {why}.")
    environ = {**os.environ, **late}
    session = Path(environ.pop(_SESSION_VARIABLE))
    first: list[str] = []  # Of sys.path.
    if packed.get("working_dir"):
        folder = _working_copy(packed["working_dir"], session)
        os.chdir(folder)
        environ["PWD"] = str(folder)
        first.append(str(folder))
    for uri in packed.get("py_modules") or ():
        first.append(str(_working_copy(uri, session)))
    path = [*first, *sys.path]
    if first:
        rest = environ.get("PYTHONPATH")
        environ["PYTHONPATH"] = os.pathsep.join([*first, *([rest] if rest else [])])
    command = [sys.executable]
    installed = _environment_install.of(packed)
    if installed is not None:
        command = [str(installed.python)]
        path = _worker_path.with_site_packages(path, installed.site_packages)
        environ["VIRTUAL_ENV"] = str(installed.folder)
        environ["PATH"] = f"{installed.python.parent}{os.pathsep}{environ.get('PATH', '')}"
    if packed.get("py_executable"):
        command = shlex.split(packed["py_executable"])
        if shutil.which(command[0], path=environ.get("PATH")) is None:
            raise exceptions.RuntimeEnvSetupError(
                f"runtime_env['py_executable']: there is no program {command[0]!r}."
            )
    _environments.expand(packed.get("env_vars") or {}, environ)
    environ[_from_driver.RUNTIME_ENV] = json.dumps(packed)
    if _environments.HOOK_KEY in packed:
        environ[_from_driver.SETUP_HOOK] = json.dumps(packed[_environments.HOOK_KEY])
    return command, path, environ


def _working_copy(uri: str, session: Path) -> Path:
    """Of this session: tasks may write there, and packages do not change."""
    from mobula import _environment_packages

    package = _environment_packages.folder_of(uri)
    target = session / "runtime_env" / package.name
    if target.is_dir():
        return target
    target.parent.mkdir(exist_ok=True, mode=0o700)
    copy = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(package, copy, symlinks=True, ignore=shutil.ignore_patterns(".complete"))
    try:
        copy.rename(target)
    except OSError:  # Another one was faster.
        shutil.rmtree(copy, ignore_errors=True)
        if not target.is_dir():
            raise
    return target


def run_hook() -> None:
    """In a worker, before its first task: the environment's worker_process_setup_hook."""
    text = _from_driver.text(_from_driver.SETUP_HOOK)
    if not text:
        return
    hook = json.loads(text)
    if "name" in hook:
        import importlib

        module, _, name = hook["name"].rpartition(".")
        if not module:
            raise ValueError(f"worker_process_setup_hook is 'module.function', not {name!r}")
        getattr(importlib.import_module(module), name)()
        return
    import pickle

    with open(hook["file"], "rb") as file:
        function = pickle.load(file)
    function()
