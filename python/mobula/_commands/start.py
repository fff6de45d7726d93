"""`mobula start`: a session that no program ends."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from mobula import _cli

if TYPE_CHECKING:
    import types

    from mobula._sessions_here import SessionRecord

ORDER = 10
HELP = "Start a session that programs share"
DESCRIPTION = """\
Starts a session on this machine that lives until `mobula stop`. Programs of this user that call
mobula.init() without an address run their tasks there, side by side. They find it in $XDG_RUNTIME_DIR,
or without that in the folder for temporary files; where this differs, use its address."""
EPILOG = """\
examples:
  mobula start                          all CPUs and GPUs of this machine
  mobula start --num-cpus 4 --resources '{"licence": 2}'
  mobula start --block                  stays in the foreground until Ctrl-C"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--head", action="store_true", help="taken and not needed: one machine is its own head"
    )
    parser.add_argument("--address", help="of a session on another machine (not supported yet)")
    parser.add_argument("--num-cpus", type=float, metavar="N", help="default: those there are")
    parser.add_argument("--num-gpus", type=float, metavar="N", help="default: those there are")
    parser.add_argument("--resources", metavar="JSON", help='others, as {"name": amount}')
    parser.add_argument("--labels", metavar="JSON|K=V,...", help="labels of the node")
    parser.add_argument(
        "--object-store-memory",
        type=float,
        metavar="BYTES",
        help="default: 30 %% of the memory that is free",
    )
    parser.add_argument(
        "--object-spilling-directory",
        metavar="DIR",
        help="where objects go that do not fit into the store; default: the session directory",
    )
    parser.add_argument("--temp-dir", metavar="DIR", help="where the session directory is made")
    parser.add_argument(
        "--metrics-export-port",
        type=int,
        metavar="PORT",
        help="on this machine only, for Prometheus; 0: one that is free, -1: none. Default:"
        " $MOBULA_METRICS_EXPORT_PORT, else 0",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument(
        "--block", action="store_true", help="wait until the session ends; Ctrl-C ends it"
    )


def run(arguments: argparse.Namespace) -> int:
    from mobula import _address, _daemon, _spilling

    if arguments.address is not None:
        raise _cli.CommandError(
            "--address: joining a session of another machine is not supported yet."
        )
    try:
        resources = _address.node_resources(
            arguments.num_cpus, arguments.num_gpus, _json("--resources", arguments.resources)
        )
        store_bytes = _address.store_bytes(_bytes(arguments.object_store_memory))
        labels = _address.check_labels(_labels(arguments.labels))
        port = _address.metrics_port(arguments.metrics_export_port)
        spilling = arguments.object_spilling_directory
        if spilling is not None:
            spilling = _spilling.check(spilling)
    except (TypeError, ValueError) as error:
        raise _cli.CommandError(str(error)) from error
    settings = _daemon.NodeSettings(
        resources=resources,
        object_store_memory=store_bytes,
        labels=labels,
        temp_dir=arguments.temp_dir,
        metrics_port=port,
        log_level=arguments.log_level,
        object_spilling_directory=spilling,
    )
    record, process = _daemon.start_standing_daemon(settings)
    _greet(record)
    return _block(record, process) if arguments.block else 0


def _greet(record: SessionRecord) -> None:
    from mobula import _machine, _tables

    have = ", ".join(
        f"{_tables.size(value) if name == 'memory' else _tables.amount(value)} {name}"
        for name, value in record.resources.items()
        if not _machine.is_of_one_node(name)
    )
    print(f"Started the session {record.name} (pid {record.pid}): {have}.")
    print(f"""
Programs on this machine run there if they call
    mobula.init()
or, whatever else there may be,
    mobula.init(address="{record.address}")

mobula status   shows what it does
mobula stop     ends it""")
    sys.stdout.flush()


def _block(record: SessionRecord, process: subprocess.Popen[bytes]) -> int:
    asked = False

    def ask(number: int, frame: types.FrameType | None) -> None:
        nonlocal asked
        asked = True
        process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    print("\nThis command waits for the end of the session; Ctrl-C ends it.", flush=True)
    status = process.wait()
    if asked or status == 0:
        print(f"The session {record.name} has ended.")
        return 0
    raise _cli.CommandError(
        f"the node daemon (pid {record.pid}) ended unexpectedly: {_how(status)}."
    )


def _how(status: int) -> str:
    if status >= 0:
        return f"it exited with code {status}"
    return f"killed by {signal.Signals(-status).name}"


def _json(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _cli.CommandError(
            f"""{option} must be a JSON object like '{{"name": 1}}', not {text!r}"""
        )
    return value


def _labels(text: str | None) -> dict[str, Any] | None:
    if text is None or text.lstrip().startswith("{"):
        return _json("--labels", text)
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    if any(not equals for _, equals, _ in pairs):
        raise _cli.CommandError(f"--labels must be JSON or name=value,name=value, not {text!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _bytes(value: float | None) -> int | None:
    return None if value is None else int(value)
