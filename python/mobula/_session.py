"""The session of this process: starting it, what it says about itself, and ending it.

A driver has at most one session at a time: a node daemon of its own, the connection to it, and a
thread that prints what workers print. A worker's session is made by `_worker.py` and ends with it.

Threads: all functions may be called by any; one lock makes init and shutdown exclude each other.
After os.fork() the child has no session, and nothing here does anything at its exit.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

from mobula import _core, exceptions
from mobula import job_config as _job_config
from mobula._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mobula._context import Context
    from mobula._daemon import PrivateDaemon
    from mobula._logging_config import LoggingConfig
    from mobula._logs import LogPrinter

_STORE_BYTES_MIN = 75 * 1024 * 1024

_NOT_STARTED = "Mobula is not started in this process, or was shut down: call mobula.init() first."
_TWICE = (
    "init() was called twice. Pass ignore_reinit_error=True to keep the session that exists, or call "
    "shutdown() before init()."
)


class _Driver:
    """What a driver's session consists of besides the connection that `_core` holds."""

    def __init__(
        self, daemon: PrivateDaemon, labels: Mapping[str, str], runtime_env: Mapping[str, Any]
    ) -> None:
        self.pid = os.getpid()
        self.daemon = daemon
        self.labels = labels
        self.runtime_env = runtime_env
        self.printer: LogPrinter | None = None


_lock = threading.RLock()
_driver: _Driver | None = None
_is_worker = False
_this_thread = threading.local()


def serve_session() -> None:
    """The calling thread ends with the session: it must never start one."""
    _this_thread.serves_a_session = True


def become_worker() -> None:
    """This process is a worker: its session is not for init and shutdown to make or end."""
    global _is_worker
    _is_worker = True


def is_initialized() -> bool:
    """Has `init` been called in this process, and not `shutdown` since? True in tasks."""
    return _core.is_connected()


def require_session() -> None:
    """RaySystemError if there is none."""
    if not _core.is_connected():
        raise exceptions.RaySystemError(_NOT_STARTED)


def auto_init() -> None:
    """For the first use of anything that needs a session."""
    if (
        _is_worker
        or getattr(_this_thread, "serves_a_session", False)
        or os.environ.get("MOBULA_ENABLE_AUTO_CONNECT") == "0"
    ):
        raise exceptions.RaySystemError(_NOT_STARTED)
    with _lock:
        if not _core.is_connected():
            init()


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    job_config: _job_config.JobConfig | None = None,
    configure_logging: bool = True,
    logging_level: int | str = "info",
    logging_format: str | None = None,
    logging_config: LoggingConfig | None = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    enable_resource_isolation: bool = False,
    cgroup_path: str | None = None,
    system_reserved_cpu: float | None = None,
    system_reserved_memory: int | None = None,
    proxy_server_url: str | None = None,
    **kwargs: Any,
) -> Context:
    """Starts Mobula on this machine, for this process.

    address: None or "local"; there are no clusters to connect to yet (ConnectionError).
    num_cpus, num_gpus, resources: what tasks may use; CPUs and GPUs are counted if not given.
    object_store_memory: bytes; 30 % of the free memory if not given.
    log_to_driver: print here what tasks print (default).
    namespace: of named actors.
    runtime_env: {"env_vars": {...}}, set in all workers.
    job_config: a JobConfig with namespace and runtime_env, where they are not given here.
    logging_config: a LoggingConfig for the root loggers here and in workers.
    ignore_reinit_error: return the session that exists instead of raising RuntimeError.

    docs/compatibility.md lists what else Ray's `init` takes. The result can be used in `with`.
    """
    _check_keywords(kwargs)
    if local_mode:
        raise RuntimeError("local_mode is not supported: it does not run tasks as tasks")
    with _lock:
        if _core.is_connected():
            if not ignore_reinit_error:
                raise RuntimeError(_TWICE)
            return _context()
        if configure_logging:
            _configure_logging(logging_level, logging_format)
        _check_address(address)
        job = _job_config.of_init(job_config, namespace, runtime_env, logging_config)
        if enable_resource_isolation:
            raise NotImplementedError("enable_resource_isolation is not supported yet")
        _start(
            _node_resources(num_cpus, num_gpus, resources),
            _store_bytes(object_store_memory),
            _check_labels(labels),
            _check_namespace(job.ray_namespace),
            _check_runtime_env(job.runtime_env),
            job.py_logging_config,
            log_to_driver is not False,
            kwargs.get("_temp_dir"),
        )
        try:
            return _context()
        except exceptions.RaySystemError as error:
            raise _died_at_once(error) from error


def _died_at_once(error: exceptions.RaySystemError) -> ConnectionError:
    """The daemon died as soon as it had welcomed us."""
    said = _driver.daemon.last_words() if _driver is not None else ""
    shutdown()
    return ConnectionError(f"{error}\n{said}" if said else str(error))


def shutdown(_exiting_interpreter: bool = False) -> None:
    """Ends the session: its tasks, its processes, its objects. Everything that tasks printed is
    printed when it returns. Does nothing without a session, in a worker, and in a forked child."""
    global _driver
    with _lock:
        driver = _driver
        if _is_worker or driver is None or driver.pid != os.getpid():
            return
        _driver = None
        try:
            _core.disconnect()
        finally:
            driver.daemon.stop()
            _end_futures()
            if driver.printer is not None:
                driver.printer.join()


atexit.register(shutdown, True)


def _end_futures() -> None:
    futures = sys.modules.get("mobula._futures")
    if futures is not None:
        futures.end_session()


_LABELS_VARIABLE = "MOBULA_NODE_LABELS"
_RUNTIME_ENV_VARIABLE = "MOBULA_JOB_RUNTIME_ENV"


def driver_labels() -> Mapping[str, str]:
    """The labels that the driver gave the node; workers have them from it."""
    if _is_worker:
        return _from_driver(_LABELS_VARIABLE)
    return _driver.labels if _driver is not None else {}


def job_runtime_env() -> Mapping[str, Any]:
    """The runtime environment that `init` was given."""
    if _is_worker:
        return _from_driver(_RUNTIME_ENV_VARIABLE)
    return _driver.runtime_env if _driver is not None else {}


def _from_driver(variable: str) -> Mapping[str, Any]:
    import json

    value: Mapping[str, Any] = json.loads(os.environ.get(variable, "{}"))
    return value


def _for_workers(
    labels: Mapping[str, str],
    runtime_env: Mapping[str, Any],
    logging_config: LoggingConfig | None,
) -> dict[str, str]:
    import json

    logging_settings = json.dumps(logging_config.to_dict()) if logging_config else ""
    return {
        _LABELS_VARIABLE: json.dumps(dict(labels)),
        _RUNTIME_ENV_VARIABLE: json.dumps(dict(runtime_env)),
        "MOBULA_LOGGING_CONFIG": logging_settings,
    }


# ---- parts of init ---------------------------------------------------------------------------


def _start(
    resources: dict[str, float],
    store_bytes: int,
    labels: Mapping[str, str],
    namespace: str,
    runtime_env: Mapping[str, Any],
    logging_config: LoggingConfig | None,
    log_to_driver: bool,
    temp_dir: str | None,
) -> None:
    global _driver
    from mobula import _daemon, _log_repeats
    from mobula._logs import LogPrinter

    repeats = _log_repeats.settings_of()
    daemon = _daemon.start_private_daemon(
        resources=resources, object_store_memory=store_bytes, temp_dir=temp_dir
    )
    try:
        _core.connect(
            daemon.take_socket(),
            {
                "is_driver": True,
                "python": sys.executable,
                "working_directory": os.getcwd(),
                "sys_path": _worker_path(),
                "environment": {
                    **os.environ,
                    **_for_workers(labels, runtime_env, logging_config),
                    **runtime_env.get("env_vars", {}),
                },
                "log_to_driver": log_to_driver,
                "job_namespace": namespace,
                "infeasible_is_error": infeasible_is_error(),
            },
        )
    except ConnectionError as error:
        said = daemon.last_words()
        daemon.stop()
        raise ConnectionError(f"{error}\n{said}" if said else str(error)) from error
    except BaseException:
        daemon.stop()
        raise
    _driver = _Driver(daemon, labels, runtime_env)
    if logging_config is not None:
        logging_config._apply()
    if log_to_driver:
        # Configured log records say themselves whose they are, and JSON must stay JSON.
        _driver.printer = LogPrinter(repeats, labels=logging_config is None)


def infeasible_is_error() -> bool:
    """Do tasks that no node can ever run fail? By default they wait for a node that can."""
    return os.environ.get("MOBULA_INFEASIBLE") == "error"


def _worker_path() -> list[str]:
    """sys.path for workers: modules beside the script are found there whatever the worker's cwd."""
    return [os.path.abspath(entry) if entry else os.getcwd() for entry in sys.path]


def _context() -> Context:
    from mobula._context import Context

    return Context(_core.session_info(), _core.nodes())


_PRIVATE_KEYWORDS = frozenset(
    {
        "_driver_object_store_memory",
        "_enable_object_reconstruction",
        "_memory",
        "_metrics_export_port",
        "_node_ip_address",
        "_node_name",
        "_object_spilling_directory",
        "_plasma_directory",
        "_redis_password",
        "_redis_username",
        "_system_config",
        "_temp_dir",
        "_tracing_startup_hook",
        "object_spilling_directory",
    }
)


def _check_keywords(keywords: Mapping[str, Any]) -> None:
    unknown = [keyword for keyword in keywords if keyword not in _PRIVATE_KEYWORDS]
    if unknown:
        raise RuntimeError(f"Unknown keyword argument(s): {', '.join(unknown)}")
    temp_dir = keywords.get("_temp_dir")
    if temp_dir is not None and not isinstance(temp_dir, (str, os.PathLike)):
        raise TypeError(f"_temp_dir must be a path, not {temp_dir!r}")


def _check_address(address: str | None) -> None:
    if address is not None and not isinstance(address, str):
        raise TypeError(f"address must be None or a string, not {address!r}")
    if address in (None, "local"):
        return
    if address == "auto":
        raise ConnectionError(
            "No running cluster was found. Leave the address out to start Mobula on this machine."
        )
    raise ConnectionError(
        f"Cannot connect to {address!r}: connecting to a running cluster is not supported yet."
    )


def _whole_amount(name: str, value: Any) -> float:
    is_number = hasattr(value, "__index__") or isinstance(value, float)
    if isinstance(value, bool) or not is_number:
        raise TypeError(f"{name} must be a number, not {value!r}")
    amount = float(value)
    if amount < 0:
        raise ValueError(f"{name} must not be negative, but it is {value}")
    if not amount.is_integer():
        raise ValueError(f"{name} of a node must be a whole number, but it is {value}")
    return amount


def _node_resources(
    num_cpus: int | None, num_gpus: int | None, resources: dict[str, float] | None
) -> dict[str, float]:
    from mobula import _machine

    if resources is not None and not isinstance(resources, dict):
        raise TypeError(f"resources must be a dict, not {resources!r}")
    result: dict[str, float] = {}
    result["CPU"] = _whole_amount(
        "num_cpus", _machine.cpu_count() if num_cpus is None else num_cpus
    )
    result["GPU"] = _whole_amount(
        "num_gpus", len(_machine.gpu_ids()) if num_gpus is None else num_gpus
    )
    result["memory"] = float(_machine.memory_bytes() - _machine.default_store_bytes())
    for name, value in (resources or {}).items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"Names of resources are non-empty strings, but one is {name!r}")
        if name in ("CPU", "GPU"):
            raise ValueError(f"Use num_{name.lower()}s instead of {name!r} in resources")
        if name in ("memory", "object_store_memory"):
            raise ValueError(f"{name!r} cannot be a custom resource")
        result[name] = _whole_amount(f"resource {name}", value)
    return {name: amount for name, amount in result.items() if amount or name == "CPU"}


def _store_bytes(object_store_memory: int | None) -> int:
    from mobula import _machine

    if object_store_memory is None:
        return max(_STORE_BYTES_MIN, _machine.default_store_bytes())
    if isinstance(object_store_memory, bool) or not hasattr(object_store_memory, "__index__"):
        raise TypeError(f"object_store_memory must be an integer, not {object_store_memory!r}")
    if object_store_memory < _STORE_BYTES_MIN:
        raise ValueError(
            f"object_store_memory is {object_store_memory} bytes, but the least is "
            f"{_STORE_BYTES_MIN} bytes"
        )
    return int(object_store_memory)


def _check_labels(labels: dict[str, str] | None) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise TypeError(f"labels must be a dict, not {labels!r}")
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(
                f"Keys and values of labels are strings, but there is {key!r}: {value!r}"
            )
        if key.startswith("ray.io/"):
            raise ValueError(f"Labels in ray.io/ are reserved: {key!r}")
    return dict(labels)


def _check_namespace(namespace: str | None) -> str:
    if namespace is None:
        return str(uuid.uuid4())  # One that no other job has.
    if not isinstance(namespace, str):
        raise TypeError("namespace must be None or a string.")
    if not namespace:
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    return namespace


def _check_runtime_env(runtime_env: dict[str, Any] | None) -> Mapping[str, Any]:
    """What of it means something, without empty parts."""
    if runtime_env is None:
        return {}
    if not isinstance(runtime_env, dict):
        raise TypeError(f"runtime_env must be a dict, not {runtime_env!r}")
    others = [key for key, value in runtime_env.items() if key != "env_vars" and value]
    if others:
        raise NotImplementedError(f"runtime_env: {', '.join(others)} is not supported yet")
    variables = runtime_env.get("env_vars") or {}
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                f"env_vars of runtime_env are strings, but there is {name!r}: {value!r}"
            )
    return {"env_vars": dict(variables)} if variables else {}


def _configure_logging(level: int | str, format: str | None) -> None:
    import logging

    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if not isinstance(number, int):
        raise ValueError(f"Unknown logging_level: {level!r}")
    logger = logging.getLogger("mobula")
    logger.setLevel(number)
    if format is not None:
        for handler in logger.handlers:
            handler.setFormatter(logging.Formatter(format))


__all__ = ["__version__", "init", "is_initialized", "shutdown"]
