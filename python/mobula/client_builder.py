"""`client(...)`: Ray's way to connect with a cluster from far away. Here it connects on this machine.

    ctx = mobula.client().namespace("mine").connect()

Without an address (also in MOBULA_ADDRESS), or with "local", that is a session of its own. Nothing of a
session can be reached over a network: other addresses are a ConnectionError by `connect()`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mobula import _session
from mobula._context import BaseContext

if TYPE_CHECKING:
    from mobula._context import Context


# Variables that count where `import ray` means Mobula, the first of them by itself.
RAY_ADDRESS_ENVIRONMENT_VARIABLE = "RAY_ADDRESS"
RAY_NAMESPACE_ENVIRONMENT_VARIABLE = "RAY_NAMESPACE"
RAY_RUNTIME_ENV_ENVIRONMENT_VARIABLE = "RAY_RUNTIME_ENV"

# What `connect` returns.
ClientContext = BaseContext


class ClientBuilder:
    """Collects what `connect()` hands to `init`."""

    def __init__(self, address: str | None = None) -> None:
        if address is not None and not isinstance(address, str):
            raise TypeError(f"the address must be a string or None, not {address!r}")
        self.address = address
        self._runtime_env: dict[str, Any] | None = None
        self._namespace: str | None = None

    def env(self, env: dict[str, Any]) -> ClientBuilder:
        """Sets the runtime environment of the session."""
        self._runtime_env = env
        return self

    def namespace(self, namespace: str) -> ClientBuilder:
        """Sets the namespace of named actors."""
        self._namespace = namespace
        return self

    def connect(self) -> Context:
        """Connects, as `init` does, and returns what it returns: `disconnect()`, or `with`, ends it.
        ConnectionError: there is no such session on this machine."""
        address = self.address or os.environ.get("MOBULA_ADDRESS") or "local"
        return _session.init(address, namespace=self._namespace, runtime_env=self._runtime_env)


def client(address: str | None = None, _credentials: Any = None) -> ClientBuilder:
    """A ClientBuilder for the session at `address`; None: for one of its own."""
    return ClientBuilder(address)


__all__ = ["ClientBuilder", "client"]
