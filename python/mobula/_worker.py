"""What a worker process does: it executes tasks until its daemon ends it.

`main` is called in the forked child of the zygote (or in a fresh interpreter), with descriptors 1 and
2 already leading to the daemon. It sets up what user code sees and hands over to `_core.run_worker`.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

# _serialization, with cloudpickle, is for the extension: imported here, the zygote does it once.
from mobula import (  # noqa: F401
    _actor_worker,
    _address,
    _after_task,
    _cancelled,
    _core,
    _from_driver,
    _serialization,
    _session,
    _worker_path,
)
from mobula._lease import Lease
from mobula._output import Output

if TYPE_CHECKING:
    import types

# Tells this process that its task is to end. Python's own signals stay the user's.
_INTERRUPT_SIGNAL = signal.SIGRTMIN + 5


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


def main(socket_fd: int) -> NoReturn:
    """Takes over `socket_fd`, this worker's end of the daemon's socket. Does not return."""
    code = 1
    try:
        stdout = sys.stdout = sys.__stdout__ = Output(1, "<stdout>")  # type: ignore[misc]
        stderr = sys.stderr = sys.__stderr__ = Output(2, "<stderr>")  # type: ignore[misc]
        _after_task.begin()
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
        put_right = _after_task.PutRight(stdout, stderr, _INTERRUPT_SIGNAL)
        _core.run_worker(Lease().start, put_right)
        code = 0
        _actor_worker.finish()
    except SystemExit as error:
        code = _after_task.exit_code(error)
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
