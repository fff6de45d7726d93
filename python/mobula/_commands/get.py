"""`mobula get tasks ID`: everything about one."""

from __future__ import annotations

import argparse

from mobula import _cli
from mobula._commands import _state_output

ORDER = 41
HELP = "Show everything about one task, worker, job, node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from mobula import _state

    kinds = sorted(_state.KINDS)
    parser.add_argument("kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
    parser.add_argument("id", metavar="ID", help="as `mobula list` shows it")
    _state_output.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from mobula import _state
    from mobula.util.state import _listing

    kind = _state.KINDS[arguments.kind]
    with _cli.observing(arguments):
        filters: list[_listing.Filter] = [(kind.id_column, "=", arguments.id)]
        listing = _listing.take_listing(kind, filters, 1000, arguments.timeout)
    if not listing.rows:
        raise _cli.CommandError(f"there is none of the {kind.name} with the id {arguments.id!r}")
    format = "yaml" if arguments.format == "default" else arguments.format
    _state_output.print_rows(kind, listing.rows, format, True)
    return 0
