"""Asking for more machines, under the names by which libraries do that in Ray."""

from __future__ import annotations

from typing import Any

from mobula import _session


def request_resources(
    num_cpus: int | None = None,
    bundles: list[dict[str, float]] | None = None,
    bundle_label_selectors: list[dict[str, str]] | None = None,
) -> None:
    """Changes nothing: there is one machine, and it has what it has.
    TypeError: what is asked for has a wrong type. RaySystemError: not connected."""
    if num_cpus is not None and not isinstance(num_cpus, int):
        raise TypeError("num_cpus should be of type int.")
    listed: list[tuple[str, Any]] = [
        ("bundles", bundles),
        ("bundle_label_selectors", bundle_label_selectors),
    ]
    for name, value in listed:
        if value is not None and not isinstance(value, list):
            raise TypeError(f"{name} should be of type List")
        for one in value or []:
            if not isinstance(one, dict):
                raise TypeError(f"Each element of {name} should be a Dict, but one is {one!r}")
    _session.require_session()


__all__ = ["request_resources"]
