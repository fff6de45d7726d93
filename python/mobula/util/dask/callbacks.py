"""What programs want to be told of a graph while it is computed.

    class Timer(RayDaskCallback):
        def _ray_pretask(self, key, object_refs):  # In the worker.
            return time.perf_counter()

        def _ray_posttask(self, key, result, pre_state):
            print(key, time.perf_counter() - pre_state)

    with Timer():
        total.compute(scheduler=ray_dask_get)

A callback has any of the six methods of `RayDaskCallback`, or gets them as arguments. Those for tasks
are sent to workers, so what they change of themselves stays there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

_NAMES = (
    "ray_presubmit",
    "ray_postsubmit",
    "ray_pretask",
    "ray_posttask",
    "ray_postsubmit_all",
    "ray_finish",
)


class RayCallback(NamedTuple):
    """The functions of one callback, None for those that it does not have."""

    ray_presubmit: Callable[..., Any] | None = None
    ray_postsubmit: Callable[..., Any] | None = None
    ray_pretask: Callable[..., Any] | None = None
    ray_posttask: Callable[..., Any] | None = None
    ray_postsubmit_all: Callable[..., Any] | None = None
    ray_finish: Callable[..., Any] | None = None


class RayCallbacks(NamedTuple):
    """The functions of several callbacks, by their kinds."""

    ray_presubmit_cbs: list[Callable[..., Any]]
    ray_postsubmit_cbs: list[Callable[..., Any]]
    # Of each callback that has one of the two, both.
    ray_task_cbs: list[tuple[Callable[..., Any] | None, Callable[..., Any] | None]]
    ray_postsubmit_all_cbs: list[Callable[..., Any]]
    ray_finish_cbs: list[Callable[..., Any]]


class RayDaskCallback:
    """Active in a `with` block, or between `register()` and `unregister()`.

    _ray_presubmit(task, key, deps): before a node is submitted; something else than None is its value,
    and it is not. _ray_postsubmit(task, key, deps, object_ref): after that. _ray_pretask(key,
    object_refs) and _ray_posttask(key, result, pre_state): in the worker, before and after; what the
    first returns is `pre_state`. _ray_postsubmit_all(object_refs, dsk): when all were submitted.
    _ray_finish(result): with what was asked for."""

    active: ClassVar[list[RayCallback]] = []

    def __init__(self, **functions: Callable[..., Any] | None) -> None:
        unknown = sorted(set(functions) - set(_NAMES))
        if unknown:
            raise TypeError(f"There is no {unknown[0]} among the functions of a callback: {_NAMES}")
        self._functions = functions
        self._entered: list[RayCallback] = []

    @property
    def _ray_callback(self) -> RayCallback:
        own = {name: getattr(self, f"_{name}", None) for name in _NAMES}
        given = {name: function for name, function in self._functions.items() if function}
        return RayCallback(**{**own, **given})

    def __enter__(self) -> RayDaskCallback:
        self.register()
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    def register(self) -> None:
        """From now on it is told."""
        callback = self._ray_callback
        self._entered.append(callback)
        RayDaskCallback.active.append(callback)

    def unregister(self) -> None:
        """It is told no more."""
        RayDaskCallback.active.remove(self._entered.pop())

    def __getstate__(self) -> dict[str, Any]:
        # Bound methods of it travel with tasks; what is active is of this process.
        return {**self.__dict__, "_entered": []}


def unpack_ray_callbacks(
    callbacks: Iterable[RayDaskCallback | RayCallback] | None,
) -> RayCallbacks:
    """By kinds, as they are called."""
    all_of = [
        one._ray_callback if isinstance(one, RayDaskCallback) else one for one in callbacks or ()
    ]

    def each(name: str) -> list[Callable[..., Any]]:
        return [found for one in all_of if (found := getattr(one, name)) is not None]

    return RayCallbacks(
        each("ray_presubmit"),
        each("ray_postsubmit"),
        [
            (one.ray_pretask, one.ray_posttask)
            for one in all_of
            if one.ray_pretask or one.ray_posttask
        ],
        each("ray_postsubmit_all"),
        each("ray_finish"),
    )


@contextlib.contextmanager
def local_ray_callbacks(
    callbacks: Iterable[RayDaskCallback | RayCallback] | None = None,
) -> Iterator[Iterable[RayDaskCallback | RayCallback]]:
    """Those given, or else the active ones, which are not for what is computed within this block."""
    if callbacks is not None:
        yield callbacks
        return
    active = RayDaskCallback.active[:]
    RayDaskCallback.active.clear()
    try:
        yield active
    finally:
        RayDaskCallback.active[:] = active
