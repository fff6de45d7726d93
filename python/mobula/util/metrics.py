"""Counters, gauges and histograms of the program's own, for Prometheus.

    from mobula.util.metrics import Counter

    requests = Counter("requests", description="Requests that came in.", tag_keys=("route",))
    requests.inc(tags={"route": "/"})

In drivers and tasks. The node shows them beside its own figures, at
`http://127.0.0.1:<MetricsExportPort of mobula.nodes()>/metrics`, as Ray names them: a counter
`requests` is `ray_requests_total` there. Recording is a change of a number in shared memory; what a
process has counted stays when it ends. Before `init`, values are kept until there is a session.

Threads: any; the interpreter's lock makes records one after the other.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from mobula import _core, _limits

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_TEXT_MAX = 1000

# All metrics of this process that have recorded something without a session.
_early: list[Metric] = []

# The series that this process has in the session with this number, by what they are. A metric that is
# made again and again, in each task say, goes on where it was.
_opened: dict[tuple[Any, ...], int | None] = {}
_opened_in = 0


class _Series:
    """One metric with one set of tags."""

    __slots__ = ("early", "number", "session", "tags")

    def __init__(self, tags: tuple[tuple[str, str], ...]) -> None:
        self.tags = tags
        self.session = 0
        self.number: int | None = None
        self.early: list[float] = []


class Metric:
    """What the kinds share. Use those."""

    _KIND: int
    _DISCARDED: Any = None

    def __init__(
        self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None
    ) -> None:
        if len(name) == 0:
            raise ValueError("Empty name is not allowed. Please provide a metric name.")
        self._name = name
        self._description = description
        self._default_tags: dict[str, str] = {}
        self._tag_keys = tag_keys or ()
        if not isinstance(self._tag_keys, tuple):
            raise TypeError(f"tag_keys should be a tuple type, got: {type(self._tag_keys)}")
        for key in self._tag_keys:
            if not isinstance(key, str):
                raise TypeError(f"Tag keys must be str, got {type(key)}.")
        self._discarded = _NAME.match(name) is None
        if self._discarded:
            warnings.warn(
                f"Invalid metric name: {_limits.shown(name)}. Metric will be discarded and data will "
                "not be collected or published. Metric names can only contain letters, numbers, _, "
                "and :. Metric names cannot start with numbers.",
                stacklevel=3,
            )
        self._series: dict[tuple[tuple[str, str], ...], _Series] = {}

    @property
    def info(self) -> dict[str, Any]:
        """What it was made with."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def set_default_tags(self, default_tags: dict[str, str]) -> Metric:
        """Values for tags that a record leaves out. ValueError: a key that is not one of tag_keys.
        TypeError: a value that is no text."""
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}.")
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value)}.")
        self._default_tags = default_tags
        return self

    # ---- recording

    def _record(self, value: float, tags: dict[str, str] | None) -> None:
        key = self._final_tags(tags)
        if self._discarded:
            return
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(key)
        session = _core.session_number()
        if session == 0:
            series.early.append(value)
            if len(series.early) > 1:
                series.early = self._merged(series.early)
            if self not in _early:
                _early.append(self)
            return
        if series.session != session:
            self._open(series, session)
        self._apply(series, value)

    def _open(self, series: _Series, session: int) -> None:
        """In a new session it begins anew."""
        global _opened_in
        if _opened_in != session:
            _opened.clear()
            _opened_in = session
        series.session = session
        boundaries = self._boundaries()
        what = (self._KIND, self._name, series.tags, *boundaries)
        if what not in _opened:
            _opened[what] = self._new_series(series.tags, boundaries)
        series.number = _opened[what]
        early, series.early = series.early, []
        for value in early:
            self._apply(series, value)

    def _new_series(self, tags: tuple[tuple[str, str], ...], boundaries: list[float]) -> int | None:
        try:
            return _core.metric_add(
                self._KIND,
                self._name,
                _clean(self._description),
                [(_clean(key), _clean(value)) for key, value in tags],
                boundaries,
            )
        except MemoryError as error:
            warnings.warn(
                f"{_limits.shown(self._name)}{_limits.short_text(dict(tags))} is not recorded: {error}",
                stacklevel=6,
            )
            return None

    def _apply(self, series: _Series, value: float) -> None:
        raise NotImplementedError

    def _boundaries(self) -> list[float]:
        return []

    def _merged(self, values: list[float]) -> list[float]:
        """Fewer values that mean the same, of those recorded before there is a session."""
        return values

    def _final_tags(self, tags: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
        if tags is not None:
            for value in tags.values():
                if not isinstance(value, str):
                    raise TypeError(f"Tag values must be str, got {type(value)}.")
        given = {**self._default_tags, **(tags or {})}
        missing = [key for key in self._tag_keys if key not in given]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        return tuple((key, given[key]) for key in self._tag_keys)

    def __reduce__(self) -> tuple[Any, ...]:
        made_of = (self._name, self._description, self._tag_keys)
        return type(self), made_of, {"_default_tags": self._default_tags}


class Counter(Metric):
    """A number that only grows."""

    _KIND = _core.METRIC_COUNTER

    def inc(self, value: int | float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Adds `value`, which must be more than 0."""
        _check_number(value)
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        self._record(value, tags)

    def _apply(self, series: _Series, value: float) -> None:
        if series.number is not None:
            _core.metric_increase(series.number, value)

    def _merged(self, values: list[float]) -> list[float]:
        return [sum(values)]


class Gauge(Metric):
    """A number that goes up and down: the last one counts. Of each process there is one."""

    _KIND = _core.METRIC_GAUGE

    def set(self, value: int | float | None, tags: dict[str, str] | None = None) -> None:
        """`None` changes nothing."""
        if value is None:
            return
        _check_number(value)
        self._record(value, tags)

    def _apply(self, series: _Series, value: float) -> None:
        if series.number is not None:
            _core.metric_set(series.number, value)

    def _merged(self, values: list[float]) -> list[float]:
        return values[-1:]


class Histogram(Metric):
    """How many values lie in which range."""

    _KIND = _core.METRIC_HISTOGRAM
    _EARLY_MAX = 10_000

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: list[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        """boundaries: the upper ends of the ranges, more than 0; one more goes to infinity."""
        super().__init__(name, description, tag_keys)
        if not boundaries:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class. "
                'e.g., Histogram("name", boundaries=[1.0, 2.0])'
            )
        for index, boundary in enumerate(boundaries):
            if boundary <= 0:
                raise ValueError(
                    f"Invalid `boundaries` argument at index {index}, {boundaries}. "
                    "Use positive values for the arguments."
                )
        self.boundaries = boundaries

    @property
    def info(self) -> dict[str, Any]:
        return {**super().info, "boundaries": self.boundaries}

    def observe(self, value: int | float, tags: dict[str, str] | None = None) -> None:
        """Counts `value` into its range."""
        _check_number(value)
        self._record(value, tags)

    def _apply(self, series: _Series, value: float) -> None:
        if series.number is not None:
            _core.metric_observe(series.number, value)

    def _boundaries(self) -> list[float]:
        return sorted({float(boundary) for boundary in self.boundaries})

    def _merged(self, values: list[float]) -> list[float]:
        return values[-self._EARLY_MAX :]

    def __reduce__(self) -> tuple[Any, ...]:
        made_of = (self._name, self._description, self.boundaries, self._tag_keys)
        return type(self), made_of, {"_default_tags": self._default_tags}


def flush_early() -> None:
    """A session has begun: what was recorded before is told."""
    session = _core.session_number()
    waiting, _early[:] = _early[:], []
    for metric in waiting:
        for series in metric._series.values():
            if series.early:
                metric._open(series, session)


def _check_number(value: Any) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"value must be int or float, got {type(value)}.")


def _clean(text: str) -> str:
    """As it can be kept: short, and without what ends texts in C."""
    return str(text).replace("\0", " ")[:_TEXT_MAX].encode("utf-8", "replace").decode("utf-8")


__all__ = ["Counter", "Gauge", "Histogram", "Metric"]
