"""Where objects go that do not fit into the store: what `init` and `mobula start` were told of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def directory_of(keywords: Mapping[str, Any]) -> str | None:
    """From the keywords of `init`: `object_spilling_directory`, by that name, with an underscore, or as
    Ray programs say it in `_system_config`. TypeError, ValueError: it is not one that can be used."""
    for name in ("object_spilling_directory", "_object_spilling_directory"):
        if keywords.get(name) is not None:
            return check(keywords[name])
    settings = keywords.get("_system_config") or {}
    if not isinstance(settings, Mapping):
        raise TypeError(f"The _system_config must be a dict, not {settings!r}.")
    config = settings.get("object_spilling_config")
    return None if config is None else check(_of_config(config))


def _of_config(config: Any) -> Any:
    """{"type": "filesystem", "params": {"directory_path": ...}}, or that as JSON."""
    told = json.loads(config) if isinstance(config, str) else config
    if not isinstance(told, Mapping) or told.get("type") != "filesystem":
        raise ValueError(f"object_spilling_config must be of type 'filesystem', not {config!r}")
    paths = told.get("params", {}).get("directory_path")
    if isinstance(paths, list):
        if len(paths) != 1:
            raise ValueError("objects are spilled to one directory, not to several")
        paths = paths[0]
    if paths is None:
        raise ValueError("object_spilling_config names no directory_path")
    return paths


def check(directory: Any) -> str:
    """Its absolute path. It is made if it is not there. ValueError: nothing can be written there."""
    if not isinstance(directory, (str, os.PathLike)):
        raise TypeError(f"object_spilling_directory must be a path, not {directory!r}")
    path = Path(os.path.abspath(directory))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"object_spilling_directory {str(path)!r} cannot be made: {error}"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ValueError(f"object_spilling_directory {str(path)!r} cannot be written to")
    return str(path)
