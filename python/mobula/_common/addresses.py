"""Addresses and ports, under the names by which libraries look them up in Ray."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import closing


def get_localhost_ip() -> str:
    """The address of loopback."""
    return "127.0.0.1"


def node_ip_address_from_perspective(address: str | None = None) -> str:
    """The address of this machine as the nodes know it. `address` is not looked at."""
    from mobula import _machine

    return _machine.address()


def is_ipv6(host: str) -> bool:
    """Is it an address of version 6?"""
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def is_localhost(host: str) -> bool:
    """Does it mean loopback?"""
    return host in ("localhost", "127.0.0.1", "::1")


def build_address(host: str, port: int | str) -> str:
    """host:port, or [host]:port of an address of version 6."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def parse_address(address: str) -> tuple[str, str] | None:
    """Host and port. None: it is not both."""
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return None
    return host.removeprefix("[").removesuffix("]"), port


def find_free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    """A TCP port that nobody listens on at the moment."""
    with closing(socket.socket(family, socket.SOCK_STREAM)) as one:
        one.bind(("", 0))
        port: int = one.getsockname()[1]
        return port
