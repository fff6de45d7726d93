"""`mobula list tasks`: what there is, filtered."""

from __future__ import annotations

import argparse
import sys

from mobula import _cli
from mobula._commands import _state_output

ORDER = 40
HELP = "List tasks, objects, workers, jobs, nodes and more"
EPILOG = """\
examples:
  mobula list tasks --filter state=RUNNING
  mobula list tasks -f name=train -f state!=FINISHED --limit 1000
  mobula list tasks --filter state=FAILED --detail
  mobula list workers --format json
  mobula list objects --filter where=disk --detail
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from mobula import _state

    parser.add_argument(
        "kind", choices=sorted(_state.KINDS), metavar="KIND", help=", ".join(sorted(_state.KINDS))
    )
    parser.add_argument(
        "-f",
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only those; KEY!=VALUE: only others. Several must all match",
    )
    parser.add_argument(
        "--limit", type=int, default=100, metavar="N", help="at most so many (default: 100)"
    )
    parser.add_argument("--detail", action="store_true", help="with all that is known")
    _state_output.add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from mobula import _state
    from mobula.util.state import _listing
    from mobula.util.state.exception import RayStateApiException

    kind = _state.KINDS[arguments.kind]
    with _cli.observing(arguments):
        try:
            filters = _listing.check_filters(
                kind, [parse_filter(text) for text in arguments.filter]
            )
            listing = _listing.take_listing(kind, filters, arguments.limit, arguments.timeout)
        except (RayStateApiException, ValueError) as error:
            raise _cli.CommandError(str(error)) from error
    rows = listing.rows if arguments.detail else [row.without_detail() for row in listing.rows]
    _state_output.print_rows(kind, rows, arguments.format, arguments.detail)
    sys.stdout.flush()
    if listing.found > len(rows):
        print(f"{len(rows)} of {listing.found}; --limit shows more", file=sys.stderr)
    if listing.missing:
        print(f"mobula list: {listing.missing}", file=sys.stderr)
    return 1 if listing.missing else 0


def parse_filter(text: str) -> tuple[str, str, str]:
    """ "state!=FINISHED" in three parts. ValueError."""
    key, sign, value = text.partition("=")
    predicate = "!=" if key.endswith("!") else "="
    key = key.removesuffix("!").strip()
    if not sign or not key:
        raise ValueError(f"a filter is KEY=VALUE or KEY!=VALUE, not {text!r}")
    return key, predicate, value.strip()
