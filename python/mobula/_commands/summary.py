"""`mobula summary tasks`: how many there are in each state."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from mobula import _cli
from mobula._commands import _state_output

ORDER = 42
HELP = "Count tasks, or actors, by name and state"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("tasks", "actors"), metavar="KIND", help="tasks, actors")
    _state_output.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from mobula import _tables
    from mobula.util.state import api

    with _cli.observing(arguments):
        if arguments.kind == "tasks":
            told = api.summarize_tasks(timeout=arguments.timeout, raise_on_missing_output=False)
        else:
            told = api.summarize_actors(timeout=arguments.timeout)
    summary: dict[str, Any] = told["cluster"]["summary"]
    if arguments.format == "json":
        json.dump(told, sys.stdout, indent=2)
        print()
    elif arguments.format == "yaml":
        sys.stdout.write(_state_output.to_yaml(list(summary.values())))
    else:
        rows = [
            (name, entry.get("type", "-"), _counts(entry["state_counts"]))
            for name, entry in summary.items()
        ]
        sys.stdout.write(_tables.table(("NAME", "TYPE", "STATES"), rows))
    return 0


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {state}" for state, number in sorted(counts.items()))
