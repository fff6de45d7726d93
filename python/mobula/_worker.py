"""What a worker process does: it executes tasks until its daemon ends it.

`main` is called in the forked child of the zygote (or in a fresh interpreter), with descriptors 1 and
2 already leading to the daemon. It sets up what user code sees and hands over to `_core.run_worker`.
"""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

# _serialization, with cloudpickle, is for the extension: imported here, the zygote does it once.
from mobula import (  # noqa: F401
    _actor_worker,
    _address,
    _cancelled,
    _core,
    _from_driver,
    _serialization,
    _session,
    _worker_path,
)
from mobula._lease import Lease

if TYPE_CHECKING:
    import types

# Tells this process that its task is to end. Python's own signals stay the user's.
_INTERRUPT_SIGNAL = signal.SIGRTMIN + 5

# The daemon takes lines that start so off a stream: what follows on it comes from that task.
_NAME_MARK = b"\x01\x02mobula:name:"


class _NamedStream(io.RawIOBase):
    """A descriptor that leads to the daemon. `name` is whose output it is; the daemon is told when
    that has changed, before the next output."""

    def __init__(self, descriptor: int) -> None:
        self.name = ""
        self._descriptor = descriptor
        self._told = ""
        self._in_line = False  # What was written last did not end with a newline.

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: object) -> int:
        chunk = bytes(memoryview(data))  # type: ignore[arg-type]
        if not chunk:
            return 0
        prefix = b""
        if self.name != self._told:
            self._told = self.name
            name = self.name.replace("\n", " ").encode(errors="replace")
            prefix = (b"\n" if self._in_line else b"") + _NAME_MARK + name + b"\n"
        view = memoryview(prefix + chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._in_line = not chunk.endswith(b"\n")
        return len(chunk)


class _Output(io.TextIOWrapper):
    """Line-buffered text on a descriptor that leads to the daemon. What one task left unfinished is
    written, under its name, before the output of another."""

    def __init__(self, descriptor: int, title: str) -> None:
        self._named = _NamedStream(descriptor)
        self._title = title
        self._follows = True  # Not in a child made by fork: it has no tasks.
        super().__init__(
            io.BufferedWriter(self._named, 1 << 16),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        os.register_at_fork(before=self.flush, after_in_child=self._stop_following)

    @property
    def name(self) -> str:
        return self._title

    @property
    def buffer(self) -> Any:
        self._follow()
        return super().buffer

    def write(self, text: str) -> int:
        self._follow()
        return super().write(text)

    def _follow(self) -> None:
        if not self._follows:
            return
        name = _output_name()
        if name is not None and name != self._named.name:
            self.flush()
            self._named.name = name

    def _stop_following(self) -> None:
        self._follows = False


def _output_name() -> str | None:
    """Whose output it is that is written now."""
    actor = _actor_worker.this_actor()
    if actor is not None:
        return actor.shown_name
    task = _core.current_task()
    return task["function_name"] if task is not None else None


def _reseed() -> None:
    """A fork copies the state of random generators; without this two workers would draw the same.
    Python's own `random` takes care of itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()


def _on_interrupt(number: int, frame: types.FrameType | None) -> None:
    # Late signals find another task, or none: those are not meant.
    why = _core.take_interrupt()
    if why is None:
        return
    _cancelled.note_current_task()
    if why == "timeout":
        from mobula import exceptions

        raise exceptions.TaskTimeoutError("This task has run longer than its timeout_s.")
    raise KeyboardInterrupt


def _exit_code(error: SystemExit) -> int:
    """What the interpreter would make of it."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def main(socket_fd: int) -> NoReturn:
    """Takes over `socket_fd`, this worker's end of the daemon's socket. Does not return."""
    code = 1
    try:
        sys.stdout = _Output(1, "<stdout>")
        sys.stderr = _Output(2, "<stderr>")
        faulthandler.enable(2)  # The last words of a crash reach the driver.
        _session.become_worker()
        _worker_path.follow()
        if _address.runs_as_ray():
            from mobula import ray

            ray.install()
        _reseed()
        if _from_driver.text(_from_driver.SETUP_HOOK):
            from mobula import _environment_setup

            _environment_setup.run_hook()
        _core.connect(
            socket_fd,
            {
                "is_driver": False,
                "infeasible_is_error": _session.infeasible_is_error(),
                "lineage_bytes_max": _session.lineage_bytes_max(),
                "records_call_sites": _session.records_call_sites(),
            },
        )
        signal.signal(_INTERRUPT_SIGNAL, _on_interrupt)
        _core.interrupt_with(_INTERRUPT_SIGNAL)
        if _from_driver.text(_from_driver.LOGGING_CONFIG):
            from mobula import _logging_config

            _logging_config.apply_from_driver()
        _core.run_worker(Lease().start)
        code = 0
        _actor_worker.finish()
    except SystemExit as error:
        code = _exit_code(error)
        if _actor_worker.this_actor() is not None:
            _actor_worker.note_exit(error)
            _actor_worker.finish()
    except ConnectionError:
        code = 1  # The daemon has gone; it is not there to be told either.
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            # Not the interpreter's own way out: threads and exit handlers of user code may do
            # anything, and nobody waits for them.
            os._exit(code)
