"""A process that looks at a session again and again: what `mobula list`, `mobula summary` and
Prometheus ask for. Run as a program it is that process: each line on stdin turns asking on ("1") or
off ("0")."""

from __future__ import annotations

import select
import subprocess
import sys
import urllib.request
from typing import Any

INTERVAL_S = 0.1


class Observer:
    """Starts it. In `with`; it asks nothing until it is told to."""

    def __init__(self, context: Any) -> None:
        place = context.address_info["session_dir"], context.address_info["metrics_export_port"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.subjects.observer", *map(str, place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def ask(self, on: bool) -> int:
        """How often it had asked for everything until then."""
        assert self._process.stdin is not None
        self._process.stdin.write("1\n" if on else "0\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def main(session: str, port: str) -> None:
    from mobula import _cli, _sessions_here
    from mobula.util import state

    with _cli.observing_session(_sessions_here.session_at(session)):
        asks, rounds = False, 0
        print(0, flush=True)
        while True:
            if select.select([sys.stdin], [], [], INTERVAL_S if asks else None)[0]:
                line = sys.stdin.readline()
                if not line:
                    return
                asks = line.strip() == "1"
                print(rounds, flush=True)
                rounds = 0
            if asks:
                state.list_tasks(raise_on_missing_output=False)
                state.summarize_tasks(raise_on_missing_output=False)
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read()
                rounds += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
