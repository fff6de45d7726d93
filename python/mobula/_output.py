"""A worker's sys.stdout and sys.stderr: lines on descriptors that lead to the daemon.

Whose output it is the extension tells the daemon when a task begins (src/process/output_label.h). Here
only what it cannot see is noted for it: that something was written, that a line is unfinished, and
that somebody has taken hold of what is below, so that a look is due after the task.

Nothing closes these streams or takes them apart: a program that wraps `sys.stdout.buffer`, or closes
it, does what it wants with an open stream, and the next task has one.
"""

from __future__ import annotations

import errno
import io
import os
from typing import Any

from mobula import _core


class _Raw(io.RawIOBase):
    """A descriptor that is never closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        _core.note_leftover()
        return self._descriptor

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        _core.note_leftover()

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = len(view)
        while view:
            try:
                written = os.write(self._descriptor, view)
            except OSError as error:
                # A task has closed it, this one or one before. It is opened once more.
                if error.errno != errno.EBADF or not _core.restore_descriptor(self._descriptor):
                    raise
                written = os.write(self._descriptor, view)
            view = view[written:]
        return size


class _Buffer(io.BufferedWriter):
    def close(self) -> None:
        _core.note_leftover()
        self.flush()

    def detach(self) -> Any:
        _core.note_leftover()
        self.flush()
        return self.raw


class Output(io.TextIOWrapper):
    """Line-buffered text. What a task leaves unfinished is written when it ends."""

    _SETTINGS: dict[str, Any] = {  # noqa: RUF012
        "encoding": "utf-8",
        "errors": "backslashreplace",
        "line_buffering": True,
        "write_through": False,
    }

    def __init__(self, descriptor: int, title: str) -> None:
        self._pipe = descriptor - 1
        self._title = title
        super().__init__(_Buffer(_Raw(descriptor), 1 << 16), **self._SETTINGS)
        # What was not written yet is the parent's.
        os.register_at_fork(before=self.flush)

    @property
    def name(self) -> str:
        return self._title

    @property
    def buffer(self) -> Any:
        _core.note_leftover()
        return super().buffer

    def write(self, text: str) -> int:
        size = super().write(text)
        _core.note_output(self._pipe, not text.endswith("\n"))
        return size

    def close(self) -> None:
        _core.note_leftover()
        self.flush()

    def detach(self) -> Any:
        _core.note_leftover()
        self.flush()
        return super().buffer

    def reconfigure(self, **options: Any) -> None:
        _core.note_leftover()
        super().reconfigure(**options)

    def __setattr__(self, name: str, value: Any) -> None:
        _core.note_leftover()
        super().__setattr__(name, value)

    def put_right(self) -> None:
        """After a task that may have changed it."""
        for name in [name for name in vars(self) if name not in ("_pipe", "_title", "mode")]:
            delattr(self, name)
        super().reconfigure(newline=None, **self._SETTINGS)
