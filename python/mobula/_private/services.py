"""Addresses of this machine, under the names by which libraries look them up in Ray."""

from __future__ import annotations

from mobula._common.addresses import (
    get_localhost_ip,
    is_ipv6,
    is_localhost,
    node_ip_address_from_perspective,
)
from mobula.util import get_node_instance_id, get_node_ip_address

__all__ = [
    "get_localhost_ip",
    "get_node_instance_id",
    "get_node_ip_address",
    "is_ipv6",
    "is_localhost",
    "node_ip_address_from_perspective",
]
