"""Which session `init` connects with: what `address` means, and what a new node has.

None      $MOBULA_ADDRESS (and $RAY_ADDRESS under `python -m mobula.ray`), else the session of
          `mobula start`, else a new one
"local"   a new one
"auto"    the environment's, that of `mobula start`, or the youngest of this user; one must exist
unix:...  that one
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mobula import _limits, _sessions_here

if TYPE_CHECKING:
    from mobula._daemon import Daemon

_ADDRESS_VARIABLE = "MOBULA_ADDRESS"
_STORE_BYTES_MIN = 75 * 1024 * 1024

# A daemon to connect with, the labels of its node, and the token to say.
Opened = tuple["Daemon", Mapping[str, str], str]


@dataclasses.dataclass(frozen=True)
class NodeOptions:
    """What `init` was told of the node, unchecked."""

    num_cpus: Any = None
    num_gpus: Any = None
    resources: Any = None
    labels: Any = None
    object_store_memory: Any = None
    temp_dir: Any = None
    metrics_port: Any = None
    memory: Any = None  # What tasks may ask for, in bytes.
    object_spilling_directory: str | None = None  # Checked.


def opening(address: str | None, options: NodeOptions) -> Callable[[], Opened]:
    """Checks address and options; the result connects, or starts a node. ConnectionError, of either:
    there is no such session. ValueError, TypeError: something is wrong with what was given."""
    record = _joined_session(address)
    if record is None:
        return _starting(options)
    _refuse_node_options(options)
    implied = address is None and not address_of_environment()
    return _joining(record, _starting(options) if implied else None)


def would_join(address: str | None) -> bool:
    """Is there a session that `init(address)` joins now? ConnectionError, ValueError: as by `init`."""
    return _joined_session(address) is not None


def _joined_session(address: str | None) -> _sessions_here.SessionRecord | None:
    """The session that `init(address)` joins; None: it starts one. ConnectionError: there is none to
    join. ValueError, TypeError: the address is not one."""
    if address is not None and not isinstance(address, str):
        raise TypeError(f"address must be None or a string, not {address!r}")
    if address in (None, "auto"):
        address = address_of_environment() or address
    if address == "local":
        return None
    if address is None:
        return _sessions_here.standing_session()
    if address == "auto":
        found = _sessions_here.sessions()
        if found:
            return found[0]
        raise ConnectionError(
            "Could not find any running Mobula session to connect to. Start one with `mobula start`, "
            "give its address, or leave the address out to start one for this program."
        )
    place = address.removeprefix(_sessions_here.SCHEME)
    if not os.path.isabs(place) and ":" in place:
        raise ConnectionError(
            f"Cannot connect to {address!r}: sessions of other machines cannot be joined yet. "
            f"Addresses look like {_sessions_here.SCHEME}/run/user/1000/mobula-...; `mobula status` "
            "shows those of this machine."
        )
    return _sessions_here.session_at(address)


def runs_as_ray() -> bool:
    """Where `import ray` means Mobula, and variables count by Ray's names, too; also in its workers."""
    return os.environ.get("MOBULA_AS_RAY") == "1"


def number_of_environment(name: str, default: int) -> int:
    """A number that is not negative: MOBULA_<name>, or where that counts RAY_<name>."""
    names = ["MOBULA_" + name] + (["RAY_" + name] if runs_as_ray() else [])
    text = next((value for one in names if (value := os.environ.get(one))), "")
    return int(text) if text.isascii() and text.isdigit() else default


def address_of_environment() -> str | None:
    """What the environment says instead of `init(address=)`."""
    names = [_ADDRESS_VARIABLE]
    if runs_as_ray():
        names.append("RAY_ADDRESS")
    return next((value for name in names if (value := os.environ.get(name))), None)


def _refuse_node_options(options: NodeOptions) -> None:
    """What a node has was decided when it was started."""
    refusal = "When connecting to an existing cluster, {} must not be provided."
    if options.num_cpus is not None or options.num_gpus is not None:
        raise ValueError(refusal.format("num_cpus and num_gpus"))
    for name in ("resources", "object_store_memory", "labels", "object_spilling_directory"):
        if getattr(options, name) is not None:
            raise ValueError(refusal.format(name))


def _starting(options: NodeOptions) -> Callable[[], Opened]:
    amounts = node_resources(options.num_cpus, options.num_gpus, options.resources)
    if options.memory is not None:
        amounts["memory"] = _whole_amount("_memory", options.memory)
    capacity = store_bytes(options.object_store_memory)
    labels = check_labels(options.labels)
    port = metrics_port(options.metrics_port)

    def start() -> Opened:
        from mobula import _daemon

        daemon = _daemon.start_private_daemon(
            _daemon.NodeSettings(
                resources=amounts,
                object_store_memory=capacity,
                labels=labels,
                temp_dir=options.temp_dir,
                metrics_port=port,
                object_spilling_directory=options.object_spilling_directory,
            )
        )
        return daemon, labels, ""

    return start


def _joining(
    record: _sessions_here.SessionRecord, otherwise: Callable[[], Opened] | None
) -> Callable[[], Opened]:
    """`otherwise`: if the session ends just now, and nobody asked for this very one."""

    def join() -> Opened:
        from mobula import _daemon

        try:
            return _daemon.JoinedDaemon(record), record.labels, record.token
        except _sessions_here.SessionGoneError:
            if otherwise is None:
                raise
            return otherwise()

    return join


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


def node_resources(
    num_cpus: float | None, num_gpus: float | None, resources: dict[str, float] | None
) -> dict[str, float]:
    """What a node with these options has. ValueError, TypeError: they are wrong."""
    from mobula import _machine

    if resources is not None and not isinstance(resources, dict):
        raise TypeError(f"resources must be a dict, not {resources!r}")
    _limits.check_resources(resources or {})
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
        if name == _machine.HEAD_RESOURCE:
            raise ValueError(f"{name} is a reserved resource name, use another name instead.")
        result[name] = _whole_amount(f"resource {name}", value)
    result[_machine.node_resource()] = result[_machine.HEAD_RESOURCE] = 1.0
    return {name: amount for name, amount in result.items() if amount or name == "CPU"}


def store_bytes(object_store_memory: float | None) -> int:
    """The size of the object store of a node with this option."""
    from mobula import _machine

    if object_store_memory is None:
        return max(_STORE_BYTES_MIN, _machine.default_store_bytes())
    # Programs write 1e9, or a share of the memory there is.
    is_float = isinstance(object_store_memory, float) and math.isfinite(object_store_memory)
    is_integer = hasattr(object_store_memory, "__index__")
    if isinstance(object_store_memory, bool) or not (is_float or is_integer):
        raise TypeError(
            f"object_store_memory must be a number of bytes, not {object_store_memory!r}"
        )
    if object_store_memory < _STORE_BYTES_MIN:
        raise ValueError(
            f"object_store_memory is {object_store_memory} bytes, but the minimum allowed is "
            f"{_STORE_BYTES_MIN} bytes"
        )
    return int(object_store_memory)


def metrics_port(port: Any) -> int:
    """On loopback, where Prometheus may ask: 0 is one that is free, -1 none. None: what
    $MOBULA_METRICS_EXPORT_PORT says, or 0. TypeError, ValueError: it is no port."""
    given = os.environ.get("MOBULA_METRICS_EXPORT_PORT", "0") if port is None else port
    if isinstance(given, str):
        try:
            given = int(given)
        except ValueError:
            raise ValueError(f"MOBULA_METRICS_EXPORT_PORT is no number: {given!r}") from None
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"a port for metrics must be a number, not {port!r}")
    if not -1 <= given <= 65535:
        raise ValueError(f"a port for metrics is from 0 to 65535, or -1 for none, not {given}")
    return given


def check_labels(labels: dict[str, str] | None) -> dict[str, str]:
    """The labels of a node with this option."""
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
    _limits.check_labels(labels)
    return dict(labels)
