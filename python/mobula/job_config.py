"""What a program says about itself as a whole: `init(job_config=JobConfig(...))`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobula._logging_config import LoggingConfig

_LIFETIMES = ("detached", "non_detached")


class JobConfig:
    """The configuration of a job.

    runtime_env: as in `init`. ray_namespace: of named actors, as `namespace` in `init`. metadata:
    texts by name, kept as they are. default_actor_lifetime: "detached" or "non_detached". What is
    given to `init` itself wins over what is here. code_search_path: folders for sys.path of workers.
    `init` refuses jvm_options: there is no Java. Other keywords are Ray's own and mean nothing here.
    """

    def __init__(
        self,
        jvm_options: list[str] | None = None,
        code_search_path: list[str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        _client_job: bool = False,
        metadata: dict[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
        _disable_job_level_lineage_reconstruction: bool = False,
        _py_driver_sys_path: list[str] | None = None,
    ) -> None:
        if code_search_path is not None and not isinstance(code_search_path, (list, tuple)):
            raise TypeError(f"code_search_path is a list of paths, not {code_search_path!r}")
        self.jvm_options = jvm_options or []
        self.code_search_path = code_search_path or []
        self.runtime_env: Any = runtime_env or {}
        self.metadata: dict[str, str] = {}
        self.ray_namespace = ray_namespace
        self.py_logging_config: LoggingConfig | None = None
        self.set_default_actor_lifetime(default_actor_lifetime)
        for key, value in (metadata or {}).items():
            self.set_metadata(key, value)

    def set_metadata(self, key: str, value: str) -> None:
        """TypeError: key or value is no text."""
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"Metadata of a job are texts, but there is {key!r}: {value!r}")
        self.metadata[key] = value

    def set_ray_namespace(self, ray_namespace: str) -> None:
        self.ray_namespace = ray_namespace

    def set_runtime_env(
        self, runtime_env: Mapping[str, Any] | None, validate: bool = False
    ) -> None:
        """`validate` changes nothing: `init` checks it."""
        self.runtime_env = runtime_env if runtime_env is not None else {}

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """ValueError: neither "detached" nor "non_detached"."""
        if default_actor_lifetime not in _LIFETIMES:
            raise ValueError(
                f"The default lifetime of actors is one of {_LIFETIMES}, "
                f"not {default_actor_lifetime!r}"
            )
        self.default_actor_lifetime = default_actor_lifetime

    def set_py_logging_config(self, logging_config: LoggingConfig | None = None) -> None:
        """As `logging_config` in `init`."""
        self.py_logging_config = logging_config

    @classmethod
    def from_json(cls, job_config_json: Mapping[str, Any]) -> JobConfig:
        """From what a JSON object has under the names of the constructor's arguments."""
        job_config = cls(
            jvm_options=job_config_json.get("jvm_options"),
            code_search_path=job_config_json.get("code_search_path"),
            runtime_env=job_config_json.get("runtime_env"),
            metadata=job_config_json.get("metadata"),
            ray_namespace=job_config_json.get("ray_namespace"),
        )
        lifetime = job_config_json.get("default_actor_lifetime")
        if lifetime is not None:
            job_config.set_default_actor_lifetime(lifetime)
        return job_config


def of_init(
    job_config: JobConfig | None,
    namespace: str | None,
    runtime_env: dict[str, Any] | None,
    logging_config: LoggingConfig | None,
) -> JobConfig:
    """What `init` was given, in one: its own arguments win over the JobConfig. TypeError,
    NotImplementedError."""
    from mobula._logging_config import LoggingConfig

    given = JobConfig() if job_config is None else job_config
    if not isinstance(given, JobConfig):
        raise TypeError(f"job_config must be a mobula.job_config.JobConfig, not {given!r}")
    if given.jvm_options:
        raise NotImplementedError("jvm_options of JobConfig is not supported: Python only")
    logging_config = given.py_logging_config if logging_config is None else logging_config
    if logging_config is not None and not isinstance(logging_config, LoggingConfig):
        raise TypeError(f"logging_config must be a mobula.LoggingConfig, not {logging_config!r}")
    job = JobConfig(
        code_search_path=_check_paths(given.code_search_path),
        runtime_env=given.runtime_env if runtime_env is None else runtime_env,
        metadata=given.metadata,
        ray_namespace=given.ray_namespace if namespace is None else namespace,
        default_actor_lifetime=given.default_actor_lifetime,
    )
    job.set_py_logging_config(logging_config)
    return job


def _check_paths(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    if isinstance(paths, (str, bytes)):
        raise TypeError(f"code_search_path is a list of paths, not a text: {paths!r}")
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"code_search_path is a list of paths, but there is {path!r}")
    return [os.path.abspath(path) for path in paths]


__all__ = ["JobConfig"]
