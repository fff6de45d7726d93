"""What takes memory, under the name by which programs look it up in Ray."""

from __future__ import annotations

from typing import Any

from mobula import _objects_state, _session
from mobula._commands import memory

_PATIENCE_SECONDS = 60.0


def memory_summary(
    address: Any = None,
    group_by: str = "NODE_ADDRESS",
    sort_by: str = "OBJECT_SIZE",
    units: str | None = "B",
    line_wrap: bool = True,
    stats_only: bool = False,
    num_entries: int | None = None,
) -> str:
    """How full the object store is, and every object with who holds it, as `mobula memory` shows them.

    It answers for the session of this process; `address` and `line_wrap` change nothing.
    ValueError: what `group_by`, `sort_by`, `units` or `num_entries` name does not exist.
    """
    view = memory.View(group_by, sort_by, num_entries, units, stats_only)
    _session.require_session()
    snapshot = view.gather(_PATIENCE_SECONDS)
    rows = list(snapshot.objects())
    view.sort(rows)
    missing = "" if stats_only else _objects_state.missing_output(snapshot)
    return view.text(snapshot, rows) + (f"\n{missing}\n" if missing else "")
