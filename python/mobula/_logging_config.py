"""Log records with the ids of the job, node and task that logged them, as text or as JSON.

The driver configures its root logger, and hands the configuration to its workers by a variable of
their environment.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from mobula import _core, _from_driver

_ENCODINGS = ("TEXT", "JSON")
_TEXT_FORMAT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"
_JSON_ATTRIBUTES = ("asctime", "levelname", "message", "filename", "lineno", "process")

# What every LogRecord has; what else one has was given with `extra=`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LoggingConfig:
    """How the root logger writes, in the driver and in all workers: `init(logging_config=...)`.

    encoding: "TEXT", or "JSON" for one object per line. log_level: of the root logger, a name or a
    number. additional_log_standard_attrs: attributes of `logging.LogRecord` to write besides, such as
    "name". What a record was given as `extra=` is always written, and the ids of job, worker, node
    and task. ValueError: there is no such encoding, level or attribute.
    """

    def __init__(
        self,
        encoding: str = "TEXT",
        log_level: int | str = "INFO",
        additional_log_standard_attrs: Iterable[str] = (),
    ) -> None:
        self.encoding = encoding
        self.log_level = log_level
        self.additional_log_standard_attrs = list(additional_log_standard_attrs)
        if encoding not in _ENCODINGS:
            raise ValueError(f"Invalid encoding type: {encoding!r}. Valid are: {list(_ENCODINGS)}")
        for name in self.additional_log_standard_attrs:
            if name not in _STANDARD:
                raise ValueError(
                    f"Unknown standard attribute of log records: {name!r}. "
                    f"There are: {sorted(_STANDARD)}"
                )
        self._level()

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"LoggingConfig({settings})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoggingConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # It can be changed.

    def to_dict(self) -> dict[str, Any]:
        """The arguments of the constructor by name; plain data."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> LoggingConfig:
        """The opposite of `to_dict`."""
        return cls(**settings)

    def _level(self) -> int:
        level = self.log_level
        if isinstance(level, str):
            level = logging.getLevelName(level.upper())
        if not isinstance(level, int) or isinstance(level, bool):
            raise ValueError(f"Unknown level: {self.log_level!r}")
        return level

    def _apply(self) -> None:
        """Gives the root logger of this process one handler, on stderr as it is now. A handler that
        this made before goes; others stay."""
        root = logging.getLogger()
        for handler in root.handlers[:]:
            if isinstance(handler.formatter, _Formatter):
                root.removeHandler(handler)
        handler = logging.StreamHandler(sys.stderr)
        kind = _JsonFormatter if self.encoding == "JSON" else _TextFormatter
        handler.setFormatter(kind(self.additional_log_standard_attrs))
        handler.setLevel(self._level())
        root.addHandler(handler)
        root.setLevel(self._level())
        logging.getLogger("mobula").setLevel(self._level())


def apply_from_driver() -> None:
    """For workers: what their driver was given, if anything."""
    settings = _from_driver.text(_from_driver.LOGGING_CONFIG)
    if settings:
        LoggingConfig.from_dict(json.loads(settings))._apply()


class _Formatter(logging.Formatter):
    def __init__(self, attributes: list[str]) -> None:
        super().__init__(_TEXT_FORMAT)
        self._attributes = attributes

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is written of a record besides the usual."""
        fields = {name: getattr(record, name, None) for name in self._attributes}
        for name, value in vars(record).items():
            if name not in _STANDARD:
                fields[name] = value
        fields.update(_ids())
        fields["timestamp_ns"] = time.time_ns()
        return fields


class _TextFormatter(_Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        pairs = (f" {name}={value}" for name, value in self._fields(record).items())
        return super().formatMessage(record) + "".join(pairs)


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        line = {name: getattr(record, name) for name in _JSON_ATTRIBUTES}
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exc_text"] = record.exc_text
        if record.stack_info:
            line["stack_info"] = self.formatStack(record.stack_info)
        # What was given as `extra=` may be anything.
        return json.dumps({**line, **self._fields(record)}, default=str)


def _ids() -> dict[str, str]:
    if not _core.is_connected():
        return {}
    from mobula import runtime_context

    context = runtime_context.RuntimeContext()
    ids = {
        "job_id": context.get_job_id(),
        "worker_id": context.get_worker_id(),
        "node_id": context.get_node_id(),
        "task_id": context.get_task_id(),
        "task_name": context.get_task_name(),
        "task_func_name": context.get_task_function_name(),
    }
    return {name: value for name, value in ids.items() if value is not None}


__all__ = ["LoggingConfig"]
