"""Puts right what a task leaves behind in its worker that would hurt the next one.

The extension sees when there is something (src/python/leftovers.h), repairs what the kernel keeps, and
calls `PutRight` for what Python keeps. docs/leftovers.md says what is put right and what stays.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from mobula import _core

if TYPE_CHECKING:
    from mobula._output import Output

# A handler of one of these, left behind, would meet the next task's own timers, children and pipes.
# The others stay as a task leaves them: to have installed one, for a look at the process, is a wish.
SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGXFSZ,
)


_loaded: tuple[int, dict[str, Any]] = (0, {})


def modules_of_package() -> dict[str, Any]:
    """Those that are loaded. The zygote calls it, too: a look at all modules touches the memory of
    each, of which every worker would have a copy."""
    global _loaded
    if _loaded[0] != len(sys.modules):
        modules = {
            name: module
            for name, module in sys.modules.items()
            if name.partition(".")[0] == "mobula"
        }
        _loaded = len(sys.modules), modules
    return _loaded[1]


class PutRight:
    """Remembers what the process is like before its first task."""

    def __init__(self, stdout: Output, stderr: Output, interrupt_signal: int) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.stdin = sys.stdin
        self.signals = (*SIGNALS, interrupt_signal)
        self._handlers = {number: signal.getsignal(number) for number in self.signals}
        self._wakeup = -1
        self._full: list[Any] = []  # Streams of tasks: to drop one would write, and wait.
        self._trace = sys.gettrace()
        self._profile = sys.getprofile()
        self._threads_trace = threading.gettrace()
        self._threads_profile = threading.getprofile()
        self._modules = modules_of_package()

    def __call__(self, is_actor: bool) -> None:
        """Whatever it finds. An actor's process is its own: only what is broken is put right."""
        if is_actor:
            self._flush(sys.stdout)
            self._flush(sys.stderr)
            return
        # Traced first: what follows is ours.
        if sys.gettrace() is not self._trace:
            sys.settrace(self._trace)
        if sys.getprofile() is not self._profile:
            sys.setprofile(self._profile)
        if threading.gettrace() is not self._threads_trace:
            threading.settrace(self._threads_trace)
        if threading.getprofile() is not self._threads_profile:
            threading.setprofile(self._threads_profile)
        self._put_signals_right()
        self._put_streams_right()
        for name, module in self._modules.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module

    def _put_signals_right(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        if not faulthandler.is_enabled():
            faulthandler.enable(2)
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            # Set also if Python knows of no change: C code may have made one.
            if handler is not None:
                signal.signal(number, handler)

    def _put_streams_right(self) -> None:
        for name in ("stdout", "stderr"):
            ours: Output = getattr(self, name)
            left = getattr(sys, name, None)
            if left is not ours:
                setattr(sys, name, ours)
                self._flush(left)
            # To where the task wanted it, and if that is gone, to where it belongs.
            self._flush(ours)
            _core.restore_descriptor(1 if name == "stdout" else 2)
            ours.put_right()
            setattr(sys, f"__{name}__", ours)
        if self.stdin is not None and self.stdin.closed:
            _core.restore_descriptor(0)
            self.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stdin = self.stdin
        sys.__stdin__ = self.stdin  # type: ignore[misc, assignment]

    def _flush(self, stream: Any) -> None:
        # The task's own stream may do anything; what it cannot write is lost with the task.
        with contextlib.suppress(BaseException):
            if stream is self.stdout or stream is self.stderr or _can_be_written(stream):
                stream.flush()
            elif stream not in self._full:
                self._full.append(stream)


def _can_be_written(stream: Any) -> bool:
    """Else who writes would wait, and maybe for ever: for somebody who reads a pipe."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):  # It has none.
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


_worker_pid = os.getpid()


def begin() -> None:
    """This process is a worker."""
    global _worker_pid
    _worker_pid = os.getpid()


def end_child(error: BaseException | None) -> None:
    """Called when user code has returned, or raised `error`: if this is a child that it has forked, it
    ends here, as a forked child of a script would at the end of the script, and sends nothing."""
    if os.getpid() != _worker_pid:
        _end(error)


def _end(error: BaseException | None) -> NoReturn:
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = exit_code(error)
        elif error is not None:
            status = 1
            traceback.print_exception(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):
                stream.flush()
        os._exit(status)


def exit_code(error: SystemExit) -> int:
    """What the interpreter would make of it."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
