"""Names of resources that say which node it is."""

from mobula._machine import HEAD_RESOURCE

HEAD_NODE_RESOURCE_NAME = HEAD_RESOURCE
NODE_ID_PREFIX = "node:"

__all__ = ["HEAD_NODE_RESOURCE_NAME", "NODE_ID_PREFIX"]
