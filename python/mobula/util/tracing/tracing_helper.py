"""Libraries ask here before they add spans of their own to the calls that they make."""

from __future__ import annotations

_global_is_tracing_enabled = False


def _is_tracing_enabled() -> bool:
    """Never: tasks have no spans of OpenTelemetry."""
    return _global_is_tracing_enabled
