"""Runtime environments on the side of who submits: what was asked for, merged, packed, as a spec.

A spec is a JSON text that says all about an environment: equal specs are one environment. The node
daemon does not look inside; `_environment_setup.py` reads it in the process that prepares it.

It is what users see as runtime_env in tasks, in which local directories are replaced by packages:
copies that do not change any more; and besides "_mobula_setup_hook": {"name": "module.function"} or
{"file": path}. Children inherit the environment of the task that submits them: fields
that they give replace it, except env_vars, which are merged.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mobula import _from_driver
from mobula.runtime_env import RuntimeEnv
from mobula.runtime_env.runtime_env import DEFAULT_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_INSTALLERS = ("pip", "uv", "conda")
_HOOK = "worker_process_setup_hook"
# Private: the hook as it travels.
HOOK_KEY = "_mobula_setup_hook"

# (spec, time limit in ms or 0, whether to prepare it when the job begins)
Spec = tuple[str, int, bool]


def check(runtime_env: Mapping[str, Any] | None) -> RuntimeEnv:
    """TypeError, ValueError: it cannot be."""
    if runtime_env is None:
        return RuntimeEnv()
    if isinstance(runtime_env, RuntimeEnv):
        return runtime_env
    if not isinstance(runtime_env, dict):
        raise TypeError(f"runtime_env must be a dict, not {runtime_env!r}")
    fields = {
        key.removeprefix("_") if key in ("_nsight", "_rocprof_sys") else key: value
        for key, value in runtime_env.items()
    }
    return RuntimeEnv(**fields)


def pack(runtime_env: RuntimeEnv) -> dict[str, Any]:
    """The same with packages instead of what lies in directories of the user. ValueError,
    RuntimeEnvSetupError: it cannot be read or is too large."""
    from mobula import _environment_packages as packages

    packed: dict[str, Any] = {key: value for key, value in runtime_env.items() if value is not None}
    excludes = packed.pop("excludes", None) or []
    if "working_dir" in packed:
        packed["working_dir"] = packages.working_dir(packed["working_dir"], excludes)
    if "py_modules" in packed:
        packed["py_modules"] = [packages.py_module(it, excludes) for it in packed["py_modules"]]
    hook = packed.get(_HOOK)
    if callable(hook):
        packed[_HOOK] = getattr(hook, "__qualname__", None) or repr(hook)
        packed[HOOK_KEY] = {"file": packages.setup_hook(hook)}
    elif hook is not None and HOOK_KEY not in packed:
        packed[HOOK_KEY] = {"name": hook}
    return packed


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """Of packed ones."""
    replaced = set(child)
    if replaced & set(_INSTALLERS):
        replaced |= set(_INSTALLERS)
    merged = {key: value for key, value in parent.items() if key not in replaced}
    merged.update(child)
    variables = {**parent.get("env_vars", {}), **child.get("env_vars", {})}
    if variables:
        merged["env_vars"] = variables
    return merged


def own() -> dict[str, Any]:
    """The packed environment that this process, a worker, runs in."""
    value: dict[str, Any] = json.loads(_from_driver.text(_from_driver.RUNTIME_ENV) or "{}")
    return value


def visible(packed: Mapping[str, Any]) -> RuntimeEnv:
    """What users see of it."""
    return RuntimeEnv(
        _validate=False, **{key: value for key, value in packed.items() if key != HOOK_KEY}
    )


def spec_of(packed: Mapping[str, Any]) -> Spec | None:
    """None: it asks for nothing."""
    fields = {key: packed[key] for key in sorted(packed) if key != "config"}
    if not fields:
        return None
    config = packed.get("config") or {}
    seconds = config.get("setup_timeout_seconds", DEFAULT_TIMEOUT_SECONDS)
    early = bool(config.get("eager_install", True))
    try:
        text = json.dumps(fields)
    except (TypeError, ValueError) as error:
        raise TypeError(f"runtime_env cannot be written as JSON: {error}") from None
    return text, 0 if seconds == -1 else seconds * 1000, early


def is_plain(packed: Mapping[str, Any]) -> bool:
    """Nothing has to be prepared: variables only."""
    return set(packed) <= {"env_vars", "config"}


def expand(variables: Mapping[str, str], environ: dict[str, str]) -> None:
    """Sets the variables, with the values of what they refer to: `${NAME}` and `$NAME`. What is not set
    is empty if it stands in braces."""
    import re

    for name, text in variables.items():
        text = re.sub(
            r"\$(?:\{(\w+)\}|(\w+))",
            lambda found: environ.get(found[1] or found[2], "" if found[1] else found[0]),
            text,
        )
        environ[name] = text


def of_task(runtime_env: RuntimeEnv) -> Spec | None:
    """Of a task that this process submits, with what it inherits. None: as this process."""
    from mobula import _session

    packed = pack(runtime_env)
    inherited = _session.own_runtime_env()
    merged = merge(inherited, packed)
    if {**merged, "config": None} == {**inherited, "config": None}:
        return None
    return spec_of(merged)
