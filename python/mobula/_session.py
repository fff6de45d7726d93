"""The session of this process: starting it, what it says about itself, and ending it.

A driver has at most one session at a time: a node daemon, its own or one that it joined, the
connection to it, and a thread that prints what workers print. A worker's session is made by
`_worker.py` and ends with it.

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

from mobula import (
    _address,
    _core,
    _environments,
    _from_driver,
    _limits,
    _setup_memory,
    _spilling,
    _worker_path,
    exceptions,
)
from mobula import job_config as _job_config
from mobula._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mobula._context import Context
    from mobula._daemon import Daemon
    from mobula._logging_config import LoggingConfig
    from mobula._logs import LogPrinter
    from mobula._sessions_here import SessionRecord

_NOT_STARTED = "Mobula is not started in this process, or was shut down: call mobula.init() first."
_TWICE = (
    "Maybe you called ray.init twice by accident? Pass 'ignore_reinit_error=True' to keep the session "
    "that exists, or call 'ray.shutdown()' before 'ray.init()'."
)


class _Driver:
    """What a driver's session consists of besides the connection that `_core` holds."""

    def __init__(
        self, daemon: Daemon, labels: Mapping[str, str], runtime_env: Mapping[str, Any]
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


def is_worker() -> bool:
    """Is this a worker process, and no driver?"""
    return _is_worker


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
    object_store_memory: float | None = None,
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
    """Connects this process with Mobula: with a session that exists, or with a new one of its own.

    address: which session; `_address.py` has the rules. None: that of `mobula start`, or a new one.
    num_cpus, num_gpus, resources: what tasks may use; CPUs and GPUs are counted if not given.
    object_store_memory: bytes; 30 % of the free memory. object_spilling_directory: for what is more.
    log_to_driver: print here what tasks print (default).
    namespace: of named actors.
    runtime_env: what all workers run in, see `mobula.runtime_env.RuntimeEnv`.
    job_config: a JobConfig with namespace and runtime_env, where they are not given here.
    logging_config: a LoggingConfig for the root loggers here and in workers.
    ignore_reinit_error: return the session that exists instead of raising RuntimeError.

    docs/compatibility.md lists what else Ray's `init` takes. The result can be used in `with`.
    """
    _check_keywords(kwargs)
    if local_mode:
        raise RuntimeError("`local_mode` is no longer supported: it did not run tasks as tasks")
    with _lock:
        if _core.is_connected():
            if not ignore_reinit_error:
                raise RuntimeError(_TWICE)
            return _context()
        if configure_logging:
            _configure_logging(logging_level, logging_format)
        wanted = _address.NodeOptions(
            num_cpus, num_gpus, resources, labels, object_store_memory, **_node_keywords(kwargs)
        )
        open_daemon = _address.opening(address, wanted)
        job = _job_config.of_init(job_config, namespace, runtime_env, logging_config)
        if enable_resource_isolation:
            raise NotImplementedError("enable_resource_isolation is not supported yet")
        _start(
            open_daemon,
            _check_namespace(job.ray_namespace),
            _environments.pack(_environments.check(job.runtime_env)),
            job,
            log_to_driver is not False,
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


def shutdown(wait_for_processes: bool = False, _exiting_interpreter: bool = False) -> None:
    """Ends the session: its tasks, its processes, its objects. Everything that tasks printed is
    printed when it returns. Does nothing without a session, in a worker, and in a forked child."""
    global _driver
    with _lock:
        driver = _driver
        if _is_worker or driver is None or driver.pid != os.getpid():
            return
        _driver = None
        _worker_path.end_telling()
        daemon_ends = True
        try:
            daemon_ends = _core.disconnect()
        finally:
            driver.daemon.stop(daemon_ends)
            _end_futures()
            if driver.printer is not None:
                driver.printer.join()


atexit.register(shutdown, False, True)


def observe(record: SessionRecord | None) -> None:
    """This process asks that session and is no driver of it: for `_cli.observing`. None: no more."""
    global _observed
    _observed = record


_observed: SessionRecord | None = None


def _end_futures() -> None:
    futures = sys.modules.get("mobula._futures")
    if futures is not None:
        futures.end_session()


def driver_labels() -> Mapping[str, str]:
    """The labels of the node; workers have them from their driver."""
    if _is_worker:
        import json

        labels: dict[str, str] = json.loads(_from_driver.text(_from_driver.NODE_LABELS) or "{}")
        return labels
    if _observed is not None:
        return _observed.labels
    return _driver.labels if _driver is not None else {}


def own_runtime_env() -> Mapping[str, Any]:
    """The runtime environment of this process, packed: what its tasks inherit."""
    if _is_worker:
        return _environments.own()
    return _driver.runtime_env if _driver is not None else {}


def _for_workers(
    labels: Mapping[str, str],
    runtime_env: Mapping[str, Any],
    logging_config: LoggingConfig | None,
) -> dict[str, str]:
    import json

    logging_settings = json.dumps(logging_config.to_dict()) if logging_config else ""
    return {
        _from_driver.NODE_LABELS: json.dumps(dict(labels)),
        _from_driver.RUNTIME_ENV: json.dumps(dict(runtime_env)) if runtime_env else "",
        _from_driver.LOGGING_CONFIG: logging_settings,
    }


# ---- parts of init ---------------------------------------------------------------------------


def _start(
    open_daemon: Callable[[], _address.Opened],
    namespace: str,
    runtime_env: Mapping[str, Any],
    job: _job_config.JobConfig,
    log_to_driver: bool,
) -> None:
    global _driver
    from mobula import _log_repeats
    from mobula._logs import LogPrinter

    repeats = _log_repeats.settings_of()
    logging_config = job.py_logging_config
    environment = {**os.environ}
    path = _worker_path.of_driver(job.code_search_path)
    _setup_memory.check({**environment, **(runtime_env.get("env_vars") or {})}, path)
    to_prepare = None
    if not _environments.is_plain(runtime_env):
        to_prepare = _environments.spec_of(runtime_env)
    interpreter = _worker_path.interpreter()
    daemon, labels, token = open_daemon()
    environment.update(_for_workers(labels, runtime_env, logging_config))
    path_file = _worker_path.new_file(daemon.session_directory)
    environment[_from_driver.SYS_PATH_FILE] = path_file
    if to_prepare is None:
        _environments.expand(runtime_env.get("env_vars") or {}, environment)
    try:
        _core.connect(
            daemon.take_socket(),
            {
                "is_driver": True,
                "token": token,
                "python": interpreter,
                "working_directory": _worker_path.working_directory(),
                "sys_path": path,
                "environment": environment,
                "runtime_environment": to_prepare,
                "log_to_driver": log_to_driver,
                "job_namespace": namespace,
                "infeasible_is_error": infeasible_is_error(),
                "lineage_bytes_max": lineage_bytes_max(),
                "records_call_sites": records_call_sites(),
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
    _worker_path.begin_telling(path_file, path, job.code_search_path)
    metrics = sys.modules.get("mobula.util.metrics")
    if metrics is not None:
        metrics.flush_early()
    if logging_config is not None:
        logging_config._apply()
    # Configured log records say themselves whose they are, and JSON must stay JSON. Without
    # log_to_driver no lines of workers come, but what the node and the runtime have to say.
    _driver.printer = LogPrinter(repeats, labels=logging_config is None)


def lineage_bytes_max() -> int:
    """Bytes of finished tasks that a process keeps, to make results again that got lost."""
    return int(os.environ.get("MOBULA_MAX_LINEAGE_BYTES", 64 << 20))


def records_call_sites() -> bool:
    """Does this process remember for each object which line of the program made it?"""
    return os.environ.get("MOBULA_RECORD_CALL_SITE", "0") not in ("", "0", "false")


def infeasible_is_error() -> bool:
    """Do tasks that no node can ever run fail? By default they wait for a node that can."""
    return os.environ.get("MOBULA_INFEASIBLE") == "error"


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


def _node_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_places(keywords),
        "metrics_port": keywords.get("_metrics_export_port"),
        "memory": keywords.get("_memory"),
    }


def _check_keywords(keywords: Mapping[str, Any]) -> None:
    unknown = [keyword for keyword in keywords if keyword not in _PRIVATE_KEYWORDS]
    if unknown:
        raise RuntimeError(f"Unknown keyword argument(s): {', '.join(unknown)}")
    temp_dir = keywords.get("_temp_dir")
    if temp_dir is not None and not isinstance(temp_dir, (str, os.PathLike)):
        raise TypeError(f"_temp_dir must be a path, not {temp_dir!r}")


def _places(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Folders for the node."""
    spilling = _spilling.directory_of(keywords)
    return {"temp_dir": keywords.get("_temp_dir"), "object_spilling_directory": spilling}


def _check_namespace(namespace: str | None) -> str:
    if namespace is None:
        return str(uuid.uuid4())  # One that no other job has.
    if not isinstance(namespace, str):
        raise TypeError("namespace must be None or a string.")
    if not namespace:
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    _limits.check_name("The namespace", namespace)
    return namespace


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
