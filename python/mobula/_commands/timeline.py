"""`mobula timeline`: who ran what when, for Perfetto."""

from __future__ import annotations

import argparse
import json
import sys
import time

from mobula import _cli

ORDER = 44
HELP = "Write who ran what when, for Perfetto or chrome://tracing"
DESCRIPTION = (
    "Writes the tasks that ran so far, and those that run now, in the Chrome trace format. "
    "Open the file at https://ui.perfetto.dev or in chrome://tracing."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help='where to write it; "-": to stdout (default: mobula-timeline-<time>.json)',
    )
    _cli.add_address(parser)


def run(arguments: argparse.Namespace) -> int:
    import mobula

    path = arguments.output or time.strftime("mobula-timeline-%Y%m%d-%H%M%S.json")
    with _cli.observing(arguments):
        events = mobula.timeline() or []
    if path == "-":
        json.dump(events, sys.stdout)
        return 0
    with open(path, "w", encoding="utf-8") as file:
        json.dump(events, file)
    tasks = sum(event["ph"] == "X" for event in events)
    print(f"{tasks} tasks are in {path}. Open it at https://ui.perfetto.dev")
    return 0
