"""Remote functions: what `@remote` makes of a function.

A remote function knows its options and how to be sent to another process. Submitting is done by the
extension: `remote` is a `_core.Submitter`, called without any Python in between.
"""

from __future__ import annotations

import functools
import os
import weakref
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from mobula import (
    _cancelled,
    _core,
    _environments,
    _failures,
    _generator,
    _options,
    _placement,
    _worker_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mobula.dag import FunctionNode
    from mobula.runtime_env import RuntimeEnv

P = ParamSpec("P")
R = TypeVar("R")

# Renamed variants of a remote function (`.options(name=...)`) that are kept for the next call.
_NAMED_SOURCES_MAX = 64

# Remote functions of this process by their identity, so that one that travels to a worker and back
# in many messages is one object there.
_known: weakref.WeakValueDictionary[bytes, RemoteFunction[..., Any]] = weakref.WeakValueDictionary()


# What functools.cache and lru_cache make of a function.
_CACHED = type(functools.lru_cache(lambda: None))


class RemoteFunction(Generic[P, R]):
    """A function that runs as a task: `f.remote(...)` submits one and returns its `ObjectRef`.

    Carries the metadata of the function (name, docstring, signature).
    """

    remote: Any
    """Submits a task. Takes the arguments of the function; refs among them (not inside them) stand
    for their values. Returns an ObjectRef, a list of `num_returns` of them, or None for 0."""

    def __init__(
        self,
        function: Callable[P, R],
        options: dict[str, Any],
        identity: bytes | None = None,
        limit: tuple[int, int] = (0, 0),
    ) -> None:
        _options.check_types(options, in_options=False)
        if _options.is_async(function):
            raise ValueError(
                "'async def' should not be used for remote tasks. Wrap the call: a plain function "
                "that returns asyncio.run(f())."
            )
        functools.update_wrapper(self, function)
        self._function = function
        self._function_name = f"{function.__module__}.{getattr(function, '__name__', function)}"
        self._options = options
        self._identity = identity or os.urandom(16)
        self._sources: dict[tuple[Any, ...], _core.FunctionSource] = {}
        self._limit = limit
        self.remote = self._submitter(_options.task_options(options, function), {})
        _known[self._identity] = self

    def options(self, **task_options: Any) -> RemoteFunctionWithOptions[P, R]:
        """The same function with other options, for one or more calls."""
        _options.check_types(task_options, in_options=True)
        if not task_options.get("runtime_env", True):
            del task_options[
                "runtime_env"
            ]  # An empty one says nothing: that of the decorator stays.
        merged = _options.task_options({**self._options, **task_options}, self._function)
        submit = self._submitter(merged, task_options)
        return RemoteFunctionWithOptions(self, task_options, submit)

    def _remote(
        self, args: Any = None, kwargs: dict[str, Any] | None = None, **task_options: Any
    ) -> Any:
        """`f.options(**task_options).remote(*args, **kwargs)`."""
        submit = self.options(**task_options).remote if task_options else self.remote
        return submit(*(args or ()), **(kwargs or {}))

    def bind(self, *args: Any, **kwargs: Any) -> FunctionNode:
        """A call in a graph (see `mobula.dag`), which runs when the graph is executed."""
        from mobula.dag import FunctionNode

        return FunctionNode(self, args, kwargs)

    def _submitter(self, options: _options.TaskOptions, given: dict[str, Any]) -> Any:
        """`given`: those of `options` that are not the function's own."""
        if options.runtime_env is None:
            submit = self._submitter_in(options, None)
        else:
            submit = _EnvironmentSubmitter(
                self._function, options.runtime_env, functools.partial(self._submitter_in, options)
            )
        # Not by this object: they would keep each other.
        submit.origin = _load_submitter, (self._identity, self._function, self._options, given)
        return submit

    def _submitter_in(
        self, options: _options.TaskOptions, environment: _environments.Spec | None
    ) -> Any:
        if options.placement is None:
            return self._plain_submitter(options, options.resources, environment)
        if options.placement.is_plain:
            bundle = _placement.NO_BUNDLE
            return self._plain_submitter(options, options.resources, environment, bundle)
        placed = functools.partial(self._placed, options, environment)
        return _PlacedSubmitter(self._function, options.placement, placed)

    def _placed(
        self,
        options: _options.TaskOptions,
        environment: _environments.Spec | None,
        placement: _placement.Placement,
    ) -> Any:
        """Of tasks that must be in this place on this node."""
        from mobula import runtime_context

        context = runtime_context.get_runtime_context()
        name = options.name or str(getattr(self._function, "__name__", self._function))
        why = placement.impossible(context.get_node_id())
        if not why:
            bundle = placement.bundle(name, options.resources)
            resources = {**options.resources, **placement.missing(context.get_node_labels())}
            return self._plain_submitter(options, resources, environment, bundle)
        source = _core.FunctionSource(_Unschedulable(self._function, why), name)
        if options.num_returns != _options.STREAMING:
            return _core.Submitter(source, {}, options.num_returns, 0)
        return GeneratorSubmitter(_core.Submitter(source, {}, 1, 0, True, options.ahead_max))

    def _plain_submitter(
        self,
        options: _options.TaskOptions,
        resources: Mapping[str, float],
        environment: _environments.Spec | None,
        bundle: tuple[int, int, bool] | None = None,
    ) -> Any:
        streaming = options.num_returns == _options.STREAMING
        submit = _core.Submitter(
            self._source(options),
            resources,
            1 if streaming else options.num_returns,
            options.max_retries,
            streaming,
            options.ahead_max,
            priority=options.priority,
            time_limit_ms=options.time_limit_ms,
            environment=environment,
            bundle=bundle,
            limit=self._limit,
        )
        return GeneratorSubmitter(submit) if streaming else submit

    def _source(self, options: _options.TaskOptions) -> _core.FunctionSource:
        own_name = _in_utf8(str(getattr(self._function, "__name__", self._function)))
        name = _in_utf8(options.name) if options.name else own_name
        retried = (options.retry_exceptions, options.max_retries)
        retry = retried if options.retry_exceptions else None
        key = (name, retry, options.dynamic, options.max_calls)
        source = self._sources.get(key)
        if source is None:
            _worker_path.tell_changes()
            function: Callable[..., Any] = self._function
            if options.retry_exceptions:
                function = _Retrying(function, options.retry_exceptions, options.max_retries)
            if options.dynamic:
                function = _Dynamic(function)
            if options.max_calls:
                function = _Limited(function, options.max_calls)
            source = _core.FunctionSource(function, name, own_name=own_name)
            if len(self._sources) >= _NAMED_SOURCES_MAX:
                self._sources.clear()
            self._sources[key] = source
        return source

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        raise TypeError(
            "Remote functions cannot be called directly. "
            f"Instead of running '{name}()', try '{name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"<remote function {self._function.__module__}.{self._function.__qualname__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (self._identity, self._function, self._options)


class RemoteFunctionWithOptions(Generic[P, R]):
    """What `RemoteFunction.options` returns."""

    __slots__ = ("_base", "_options", "remote")

    def __init__(self, base: RemoteFunction[P, R], options: dict[str, Any], submitter: Any) -> None:
        self._base = base
        self._options = options
        self.remote = submitter

    def bind(self, *args: Any, **kwargs: Any) -> FunctionNode:
        """A call in a graph, as `RemoteFunction.bind`."""
        from mobula.dag import FunctionNode

        return FunctionNode(self, args, kwargs, self._options)

    def _remote(self, args: Any = None, kwargs: dict[str, Any] | None = None, **more: Any) -> Any:
        """The same with more options, which win over those before."""
        return self._base._remote(args, kwargs, **{**self._options, **more})

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        return self._base(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_with_options, (self._base, self._options)


def _in_utf8(name: str) -> str:
    """As people are shown it."""
    return name if name.isascii() else name.encode(errors="backslashreplace").decode()


def _load_with_options(
    base: RemoteFunction[P, R], options: dict[str, Any]
) -> RemoteFunctionWithOptions[P, R]:
    return base.options(**options)


def _load(
    identity: bytes, function: Callable[..., Any], options: dict[str, Any]
) -> RemoteFunction[..., Any]:
    known = _known.get(identity)
    return known if known is not None else RemoteFunction(function, options, identity)


def _load_submitter(
    identity: bytes, function: Callable[..., Any], options: dict[str, Any], given: dict[str, Any]
) -> Any:
    loaded = _load(identity, function, options)
    return loaded.options(**given).remote if given else loaded.remote


class _ByOrigin:
    """Something that is called to submit a task, and pickled as what it was made from."""

    origin: tuple[Callable[..., Any], tuple[Any, ...]]

    def __reduce__(self) -> tuple[Any, ...]:
        return self.origin


class _PlacedSubmitter(_ByOrigin):
    """Submits a task that may run in some places only. Which these are is known with the session."""

    def __init__(
        self,
        function: Callable[..., Any],
        placement: _placement.Placement,
        make: Callable[[_placement.Placement], Any],
    ) -> None:
        functools.update_wrapper(self, function)
        self._placement = placement
        self._make = make
        self._session = 0
        self._submit: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._session == 0 or self._session != _core.session_number():
            self._submit = self._make(self._placement)
            self._session = _core.session_number()
        return self._submit(*args, **kwargs)


class _EnvironmentSubmitter(_ByOrigin):
    """Submits a task in a runtime environment. What it inherits is known with the session."""

    def __init__(
        self,
        function: Callable[..., Any],
        runtime_env: RuntimeEnv,
        make: Callable[[_environments.Spec | None], Any],
    ) -> None:
        functools.update_wrapper(self, function)
        self._runtime_env = runtime_env
        self._make = make
        self._session = 0
        self._submit: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from mobula import _session

        if self._session == 0 or self._session != _core.session_number():
            if not _core.is_connected():
                _session.auto_init()
            self._submit = self._make(_environments.of_task(self._runtime_env))
            self._session = _core.session_number()
        return self._submit(*args, **kwargs)


class _Unschedulable:
    """Stands for a function that can never run where it must."""

    def __init__(self, function: Callable[..., Any], why: str) -> None:
        functools.update_wrapper(self, function)
        self._why = why

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from mobula import exceptions

        raise exceptions.TaskUnschedulableError(self._why)


class GeneratorSubmitter(_ByOrigin):
    """Submits a task whose items come one by one."""

    def __init__(self, submit: _core.Submitter) -> None:
        functools.update_wrapper(self, submit)
        self._submit = submit

    def __call__(self, *args: Any, **kwargs: Any) -> _generator.ObjectRefGenerator:
        return _generator.ObjectRefGenerator(self._submit(*args, **kwargs))


class _Limited:
    """A function whose worker ends after so many calls of it."""

    def __init__(self, function: Callable[..., Any], calls_max: int) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._calls_left = calls_max

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._calls_left -= 1
        if self._calls_left <= 0:
            _core.retire()
        return self._function(*args, **kwargs)


class _Dynamic:
    """A generator function whose items are put one by one and returned together, as refs. If it raises,
    the error is the last of them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> _generator.DynamicObjectRefGenerator:
        refs: list[Any] = []
        try:
            for item in self._function(*args, **kwargs):
                refs.append(_core.put(item))
        except Exception as error:
            refs.append(_core.put_error(error, str(self._function.__name__)))
        return _generator.DynamicObjectRefGenerator(refs)


class _Retrying:
    """A function that is called again in the same worker while it raises what may be retried."""

    def __init__(
        self,
        function: Callable[..., Any],
        exceptions: bool | tuple[type[BaseException], ...],
        retries_max: int,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._exceptions = (Exception,) if exceptions is True else exceptions
        self._retries_max = retries_max

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _options.is_generator(self._function):
            return self._items(args, kwargs)
        retries = 0
        while True:
            try:
                return self._function(*args, **kwargs)
            except self._exceptions:  # type: ignore[misc]
                if retries == self._retries_max or _cancelled.is_current_task():
                    raise
                retries += 1
                _failures.tell_retry(self._function, retries, self._retries_max)

    def _items(self, args: Any, kwargs: Any) -> Iterator[Any]:
        """Of a generator function: run again, it begins anew, and what was sent is left out."""
        retries = 0
        sent = 0
        while True:
            try:
                for number, item in enumerate(self._function(*args, **kwargs)):
                    if number == sent:
                        sent += 1
                        yield item
                return
            except self._exceptions:  # type: ignore[misc]
                if retries == self._retries_max or _cancelled.is_current_task():
                    raise
                retries += 1
                _failures.tell_retry(self._function, retries, self._retries_max)


class _Decorator:
    """What `remote(num_cpus=2)` returns."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def __call__(self, function: Callable[P, R]) -> Any:
        return _make(function, self._options)


def _make(function: Any, options: dict[str, Any]) -> Any:
    if isinstance(function, type):
        from mobula import actor

        return actor.make_class(function, options)
    if not hasattr(function, "__code__") and not isinstance(function, _CACHED):
        raise TypeError(
            "The @ray.remote decorator must be applied to either a function or a class."
        )
    return RemoteFunction(function, options)


@overload
def remote(function: Callable[P, R], /) -> RemoteFunction[P, R]: ...
@overload
def remote(**options: Any) -> _Decorator: ...
def remote(*args: Any, **options: Any) -> Any:
    """Makes a function remote: `@remote`, or `@remote(num_cpus=2, num_returns=3, ...)`.

    Options of a task, with defaults: num_cpus=1, num_gpus=0, resources={}, memory=None (bytes),
    num_returns=1, max_retries=3 (after crashes; -1: without limit), retry_exceptions=False (True or
    a list of exception classes: also after those), name=None (shown in logs and the timeline),
    priority=None (higher goes first; by default that of the task that submits it, 0 in a driver),
    timeout_s=None (a task that runs longer fails with TaskTimeoutError).
    ValueError: unknown option. TypeError: an option of the wrong type.
    """
    if len(args) == 1 and not options and callable(args[0]):
        return _make(args[0], {})
    if args or not options:
        raise AssertionError(_options.decorator_advice())
    # Which options there are depends on what is decorated, but what is wrong for all is said now.
    return _Decorator(options)
