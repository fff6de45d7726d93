"""`RuntimeEnv` and `RuntimeEnvConfig`: dicts whose entries are checked.

They say what a user wants. What becomes of it is in `mobula/_environments.py`.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar.xz")
DEFAULT_TIMEOUT_SECONDS = 600

DEFAULT_RUNTIME_ENV_TIMEOUT_SECONDS = 600

_PIP_FIELDS = ("packages", "pip_check", "pip_install_options", "pip_version")
_UV_FIELDS = ("packages", "uv_check", "uv_version", "uv_pip_install_options")


def is_uri(path: str) -> bool:
    return "://" in path


class RuntimeEnvConfig(dict[str, Any]):
    """How an environment is set up.

    setup_timeout_seconds: how long that may take; -1: any time. eager_install: set up the environment
    of a job when it begins, not with its first task. log_files: Ray's; it means nothing here.
    """

    known_fields = frozenset({"setup_timeout_seconds", "eager_install", "log_files"})

    def __init__(
        self,
        setup_timeout_seconds: int = DEFAULT_TIMEOUT_SECONDS,
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(setup_timeout_seconds, bool) or not isinstance(setup_timeout_seconds, int):
            raise TypeError(
                f"setup_timeout_seconds must be of type int, got: {type(setup_timeout_seconds)}"
            )
        if setup_timeout_seconds <= 0 and setup_timeout_seconds != -1:
            raise ValueError(
                "setup_timeout_seconds must be greater than zero or equals to -1, "
                f"got: {setup_timeout_seconds}"
            )
        if not isinstance(eager_install, bool):
            raise TypeError(f"eager_install must be a boolean. got {type(eager_install)}")
        if log_files is not None and not _is_strings(log_files):
            raise TypeError(
                f"log_files must be a list of strings or None, got {log_files} with type "
                f"{type(log_files)}."
            )
        self["setup_timeout_seconds"] = setup_timeout_seconds
        self["eager_install"] = eager_install
        self["log_files"] = log_files or []

    @classmethod
    def default_config(cls) -> RuntimeEnvConfig:
        return cls()

    @staticmethod
    def parse_and_validate_runtime_env_config(
        config: Mapping[str, Any] | RuntimeEnvConfig,
    ) -> RuntimeEnvConfig:
        """From a dict, too. TypeError, ValueError."""
        if isinstance(config, RuntimeEnvConfig):
            return config
        if not isinstance(config, dict):
            raise TypeError(
                "runtime_env['config'] must be of type dict or RuntimeEnvConfig, "
                f"got: {type(config)}"
            )
        unknown = set(config) - RuntimeEnvConfig.known_fields
        if unknown:
            import logging

            logging.getLogger(__name__).warning(
                "The following unknown entries in the runtime_env_config dictionary will be "
                "ignored: %s.",
                unknown,
            )
        return RuntimeEnvConfig(
            **{key: value for key, value in config.items() if key not in unknown}
        )

    def to_dict(self) -> dict[str, Any]:
        return dict(self)


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_ENV_VARS_MAX = 10_000


def _check_env_vars(value: Any) -> dict[str, str] | None:
    what = "runtime_env['env_vars'] must be of type Dict[str, str]"
    if not isinstance(value, dict):
        raise TypeError(f"{what}, got {type(value)}")
    if len(value) > _ENV_VARS_MAX:  # Each takes longer to set than the one before.
        raise ValueError(
            f"runtime_env['env_vars'] has {len(value):,} variables, but at most {_ENV_VARS_MAX:,} are "
            "allowed"
        )
    for key, text in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{what}, but the key {key} is of type {type(key)}")
        if not isinstance(text, str):
            raise TypeError(f"{what}, but the value {text} is of type {type(text)}")
        if not key or "=" in key or "\0" in key + text:
            raise ValueError(f"runtime_env['env_vars']: no variable can be {key!r}: {text!r}")
    return dict(value) or None


def check_path(path: str, field: str) -> None:
    """A URI, a directory or an archive. ValueError."""
    if is_uri(path):
        scheme = path.split("://")[0]
        if scheme not in ("file", "gcs") and not path.endswith((*ARCHIVES, ".whl")):
            raise ValueError(
                f"Only {', '.join(ARCHIVES)} files are supported for {field} URIs; got {path}."
            )
        return
    if not os.path.exists(os.path.expanduser(path)):
        raise ValueError(f"{path} is not a valid path.")


def _check_working_dir(value: Any) -> str | None:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"`working_dir` must be a string, got {type(value)}.")
    path = os.fspath(value)
    if path:
        check_path(path, "working_dir")
    return path or None


def _check_py_modules(value: Any) -> list[Any] | None:
    if not isinstance(value, list):
        raise TypeError(f"`py_modules` must be a list of strings, got {type(value)}.")
    for module in value:
        if isinstance(module, (str, os.PathLike)):
            check_path(os.fspath(module), "py_modules")
        elif not hasattr(module, "__path__") and not hasattr(module, "__file__"):
            raise TypeError(f"`py_module` must be a string, got {type(module)}.")
    return value or None


def _read_requirements(path: str) -> list[str]:
    file = os.path.expanduser(path)
    if not os.path.isfile(file):
        raise ValueError(f"{path} is not a valid file")
    with open(file, encoding="utf-8") as lines:
        return lines.read().strip().split("\n")


def _check_installer(field: str, value: Any, known: tuple[str, ...]) -> dict[str, Any] | None:
    """pip and uv: a path, a list or a dict with packages."""
    if isinstance(value, str):
        packages: Any = _read_requirements(value)
        result: dict[str, Any] = {}
    elif isinstance(value, list):
        if not _is_strings(value):
            raise TypeError(
                f"runtime_env['{field}'] must be of type str or List[str], got {type(value)}"
            )
        packages, result = value, {}
    elif isinstance(value, dict):
        if set(value) - set(known):
            raise ValueError(
                f"runtime_env['{field}'] can only have these fields: {', '.join(known[:-1])} and "
                f"{known[-1]}, but got: {list(value)}"
            )
        if "packages" not in value:
            raise ValueError(
                f"runtime_env['{field}'] must include field 'packages', but got {value}"
            )
        result = {key: entry for key, entry in value.items() if key != "packages"}
        packages = value["packages"]
        if isinstance(packages, str):
            packages = _read_requirements(packages)
        elif not _is_strings(packages):
            raise ValueError(
                f"runtime_env['{field}']['packages'] must be of type str of list, "
                f"got: {type(packages)}"
            )
    else:
        types = "str or List[str]" if field == "pip" else "List[str], or dict"
        raise TypeError(f"runtime_env['{field}'] must be of type {types}, got {type(value)}")
    _check_installer_options(field, result)
    packages = list(dict.fromkeys(packages))
    if not packages:
        return None
    return {"packages": packages, **result, f"{field}_check": result.get(f"{field}_check", False)}


def _check_installer_options(field: str, options: dict[str, Any]) -> None:
    for key, value in options.items():
        if key.endswith("_check") and not isinstance(value, bool):
            raise TypeError(
                f"runtime_env['{field}']['{key}'] must be of type bool, got {type(value)}"
            )
        if key.endswith("_version") and not isinstance(value, str):
            raise TypeError(
                f"runtime_env['{field}']['{key}'] must be of type str, got {type(value)}"
            )
        if key.endswith("_options") and not _is_strings(value):
            raise TypeError(
                f"runtime_env['{field}']['{key}'] must be of type List[str], got {type(value)}"
            )


def _check_pip(value: Any) -> dict[str, Any] | None:
    return _check_installer("pip", value, _PIP_FIELDS)


def _check_uv(value: Any) -> dict[str, Any] | None:
    result = _check_installer("uv", value, _UV_FIELDS)
    if result is not None and isinstance(value, dict):
        result.setdefault("uv_pip_install_options", ["--no-cache"])
    return result


def _check_conda(value: Any) -> Any:
    if not isinstance(value, (str, dict)):
        raise TypeError(f"runtime_env['conda'] must be of type str or dict, got {type(value)}.")
    if (
        isinstance(value, str)
        and value.endswith((".yml", ".yaml"))
        and not os.path.isfile(os.path.expanduser(value))
    ):
        raise ValueError(f"Can't find conda YAML file {value}.")
    return value


def _check_excludes(value: Any) -> list[str] | None:
    if not _is_strings(value):
        raise TypeError(f"runtime_env['excludes'] must be of type List[str], got {type(value)}")
    return value or None


def _check_py_executable(value: Any) -> str | None:
    if not isinstance(value, str):
        raise TypeError(f"runtime_env['py_executable'] must be of type str, got {type(value)}")
    return value.strip() or None


def _check_hook(value: Any) -> Any:
    if not isinstance(value, str) and not callable(value):
        raise TypeError(f"worker_process_setup_hook must be a function, got {type(value)}.")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "env_vars": _check_env_vars,
    "working_dir": _check_working_dir,
    "py_modules": _check_py_modules,
    "pip": _check_pip,
    "uv": _check_uv,
    "conda": _check_conda,
    "excludes": _check_excludes,
    "py_executable": _check_py_executable,
    "worker_process_setup_hook": _check_hook,
    "config": RuntimeEnvConfig.parse_and_validate_runtime_env_config,
}


class RuntimeEnv(dict[str, Any]):
    """What tasks run in, checked: `RuntimeEnv(env_vars={...}, working_dir=..., pip=[...])`.

    Fields that nobody knows are kept, as plugins could have them. TypeError, ValueError.
    """

    known_fields = frozenset(
        {
            *_CHECKS,
            "container",
            "image_uri",
            "java_jars",
            "_nsight",
            "_rocprof_sys",
            "_inject_current_ray",
            "_ray_commit",
            "_ray_release",
        }
    )
    extensions_fields = frozenset({"_ray_release", "_ray_commit", "_inject_current_ray"})

    def __init__(
        self,
        *,
        py_modules: list[Any] | None = None,
        py_executable: str | None = None,
        working_dir: str | None = None,
        pip: list[str] | dict[str, Any] | str | None = None,
        conda: dict[str, Any] | str | None = None,
        container: dict[str, Any] | None = None,
        env_vars: dict[str, str] | None = None,
        worker_process_setup_hook: Callable[[], Any] | str | None = None,
        nsight: dict[str, str] | str | None = None,
        rocprof_sys: dict[str, Any] | str | None = None,
        config: dict[str, Any] | RuntimeEnvConfig | None = None,
        _validate: bool = True,
        image_uri: str | None = None,
        uv: list[str] | dict[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        given = {
            "py_modules": py_modules,
            "py_executable": py_executable,
            "working_dir": working_dir,
            "pip": pip,
            "uv": uv,
            "conda": conda,
            "_nsight": nsight,
            "_rocprof_sys": rocprof_sys,
            "container": container,
            "env_vars": env_vars,
            "worker_process_setup_hook": worker_process_setup_hook,
            "config": config,
            "image_uri": image_uri,
            **kwargs,
        }
        for key, value in given.items():
            if value is None:
                continue
            if _validate:
                self[key] = value
            else:
                super().__setitem__(key, value)
        if _validate:
            self._check_combination(given)

    def _check_combination(self, given: dict[str, Any]) -> None:
        installers = [given[field] for field in ("pip", "conda", "uv")]
        if sum(installer is not None for installer in installers) > 1:
            raise ValueError(
                "The 'pip' field, 'uv' field, and 'conda' field of runtime_env cannot be specified "
                f"at the same time.\nspecified pip field: {given['pip']}\n"
                f"specified conda field: {given['conda']}\nspecified uv field: {given['uv']}"
            )
        for field in ("container", "image_uri"):
            others = set(self) - {field, "config", "env_vars"}
            if self.get(field) and others:
                raise ValueError(
                    f"The '{field}' field currently cannot be used together with other fields of "
                    f"runtime_env. Specified fields: {others}"
                )

    def __setitem__(self, key: str, value: Any) -> None:
        check = _CHECKS.get(key)
        checked = value if check is None or value is None else check(value)
        if checked is None and value is not None:
            self.pop(key, None)  # It says nothing: an empty list.
            return
        super().__setitem__(key, checked)

    def set(self, name: str, value: Any) -> None:
        self[name] = value

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self.get(key)

    def to_dict(self) -> dict[str, Any]:
        return dict(self)

    def serialize(self) -> str:
        return json.dumps(self, sort_keys=True)

    @classmethod
    def deserialize(cls, serialized_runtime_env: str) -> RuntimeEnv:
        return cls(_validate=False, **json.loads(serialized_runtime_env))

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (dict(self),)

    # ---- what is in it, by methods

    def env_vars(self) -> dict[str, str]:
        return dict(self.get("env_vars") or {})

    def working_dir(self) -> str:
        return str(self.get("working_dir") or "")

    def working_dir_uri(self) -> str | None:
        return self.get("working_dir")

    def has_working_dir(self) -> bool:
        return bool(self.get("working_dir"))

    def py_modules(self) -> list[Any]:
        return list(self.get("py_modules") or [])

    def py_modules_uris(self) -> list[Any]:
        return self.py_modules()

    def py_executable(self) -> str | None:
        return self.get("py_executable")

    def has_pip(self) -> bool:
        return bool(self.get("pip"))

    def pip_config(self) -> dict[str, Any]:
        return dict(self.get("pip") or {})

    def has_uv(self) -> bool:
        return bool(self.get("uv"))

    def uv_config(self) -> dict[str, Any]:
        return dict(self.get("uv") or {})

    def has_conda(self) -> bool:
        return bool(self.get("conda"))

    def image_uri(self) -> str | None:
        return self.get("image_uri")

    def has_py_container(self) -> bool:
        return bool(self.get("container"))

    def java_jars(self) -> list[str]:
        return list(self.get("java_jars") or [])

    def nsight(self) -> Any:
        return self.get("_nsight")

    def rocprof_sys(self) -> Any:
        return self.get("_rocprof_sys")


def _make(fields: dict[str, Any]) -> RuntimeEnv:
    return RuntimeEnv(_validate=False, **fields)
