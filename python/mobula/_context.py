"""What `init` returns."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mobula import _alias
from mobula._sessions_here import address_of
from mobula._version import RAY_VERSION, __version__

if TYPE_CHECKING:
    import types
    from typing import Self

    from mobula import _core


class BaseContext:
    """What is left with `with`, or with `disconnect`."""

    def disconnect(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.disconnect()


class Context(BaseContext, Mapping[str, Any]):
    """A session. In `with`, the session ends with the block. As a mapping: its `address_info`."""

    def __init__(self, session: _core.SessionInfo, nodes: list[_core.NodeRecord]) -> None:
        node = next((n for n in nodes if n["node_id"] == session["node_id"]), None)
        address = address_of(session["session_directory"])
        self.address_info: dict[str, Any] = {
            "node_ip_address": node["address"] if node else "",
            "redis_address": None,
            "object_store_address": None,
            "raylet_socket_name": None,
            "webui_url": "",
            "session_dir": session["session_directory"],
            "metrics_export_port": node["metrics_port"] if node else -1,
            "gcs_address": address,
            "address": address,
            "dashboard_agent_listen_port": -1,
            "node_id": session["node_id"],
        }
        self.dashboard_url = ""
        self.python_version = platform.python_version()
        self.ray_version = RAY_VERSION if _alias.is_installed() else __version__
        self.ray_commit = ""

    def disconnect(self) -> None:
        """Ends the session, like `shutdown`."""
        from mobula import _session

        _session.shutdown()

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __repr__(self) -> str:
        return (
            f"Context(dashboard_url={self.dashboard_url!r}, python_version={self.python_version!r}, "
            f"ray_version={self.ray_version!r}, session_dir={self.address_info['session_dir']!r})"
        )
