"""`mobula status`: which sessions there are, and what they do."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from mobula import _cli

if TYPE_CHECKING:
    from mobula._sessions_here import SessionRecord

ORDER = 30
HELP = "Show the sessions of this user and how busy they are"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _cli.add_address(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("-v", "--verbose", action="store_true", help="taken and not needed")


def run(arguments: argparse.Namespace) -> int:
    import json

    from mobula import _sessions_here

    if arguments.address is not None:
        records = [_cli.chosen_session(arguments)]
    else:
        records = _sessions_here.sessions()
    if not records:
        raise _cli.CommandError("no Mobula session is running. `mobula start` starts one.")
    states = [_ask(record) for record in records]
    if arguments.json:
        print(json.dumps(states, indent=2))
    else:
        print("\n".join(_describe(state) for state in states), end="")
    return 0 if all("error" not in state for state in states) else 1


def _ask(record: SessionRecord) -> dict[str, Any]:
    from mobula import _core

    state: dict[str, Any] = {
        "name": record.name,
        "address": record.address,
        "kind": "standing" if record.is_standing else "private",
        "pid": record.pid,
        "node_id": record.node_id,
        "started": record.started,
        "version": record.version,
        "labels": dict(record.labels),
    }
    try:
        with _cli.observing_session(record):
            state["total"] = _core.cluster_resources()
            state["available"] = _core.available_resources()
    except ConnectionError as error:
        state["error"] = str(error)
    return state


def _describe(state: dict[str, Any]) -> str:
    from mobula import _tables

    whose = "of `mobula start`" if state["kind"] == "standing" else "of a program"
    age = _tables.duration(time.time() - state["started"])
    text = (
        f"Session {state['name']} ({whose}), for {age}\n"
        f"  address  {state['address']}\n"
        f"  node     {state['node_id']}, pid {state['pid']}\n"
    )
    if state["labels"]:
        text += "  labels   " + ", ".join(f"{k}={v}" for k, v in state["labels"].items()) + "\n"
    if "error" in state:
        return text + f"  It does not answer: {state['error']}\n"
    rows = []
    for name, total in sorted(state["total"].items(), key=_resource_order):
        used = total - state["available"].get(name, 0.0)
        shown = _tables.size if name.endswith("memory") else _tables.amount
        rows.append((name, shown(used), shown(total)))
    table = _tables.table(("RESOURCE", "USED", "OF"), rows)
    return text + "".join(f"  {line}\n" for line in ["", *table.splitlines()])


def _resource_order(entry: tuple[str, float]) -> tuple[int, str]:
    usual = ("CPU", "GPU", "memory", "object_store_memory")
    name = entry[0]
    return (usual.index(name) if name in usual else len(usual), name)
