"""The `mobula` command. Its subcommands are the modules of `_commands`.

`mobula node` and `mobula version` are the packaged executable's own.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mobula import _commands
from mobula._version import __version__

if TYPE_CHECKING:
    from mobula._sessions_here import SessionRecord

_OF_EXECUTABLE = {"node": None, "version": "Print the version"}

_EPILOG = """\
`mobula <command> --help` says more. Without `mobula start`, every program that calls mobula.init() has
a session of its own, which ends with it; the commands find that one, too.
"""


class CommandError(Exception):
    """A command cannot do what it was asked to. The text says why, and what to do."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in _OF_EXECUTABLE:
        _become_executable(words)
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """The exit status: 0 if all is well, 1 if the command failed, 2 if it was not understood."""
    parser = _parser()
    arguments = parser.parse_args(list(words))
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `mobula ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (CommandError, OSError) as error:
        print(f"mobula {arguments.command}: {error}", file=sys.stderr)
        return 1


def add_address(parser: argparse.ArgumentParser) -> None:
    """For commands that ask a running session."""
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="the session: its address, directory or name, as `mobula status` shows them. Default:"
        " $MOBULA_ADDRESS, else the session of `mobula start`, else the youngest one",
    )


def chosen_session(arguments: argparse.Namespace) -> SessionRecord:
    """The session that the command line means. CommandError: there is none."""
    from mobula import _sessions_here

    address = arguments.address or os.environ.get("MOBULA_ADDRESS") or "auto"
    try:
        if address not in ("auto", "local"):
            return _sessions_here.session_at(address)
    except ValueError as error:
        raise CommandError(str(error)) from error
    found = _sessions_here.sessions()
    if not found:
        raise CommandError("no Mobula session is running. `mobula start` starts one.")
    return found[0]


@contextlib.contextmanager
def observing(arguments: argparse.Namespace) -> Iterator[SessionRecord]:
    """Connects this process with the session that the command line means, to ask it. It is no job of
    that session's and cannot run tasks."""
    record = chosen_session(arguments)
    with observing_session(record):
        yield record


@contextlib.contextmanager
def observing_session(record: SessionRecord) -> Iterator[None]:
    """The same for a session that is known. ConnectionError: it is gone, or does not answer."""
    from mobula import _core, _session, _sessions_here

    connection = _sessions_here.connect(record)
    _core.connect(
        connection.detach(), {"is_driver": True, "is_observer": True, "token": record.token}
    )
    _session.observe(record)
    try:
        yield
    finally:
        _core.disconnect()
        _session.observe(None)


# ---- the command line ------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mobula",
        description="Mobula runs Python functions as tasks in parallel.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mobula {__version__}")
    commands = parser.add_subparsers(metavar="<command>", dest="command", title="commands")
    modules = [importlib.import_module(f"{_commands.__name__}.{name}") for name in _names()]
    for module in sorted(
        modules, key=lambda module: (getattr(module, "ORDER", 100), module.__name__)
    ):
        _add(commands, module)
    for name, help in _OF_EXECUTABLE.items():
        if help is not None:
            commands.add_parser(name, help=help)
    return parser


def _names() -> list[str]:
    return sorted(
        module.name
        for module in pkgutil.iter_modules(_commands.__path__)
        if not module.name.startswith("_")
    )


def _add(commands: Any, module: Any) -> None:
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    parser = commands.add_parser(
        name,
        help=module.HELP,
        description=getattr(module, "DESCRIPTION", module.HELP),
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _become_executable(words: list[str]) -> NoReturn:
    from mobula._daemon import EXECUTABLE

    try:
        os.execv(EXECUTABLE, ["mobula", *words])
    except OSError as error:
        sys.exit(f"mobula: cannot run {EXECUTABLE}: {error}")
