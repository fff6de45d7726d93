"""Small things beside the core: addresses."""

from __future__ import annotations


def get_node_ip_address() -> str:
    """The address of this machine as the nodes know it: loopback, while there is one machine."""
    from mobula import _machine

    return _machine.address()


__all__ = ["get_node_ip_address"]
