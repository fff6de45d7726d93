"""What the lists of the state API share: filters, limits, and which rows the node is asked for."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mobula import _objects_state, _session, _state
from mobula.util.state import schema
from mobula.util.state.exception import RayStateApiException

Filter = tuple[str, str, str | bool | int | float]
Filters = list[Filter] | None

_PREDICATES = ("=", "!=")
_TASK_ID_DIGITS = 48


def check_address(address: str | None) -> None:
    if address in (None, "auto"):
        return
    if not isinstance(address, str):
        raise TypeError(f"address must be a string, not {address!r}")


def find_kind(name: str) -> _state.Kind:
    kind = _state.KINDS.get(name)
    if kind is None:
        raise ValueError(f"There are no {name!r}. There are: {', '.join(sorted(_state.KINDS))}")
    return kind


def check_filters(kind: _state.Kind, filters: Any) -> list[Filter]:
    """ValueError: they are no filters. RayStateApiException: not of this kind."""
    if filters is None:
        return []
    if not isinstance(filters, (list, tuple)):
        raise ValueError(f"filters must be a list of (key, predicate, value), not {filters!r}")
    columns = kind.schema.filterable_columns()
    for entry in filters:
        if not isinstance(entry, (list, tuple)) or len(entry) != 3:
            raise ValueError(f"A filter is (key, predicate, value), but one is {entry!r}")
        key, predicate, _ = entry
        if predicate not in _PREDICATES:
            raise ValueError(
                f"Unsupported filter predicate {predicate} is given. "
                f"Available predicates: {', '.join(_PREDICATES)}."
            )
        if key not in columns:
            raise RayStateApiException(
                f"The given filter column {key} is not supported. Supported filter columns of "
                f"{kind.name}: {', '.join(sorted(columns))}"
            )
    return [tuple(entry) for entry in filters]


def _check_limit(limit: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise ValueError(f"limit must be a number, not {limit!r}")
    limit_max = schema.limit_max()
    if not 0 <= limit <= limit_max:
        raise RayStateApiException(
            f"Given limit {limit} is not supported: it must be from 0 to {limit_max}."
        )


def matches(row: schema.StateSchema, filters: Iterable[Filter]) -> bool:
    for key, predicate, wanted in filters:
        # As in Ray: "0" is 0, "true" is True, and case does not count.
        same = str(row[key]).lower() == str(wanted).lower()
        if same != (predicate == "="):
            return False
    return True


def _parse_task_id(text: str) -> _state.TaskKey | None:
    try:
        number = int(text, 16)
    except ValueError:
        return None
    if len(text) != _TASK_ID_DIGITS:
        return None
    return (number >> 128) & 0xFFFFFFFF, (number >> 64) & (2**64 - 1)


# Of tasks: filters that the node itself can apply.
_NODE_FILTERS = ("state", "name", "task_id")


def _gather(
    kind: _state.Kind, filters: list[Filter], limit: int, timeout: float
) -> _state.Snapshot:
    """Asks for what can match, as far as the node can tell, and for no more than is listed."""
    wanted: dict[str, Any] = {"timeout": timeout}
    source_max = schema.source_max()
    if kind.name != "tasks":
        objects_max = source_max if kind.name == "objects" else 0
        return _state.gather(**wanted, tasks_max=0, ended_max=0, objects_max=objects_max)
    equal = {key: str(value) for key, predicate, value in filters if predicate == "="}
    wanted["state"] = equal.get("state", "FAILED" if "error_type" in equal else "").upper()
    wanted["name"] = equal.get("name", "")
    wanted["ended_max"] = wanted["tasks_max"] = source_max
    key = _parse_task_id(equal["task_id"]) if "task_id" in equal else None
    if all(key in _NODE_FILTERS and predicate == "=" for key, predicate, _ in filters):
        # Of one that failed there may be two records. And one more, to see that there are more.
        wanted["ended_max"] = wanted["tasks_max"] = min(2 * limit + 1, source_max)
    return _state.gather(**wanted, key=key)


def missing_output(snapshot: _state.Snapshot) -> str:
    """What of the tasks is not known because a process does not answer; "" if nothing is."""
    texts = []
    for process in snapshot.silent:
        entry = snapshot.processes.get(process["process"], {})
        tasks = entry.get("unfinished", 0)
        if tasks:
            texts.append(f"process {process['pid']} ({process['error']}) has {tasks} of its own")
    return f"Some tasks are not listed: {'; '.join(texts)}." if texts else ""


@dataclass
class Listing:
    rows: list[Any]
    found: int
    """How many there are, listed or not."""
    missing: str
    """What is not known, in a sentence."""


def take_listing(kind: _state.Kind, filters: list[Filter], limit: int, timeout: float) -> Listing:
    """`filters` must have been checked. RayStateApiException: a limit that is not supported."""
    _check_limit(limit)
    snapshot = _gather(kind, filters, limit, timeout)
    rows = [row for row in kind.rows(snapshot) if matches(row, filters)]
    missing = ""
    if kind.name == "tasks":
        missing = missing_output(snapshot)
    elif kind.name == "objects":
        missing = _objects_state.missing_output(snapshot)
    found = len(rows)
    if kind.name == "tasks" and found > limit:
        found = max(found, _count_tasks(snapshot, filters))
    return Listing(rows[:limit], found, missing)


def _count_tasks(snapshot: _state.Snapshot, filters: list[Filter]) -> int:
    """How many match, by the node's own counts; 0: these filters need every task to be looked at."""
    if any(key not in ("state", "name") for key, _, _ in filters):
        return 0
    return sum(
        number
        for (name, _), states in snapshot.task_counts().items()
        for state, number in states.items()
        if all(
            (str(wanted).lower() == {"state": state, "name": name}[key].lower())
            == (predicate == "=")
            for key, predicate, wanted in filters
        )
    )


def take_rows(
    kind: _state.Kind,
    filters: Any = None,
    limit: int = schema.DEFAULT_LIMIT,
    timeout: float = schema.DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    explain: bool = False,
) -> list[Any]:
    checked = check_filters(kind, filters)
    _session.require_session()
    listing = take_listing(kind, checked, limit, timeout)
    if listing.missing and raise_on_missing_output:
        raise RayStateApiException(
            f"{listing.missing} Pass raise_on_missing_output=False for the others."
        )
    if listing.missing:
        warnings.warn(listing.missing, stacklevel=3)
    if explain and listing.found > limit:
        print(f"{limit} of {listing.found} {kind.name} are listed.", file=sys.stderr)
    return listing.rows if detail else [row.without_detail() for row in listing.rows]


def take_row(kind_name: str, id: str, timeout: float) -> Any:
    kind = find_kind(kind_name)
    rows = take_rows(kind, [(kind.id_column, "=", id)], timeout=timeout, detail=True)
    return rows[-1] if rows else None
