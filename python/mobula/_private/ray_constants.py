"""Constants that libraries look up in Ray, as far as they mean something here."""

from __future__ import annotations

import os

from mobula._common.constants import HEAD_NODE_RESOURCE_NAME, NODE_ID_PREFIX
from mobula._common.helpers import env_bool, env_float, env_integer

ID_SIZE = 28
MIN_RESOURCE_GRANULARITY = 0.0001
DEFAULT_RESOURCES = {"CPU", "GPU", "memory", "object_store_memory"}
GPU = "GPU"

DEFAULT_PORT = 6379
DEFAULT_DASHBOARD_PORT = 8265

DEFAULT_TASK_MAX_RETRIES = 3
DEFAULT_ACTOR_CREATION_CPU_SIMPLE = 0
DEFAULT_ACTOR_CREATION_CPU_SPECIFIED = 1
DEFAULT_ACTOR_METHOD_CPU_SIMPLE = 1
DEFAULT_ACTOR_METHOD_CPU_SPECIFIED = 0
DEFAULT_ACTOR_METHOD_NUM_RETURN_VALS = 1
DEFAULT_MAX_CONCURRENCY_ASYNC = 1000
DEFAULT_MAX_CONCURRENCY_THREADED = 1
DEFAULT_RUNTIME_ENV_TIMEOUT_SECONDS = 600

DEFAULT_OBJECT_STORE_MEMORY_PROPORTION = 0.3
DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES = 200 * 10**9
OBJECT_STORE_MINIMUM_MEMORY_BYTES = 75 * 1024 * 1024

LOGGER_FORMAT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"
LOGGER_LEVEL = "info"
LOGGER_LEVEL_CHOICES = ["debug", "info", "warning", "error", "critical"]

RAY_ADDRESS_ENVIRONMENT_VARIABLE = "RAY_ADDRESS"
RAY_NAMESPACE_ENVIRONMENT_VARIABLE = "RAY_NAMESPACE"
RAY_RUNTIME_ENV_ENVIRONMENT_VARIABLE = "RAY_RUNTIME_ENV"


def env_set_by_user(key: str) -> bool:
    """Is the variable set?"""
    return key in os.environ


__all__ = [
    "HEAD_NODE_RESOURCE_NAME",
    "NODE_ID_PREFIX",
    *[name for name in list(globals()) if name.isupper()],
    "env_bool",
    "env_float",
    "env_integer",
    "env_set_by_user",
]
