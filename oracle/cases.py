"""What the programs of the oracle are written with: cases, gates, and a session.

A program is a script that defines cases and ends with `run()`. Every case becomes two lines of JSON,
when it begins and when it is over, in the file that ORACLE_RESULTS names (standard output without
it). ORACLE_CASES is a part of the names of the cases to run, ORACLE_DONE lists names to leave out.
`ray` is the engine under test: the package that ORACLE_ENGINE names, "ray" or "mobula" (default).

Workers import this module too, because tasks use `Gate`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ENGINE = os.environ.get("ORACLE_ENGINE", "mobula")
ray: Any = importlib.import_module(ENGINE)
importlib.import_module(f"{ENGINE}.exceptions")

CASE_SECONDS_MAX = 20.0
MESSAGE_CHARS_MAX = 3000

_cases: list[Case] = []
_gates: list[Gate] = []
_out_of_time = threading.Event()


class CaseTimeoutError(BaseException):
    """A case took longer than its limit. Not an Exception: no case may swallow it."""


class Case:
    """One named case: a function without parameters, and what is declared about it."""

    def __init__(self, function: Callable[[], Any], options: dict[str, Any]) -> None:
        self.name = function.__name__
        self.function = function
        self.differs: str = options.pop("differs", "")
        self.says: tuple[str, ...] = tuple(options.pop("says", ()))
        self.seconds_max: float = options.pop("seconds_max", CASE_SECONDS_MAX)
        if options:
            raise TypeError(f"case {self.name}: unknown options {sorted(options)}")

    def outcome(self) -> dict[str, Any]:
        """What the engine made of the case, as JSON can hold it. "compared" is what must be equal;
        "message" is only shown."""
        try:
            value = self.function()
        except BaseException as error:
            # What the limit raises may come out as another error of the extension it went through.
            if _out_of_time.is_set():
                return {"compared": "took too long", "message": ""}
            message = str(error)
            compared: dict[str, Any] = {"raised": lineage(error)}
            if self.says:
                compared["says"] = {part: part.lower() in message.lower() for part in self.says}
            return {"compared": compared, "message": message[:MESSAGE_CHARS_MAX]}
        return {"compared": {"value": plain(value)}, "message": ""}


class Gate:
    """A file that appears once. Processes wait for it; all gates of a case open when the case ends,
    so that no task of it runs on."""

    def __init__(self) -> None:
        handle, self.path = tempfile.mkstemp(prefix="gate-")
        os.close(handle)
        os.unlink(self.path)
        _gates.append(self)

    def open(self) -> None:
        Path(self.path).touch()

    def is_open(self) -> bool:
        return os.path.exists(self.path)

    def wait(self, seconds_max: float = 2 * CASE_SECONDS_MAX) -> None:
        """Returns once the gate is open. TimeoutError after `seconds_max`."""
        deadline = time.monotonic() + seconds_max
        while not self.is_open():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody opened {self.path}")
            time.sleep(0.005)


class Tally:
    """Counts calls across processes: a file that grows by one byte a call."""

    def __init__(self) -> None:
        handle, self.path = tempfile.mkstemp(prefix="tally-")
        os.close(handle)

    def add(self) -> int:
        """Counts one call and returns the number of calls so far."""
        with open(self.path, "ab") as file:
            file.write(b".")
        return self.count()

    def count(self) -> int:
        return os.path.getsize(self.path)


def case(function: Callable[[], Any] | None = None, **options: Any) -> Any:
    """Declares a case: `@case` or `@case(...)`. The name of the function is the name of the case.

    differs      why Mobula's outcome is meant to be another one; "" (default): it must be the same.
    says         fragments, without regard to upper and lower case, that are looked for in the message
                 of what the case raises; whether each one is there is part of the outcome.
    seconds_max  how long the case may take, default 20 seconds.
    """

    def declare(function: Callable[[], Any]) -> Callable[[], Any]:
        _cases.append(Case(function, dict(options)))
        return function

    return declare(function) if function is not None else declare


def lineage(error: BaseException) -> list[str]:
    """The names of the classes of `error` that a user can catch, nearest first."""
    return [kind.__name__ for kind in type(error).__mro__ if kind is not object]


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the call returns, or `raised A < B < Exception` for what it raises."""
    try:
        return function(*args, **kwargs)
    except CaseTimeoutError:
        raise
    except BaseException as error:
        return raised(error)


def raised(error: BaseException) -> str:
    """One line for `error`: the names of its class and of all bases."""
    return "raised " + " < ".join(lineage(error))


def message_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The message of what the call raises; "" if it raises nothing."""
    try:
        function(*args, **kwargs)
    except CaseTimeoutError:
        raise
    except BaseException as error:
        return str(error)
    return ""


def plain(value: Any) -> Any:
    """`value` as JSON can hold it and as it can be compared: exceptions by their classes, refs and
    other objects by the name of their type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, BaseException):
        return raised(value)
    if isinstance(value, type):
        return value.__name__
    return f"<{type(value).__name__}>"


def start(**options: Any) -> Any:
    """`init` with what every program wants: 4 CPUs, no dashboard, quiet."""
    return ray.init(
        **{
            "num_cpus": 4,
            "include_dashboard": False,
            "logging_level": "error",
            "log_to_driver": False,
            "_temp_dir": os.environ.get("ORACLE_TEMP") or None,
            **options,
        }
    )


def run(**options: Any) -> None:
    """Runs the declared cases in order, in one session that is started with `options`."""
    start(**options)
    try:
        run_without_session()
    finally:
        ray.shutdown()


def run_without_session() -> None:
    """Runs the declared cases in order. The cases start sessions of their own."""
    results = os.environ.get("ORACLE_RESULTS")
    only = os.environ.get("ORACLE_CASES", "")
    done = os.environ.get("ORACLE_DONE", "").split(",")
    signal.signal(signal.SIGALRM, _give_up)
    with open(results, "a") if results else sys.stdout as file:
        for one in _cases:
            if only not in one.name or one.name in done:
                continue
            print(json.dumps({"begins": one.name, "differs": one.differs}), file=file, flush=True)
            began = time.monotonic()
            _out_of_time.clear()
            signal.setitimer(signal.ITIMER_REAL, one.seconds_max, 2.0)
            try:
                outcome = one.outcome()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                for gate in _gates:
                    gate.open()
                _gates.clear()
            outcome["seconds"] = round(time.monotonic() - began, 3)
            line = {"name": one.name, "differs": one.differs, **outcome}
            print(json.dumps(line), file=file, flush=True)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    _out_of_time.set()
    raise CaseTimeoutError
