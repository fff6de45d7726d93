"""How the commands print what the state API tells: as tables, JSON or YAML."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mobula import _cli

if TYPE_CHECKING:
    from mobula import _state

_CELL_MAX = 60


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("default", "table", "json", "yaml"),
        default="default",
        help="how to print it; default: a table, with --detail YAML",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30,
        metavar="SECONDS",
        help="how long to wait for processes that do not answer, at most; they get a second",
    )
    _cli.add_address(parser)


def print_rows(kind: _state.Kind, rows: Sequence[Any], format: str, detail: bool) -> None:
    if format == "default":
        format = "yaml" if detail else "table"
    if format == "json":
        json.dump([_shown(row, detail) for row in rows], sys.stdout, indent=2)
        print()
    elif format == "yaml":
        sys.stdout.write(to_yaml([_shown(row, detail) for row in rows]))
    else:
        sys.stdout.write(_table(kind, rows, detail))


def _shown(row: Any, detail: bool) -> dict[str, Any]:
    columns = row.columns() if detail else row.base_columns()
    return {key: value for key, value in row.asdict().items() if key in columns}


def to_yaml(rows: Sequence[dict[str, Any]]) -> str:
    """A list of mappings. What is inside of them is written as JSON, which YAML includes."""
    if not rows:
        return "[]\n"
    lines = []
    for row in rows:
        marks = ["- ", *["  "] * (len(row) - 1)]
        for mark, (key, value) in zip(marks, row.items(), strict=True):
            lines.append(f"{mark}{key}: {json.dumps(value)}\n")
    return "".join(lines)


def _table(kind: _state.Kind, rows: Sequence[Any], detail: bool) -> str:
    from mobula import _tables

    columns = row_columns(kind, detail)
    cells = [[_cell(column, row[column]) for column in columns] for row in rows]
    return _tables.table([column.upper() for column in columns], cells)


def row_columns(kind: _state.Kind, detail: bool) -> tuple[str, ...]:
    if not detail:
        return kind.table
    import dataclasses

    return tuple(f.name for f in dataclasses.fields(kind.schema))  # type: ignore[arg-type]


def _cell(column: str, value: Any) -> str:
    if value is None or value == "":
        return "-"
    if column.endswith(("_ms", "start_time", "end_time")):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value / 1000)) if value else "-"
    if isinstance(value, dict):
        from mobula import _explain

        numbers = all(isinstance(amount, (int, float)) for amount in value.values())
        text = _explain.format_amounts(value) if numbers else json.dumps(value)
    else:
        text = str(value)
    text = text.replace("\n", " ")
    return text if len(text) <= _CELL_MAX else text[: _CELL_MAX - 3] + "..."
