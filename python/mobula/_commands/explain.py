"""`mobula explain`: why tasks wait."""

from __future__ import annotations

import argparse

from mobula import _cli

ORDER = 43
HELP = "Say why tasks wait"
DESCRIPTION = (
    "Says of each task that waits what it waits for: which arguments, which resources and who \
holds them, a worker that is being started, or something that no node can ever give."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        nargs="?",
        metavar="TASK",
        help="a task's id, the beginning of one, or a name; without it: all tasks that wait",
    )
    _cli.add_address(parser)


def run(arguments: argparse.Namespace) -> int:
    from mobula.util.state import api

    with _cli.observing(arguments):
        print(api.explain(arguments.task))
    return 0
