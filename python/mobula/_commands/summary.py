"""`mobula summary tasks`: how many there are in each state."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from mobula import _cli
from mobula._commands import _state_output

ORDER = 42
HELP = "Count tasks or actors by name and state, objects by call site"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ("tasks", "actors", "objects")
    parser.add_argument("kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
    _state_output.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from mobula import _objects_state, _tables
    from mobula.util.state import api

    with _cli.observing(arguments):
        if arguments.kind == "tasks":
            told = api.summarize_tasks(timeout=arguments.timeout, raise_on_missing_output=False)
        elif arguments.kind == "actors":
            told = api.summarize_actors(timeout=arguments.timeout)
        else:
            told = api.summarize_objects(timeout=arguments.timeout, raise_on_missing_output=False)
    summary: dict[str, Any] = told["cluster"]["summary"]
    if arguments.format == "json":
        json.dump(told, sys.stdout, indent=2)
        print()
    elif arguments.format == "yaml":
        sys.stdout.write(_state_output.to_yaml(list(summary.values())))
    elif arguments.kind == "objects":
        cells = [
            (
                _objects_state.short_site(site),
                entry["total_objects"],
                _tables.size(entry["total_size_mb"] * 2**20),
                entry["total_num_workers"],
                _counts(entry["ref_type_counts"]),
            )
            for site, entry in summary.items()
        ]
        headers = ("CALL SITE", "OBJECTS", "SIZE", "PROCESSES", "REFERENCES")
        sys.stdout.write(_tables.table(headers, cells))
    else:
        rows = [
            (name, entry.get("type", "-"), _counts(entry["state_counts"]))
            for name, entry in summary.items()
        ]
        sys.stdout.write(_tables.table(("NAME", "TYPE", "STATES"), rows))
    return 0


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {state}" for state, number in sorted(counts.items()))
