"""`mobula stop`: ends the session of `mobula start`."""

from __future__ import annotations

import argparse
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from mobula import _cli

if TYPE_CHECKING:
    from mobula._sessions_here import SessionRecord

ORDER = 20
HELP = "End the session of `mobula start`"
DESCRIPTION = """\
Ends the session that `mobula start` has started: its tasks, its workers and its objects. Programs that
use it get an error. Sessions that programs have of their own end with them, and are left alone unless
they are named by --address, or all are meant by --all."""

_KILL_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="kill it, without asking first")
    parser.add_argument(
        "-g",
        "--grace-period",
        type=float,
        default=16.0,
        metavar="SECONDS",
        help="kill it if it has not ended by then (default: 16)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--address", metavar="ADDRESS", help="the session to end, as in `mobula status`"
    )
    which.add_argument("--all", action="store_true", help="all sessions of this user")


def run(arguments: argparse.Namespace) -> int:
    from mobula import _sessions_here

    if arguments.address is not None:
        records = [_cli.chosen_session(arguments)]
    else:
        records = [r for r in _sessions_here.sessions() if arguments.all or r.is_standing]
    for record in records:
        _stop(record, 0.0 if arguments.force else max(0.0, arguments.grace_period))
    _sessions_here.sweep()
    if not records:
        print("No session to stop.")
    return 0


def _stop(record: SessionRecord, grace_seconds: float) -> None:
    from mobula import _sessions_here

    # The kernel says whose socket it is, so the number is that of the daemon while it is connected.
    try:
        connection = _sessions_here.connect(record)
    except _sessions_here.SessionGoneError:
        print(f"The session {record.name} has just ended.")
        return
    with connection:
        pidfd = os.pidfd_open(record.pid)
    try:
        if not _sessions_here.is_alive(record.directory):
            print(f"The session {record.name} has just ended.")
            return
        started = time.monotonic()
        if grace_seconds > 0:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        how = "Stopped"
        if not _ends(pidfd, grace_seconds):
            how = "Killed"
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            if not _ends(pidfd, _KILL_SECONDS):
                raise _cli.CommandError(
                    f"process {record.pid} does not end, although it was killed"
                )
        _sessions_here.remove_if_dead(record.directory)
        seconds = time.monotonic() - started
        print(f"{how} the session {record.name} (pid {record.pid}) in {seconds:.1f} s.")
    finally:
        os.close(pidfd)


def _ends(pidfd: int, seconds: float) -> bool:
    return bool(select.select([pidfd], [], [], seconds)[0])
