"""`mobula logs`: what processes printed."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mobula import _cli

ORDER = 45
HELP = "List log files, or print one"
EPILOG = """\
examples:
  mobula logs                       all log files
  mobula logs 'worker-*.err'        the files with such names; if it is only one, its text
  mobula logs worker --pid 4711     what a worker printed
  mobula logs task ID --err         what the worker of a task printed to stderr
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        default="*",
        metavar="FILES|worker|task",
        help="names of files, with * and ?; or `worker` or `task`",
    )
    parser.add_argument("id", nargs="?", help="of a task")
    parser.add_argument("--pid", type=int, help="of a worker")
    parser.add_argument("--err", action="store_true", help="stderr instead of stdout")
    parser.add_argument(
        "--tail",
        type=int,
        default=1000,
        metavar="N",
        help="so many last lines; -1: all (default: 1000)",
    )
    parser.add_argument("--follow", action="store_true", help="go on with what is added")
    _cli.add_address(parser)


def run(arguments: argparse.Namespace) -> int:
    from mobula.util.state import _logs
    from mobula.util.state.exception import RayStateApiException

    with _cli.observing(arguments):
        try:
            asked = _file(arguments)
            if asked is None:
                return 0
            suffix = "err" if arguments.err else "out"
            for piece in _logs.get_log(
                **asked,
                follow=arguments.follow,
                tail=arguments.tail,
                suffix=suffix,
                errors="replace",
            ):
                sys.stdout.write(piece)
                sys.stdout.flush()
        except (RayStateApiException, ValueError) as error:
            raise _cli.CommandError(str(error)) from error
    return 0


def _file(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Which file is meant; None: names were printed instead."""
    from mobula.util.state import _logs

    if arguments.what == "task" and arguments.id:
        return {"task_id": arguments.id}
    if arguments.pid is not None:
        return {"pid": arguments.pid}
    if arguments.what in ("task", "worker"):
        missing = "the task's id" if arguments.what == "task" else "--pid"
        raise ValueError(f"{missing} is missing")
    names = [
        name for group in _logs.list_logs(glob_filter=arguments.what).values() for name in group
    ]
    if len(names) == 1 and arguments.what != "*":
        return {"filename": names[0]}
    if not names:
        raise ValueError(f"no log file is called {arguments.what!r}")
    print("\n".join(names))
    return None
