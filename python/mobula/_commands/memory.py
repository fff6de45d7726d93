"""`mobula memory`: which objects there are, who holds them, and where they are."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mobula import _cli

if TYPE_CHECKING:
    from mobula import _state
    from mobula.util.state import schema

ORDER = 35
HELP = "Show objects: who holds them, where they are, how large they are"
DESCRIPTION = """\
Shows how full the object store is, and every object: its size, where it is, which process refers to it
and how, and who else keeps it alive.

Each process is asked what it refers to itself, objects that nobody else knows included; the daemon adds
who holds what is shared. A process that does not answer (stopped, or too busy) is named, and only its
shared objects are shown. Of each process the 10,000 largest objects are looked at.

  where      process: in the memory of PID; node: in the daemon's; memory, disk, memory+disk: in the
             store; pending: there is no value yet
  reference  PINNED_IN_MEMORY: a value that get() returned looks at it, so it cannot leave memory;
             USED_BY_PENDING_TASK, LOCAL_REFERENCE, CAPTURED_IN_OBJECT (inside another value),
             ACTOR_HANDLE
  call site  the line that made it, if the program runs with MOBULA_RECORD_CALL_SITE=1"""
EPILOG = """\
examples:
  mobula memory
  mobula memory --stats-only
  mobula memory --group-by STACK_TRACE --sort-by OBJECT_SIZE -n 5
  mobula memory --filter reference_type=PINNED_IN_MEMORY --filter where=memory
"""

_GROUPS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "NODE_ADDRESS": ("Node", lambda row: row.ip),
    "STACK_TRACE": ("Call site", lambda row: row.call_site or "not known"),
    "PID": ("Process", lambda row: f"{row.pid} ({row.type.lower()})" if row.pid else "the node"),
    "WHERE": ("Objects that are in", lambda row: row.where),
}
_ORDERS: dict[str, Callable[[Any], Any]] = {
    "OBJECT_SIZE": lambda row: -row.object_size,
    "PID": lambda row: row.pid,
    "REFERENCE_TYPE": lambda row: row.reference_type,
    "AGE": lambda row: row.created_ms or sys.maxsize,
}
_UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


@dataclass(frozen=True)
class View:
    """What of the objects is shown, and how. ValueError: no such grouping, order or unit."""

    group_by: str = "NODE_ADDRESS"
    sort_by: str = "OBJECT_SIZE"
    entries_max: int | None = None  # Of each group.
    units: str | None = None  # None: as it fits.
    stats_only: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("group_by", self.group_by, _GROUPS),
            ("sort_by", self.sort_by, _ORDERS),
            ("units", self.units, (None, *_UNITS)),
        ):
            if value not in known:
                names = ", ".join(str(one) for one in known)
                raise ValueError(f"{name} must be one of {names}, not {value!r}")
        if self.entries_max is not None and self.entries_max < 0:
            raise ValueError(f"num_entries must not be negative: {self.entries_max}")

    def gather(self, timeout: float) -> _state.Snapshot:
        """Asks for what is to be shown. Seconds."""
        from mobula import _state
        from mobula.util.state import schema

        return _state.gather(
            timeout=timeout,
            tasks_max=0,
            ended_max=0,
            objects_max=0 if self.stats_only else schema.source_max(),
        )

    def text(self, snapshot: _state.Snapshot, rows: list[schema.ObjectState]) -> str:
        """Of these rows, in lines."""
        size = _sizes(self.units)
        text = describe_store(snapshot, size)
        if self.stats_only:
            return text
        return text + self._groups(rows, size) + _hints(snapshot, rows)

    def sort(self, rows: list[schema.ObjectState]) -> None:
        rows.sort(key=_ORDERS[self.sort_by])

    def shown(self, rows: list[schema.ObjectState]) -> list[schema.ObjectState]:
        """Of each group no more than are to be shown."""
        groups = self._by_group(rows).values()
        return [row for group in groups for row in group[: self.entries_max]]

    def _by_group(self, rows: list[schema.ObjectState]) -> dict[Any, list[schema.ObjectState]]:
        groups: dict[Any, list[schema.ObjectState]] = {}
        for row in rows:
            groups.setdefault(_GROUPS[self.group_by][1](row), []).append(row)
        return groups

    def _groups(self, rows: list[schema.ObjectState], size: Callable[[float], str]) -> str:
        from mobula import _tables

        title = _GROUPS[self.group_by][0]
        text = ""
        for name, group in self._by_group(rows).items():
            shown = group[: self.entries_max]
            text += f"\n{title} {name}: {_sums(group, size)}\n"
            text += _tables.table(_HEADERS, [_cells(row, size) for row in shown])
            if len(shown) < len(group):
                text += f"... and {len(group) - len(shown)} more\n"
        return text if rows else "\nNo objects.\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group-by", type=str.upper, choices=tuple(_GROUPS), default="NODE_ADDRESS", metavar="WHAT",
        help=f"one table for each: {', '.join(_GROUPS)}",
    )  # fmt: skip
    parser.add_argument(
        "--sort-by", type=str.upper, choices=tuple(_ORDERS), default="OBJECT_SIZE", metavar="WHAT",
        help=f"{', '.join(_ORDERS)} (default: OBJECT_SIZE, the largest first)",
    )  # fmt: skip
    parser.add_argument(
        "-n", "--num-entries", "--n", type=int, metavar="N", help="at most so many of each group"
    )
    parser.add_argument(
        "-f", "--filter", action="append", default=[], metavar="KEY=VALUE",
        help="only those; KEY!=VALUE: only others. Keys are those of `mobula list objects --detail`",
    )  # fmt: skip
    parser.add_argument("--units", choices=tuple(_UNITS), help="of sizes; default: as it fits")
    parser.add_argument("--stats-only", action="store_true", help="only how full the store is")
    parser.add_argument("--no-format", action="store_true", help="taken and not needed")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--timeout", type=float, default=30, metavar="SECONDS",
        help="how long to wait for processes that do not answer, at most; they get a second",
    )  # fmt: skip
    _cli.add_address(parser)


def run(arguments: argparse.Namespace) -> int:
    from mobula import _objects_state, _state
    from mobula._commands import list as list_command
    from mobula.util.state import _listing
    from mobula.util.state.exception import RayStateApiException

    kind = _state.KINDS["objects"]
    try:
        filters = _listing.check_filters(
            kind, [list_command.parse_filter(text) for text in arguments.filter]
        )
    except (RayStateApiException, ValueError) as error:
        raise _cli.CommandError(str(error)) from error
    if arguments.num_entries is not None and arguments.num_entries < 0:
        raise _cli.CommandError("--num-entries must not be negative")
    view = View(
        arguments.group_by,
        arguments.sort_by,
        arguments.num_entries,
        arguments.units,
        arguments.stats_only,
    )
    with _cli.observing(arguments) as record:
        snapshot = view.gather(arguments.timeout)
    rows = [row for row in snapshot.objects() if _listing.matches(row, filters)]
    view.sort(rows)
    if arguments.json:
        _print_json(snapshot, view.shown(rows))
    else:
        print(f"Session {record.name}")
        print(view.text(snapshot, rows), end="")
    missing = "" if arguments.stats_only else _objects_state.missing_output(snapshot)
    if missing:
        sys.stdout.flush()
        print(f"mobula memory: {missing}", file=sys.stderr)
    return 1 if missing else 0


def _sizes(unit: str | None) -> Callable[[float], str]:
    from mobula import _tables

    if unit is None:
        return _tables.size
    return lambda size: f"{size / _UNITS[unit]:.{0 if unit == 'B' else 1}f} {unit}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def describe_store(snapshot: _state.Snapshot, size: Callable[[float], str]) -> str:
    """How full the store is, in lines."""
    store: dict[str, Any] = snapshot.daemon["store"]
    full = 100 * store["granted_bytes"] / max(1, store["capacity_bytes"])
    private = sum(process["private_bytes"] for process in snapshot.live)
    lines = [
        f"  in memory  {size(store['granted_bytes'])} of {size(store['capacity_bytes'])} "
        f"({full:.1f} %), in {_count(store['segments'], 'segment')}",
        f"             {_count(store['shared_values'], 'value')} of the node, "
        f"{size(store['shared_bytes'])} of them in memory, {size(store['pinned_bytes'])} looked at",
    ]
    if private:
        lines.append(f"             {size(private)} private to processes")
    if store.get("in_file_bytes"):
        lines.append(
            f"  in files   {size(store['in_file_bytes'])} for which memory had no room; "
            f"{_count(store['shared_in_file_values'], 'value')} of the node among it"
        )
    if store["spill_folder"]:
        lines.append(
            f"  on disk    {size(store['disk_bytes'])} in "
            f"{_count(store['files'], 'file')}; {_count(store['disk_values'], 'value')} nowhere else"
        )
        lines.append(
            f"             since the start {size(store['spilled_bytes'])} were spilled and "
            f"{size(store['restored_bytes'])} read back"
        )
        lines.append(f"             in {store['spill_folder']}")
    if store["lost_values"]:
        lines.append(
            f"  lost       {_count(store['lost_values'], 'value')}: the disk did not give them back"
        )
    if store["trouble"]:
        lines.append(f"  Nothing can be spilled: {store['trouble']}")
    return "".join(f"{line}\n" for line in lines)


def _sums(group: list[schema.ObjectState], size: Callable[[float], str]) -> str:
    objects = {row.object_id: max(row.object_size, 0) for row in group}
    kinds: dict[str, list[int]] = {}
    for row in group:
        kinds.setdefault(row.reference_type, []).append(max(row.object_size, 0))
    parts = [f"{len(sizes)} {kind} ({size(sum(sizes))})" for kind, sizes in sorted(kinds.items())]
    return f"{_count(len(objects), 'object')}, {size(sum(objects.values()))}: {', '.join(parts)}"


_HEADERS = ("OBJECT ID", "SIZE", "WHERE", "REFERENCE", "PID", "TYPE", "STATUS", "CREATED", "HELD BY",
            "CALL SITE")  # fmt: skip


def _cells(row: schema.ObjectState, size: Callable[[float], str]) -> tuple[str, ...]:
    from mobula import _objects_state

    created = (
        time.strftime("%H:%M:%S", time.localtime(row.created_ms / 1000)) if row.created_ms else "-"
    )
    held_by = ", ".join(row.held_by or [])
    return (
        row.object_id,
        size(row.object_size) if row.object_size >= 0 else "?",
        row.where or "-",
        row.reference_type,
        str(row.pid or "-"),
        row.type,
        row.task_status,
        created,
        held_by or "-",
        _objects_state.short_site(row.call_site) or "-",
    )


def _hints(snapshot: _state.Snapshot, rows: list[schema.ObjectState]) -> str:
    from mobula import _objects_state

    text = ""
    dropped = _objects_state.dropped_output(snapshot)
    if dropped > 0:
        text += f"\n{dropped:,} smaller objects are not shown.\n"
    if any(row.call_site == _objects_state.NO_CALL_SITE for row in rows):
        text += (
            "\nWith MOBULA_RECORD_CALL_SITE=1 a program remembers which line made each object.\n"
        )
    return text


def _print_json(snapshot: _state.Snapshot, rows: list[schema.ObjectState]) -> None:
    json.dump(
        {"store": snapshot.daemon["store"], "objects": [row.asdict() for row in rows]},
        sys.stdout,
        indent=2,
    )
    print()
