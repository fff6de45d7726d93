"""DAGNode: one call, or one value, of a graph; and how a graph is run.

A node does not change once it is made, so a graph can be executed from many threads at once. What comes
of the nodes in one execution is kept in its `Run`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn


class Run:
    """One execution of a graph."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self._results: dict[int, Any] = {}

    def result_of(self, node: DAGNode) -> Any:
        """What the node gives, which is run the first time. What it needs is run before, without
        recursion: graphs may be long chains."""
        stack = [node]
        while stack:
            one = stack[-1]
            if id(one) in self._results:
                stack.pop()
                continue
            missing = [need for need in one._needs() if id(need) not in self._results]
            if missing:
                stack += reversed(missing)
                continue
            self._results[id(one)] = one._run(self)
            stack.pop()
        return self._results[id(node)]

    def fill(self, value: Any) -> Any:
        """`value` with what came of its nodes in their places."""
        return _replace(value, lambda node: self._results[id(node)])


class DAGNode:
    """Base class of all nodes."""

    def __init__(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._bound_args = tuple(args)
        self._bound_kwargs = dict(kwargs)
        self._bound_options = dict(options or {})
        self._stable_uuid = uuid.uuid4().hex

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the graph that ends here, with this input: what `remote` of the last call returns."""
        return Run(args, kwargs).result_of(self)

    def get_args(self) -> tuple[Any, ...]:
        """The arguments by place, nodes among them."""
        return self._bound_args

    def get_kwargs(self) -> dict[str, Any]:
        """The arguments by name."""
        return dict(self._bound_kwargs)

    def get_options(self) -> dict[str, Any]:
        """What was given to `options`."""
        return dict(self._bound_options)

    def get_stable_uuid(self) -> str:
        """A text that no other node has."""
        return self._stable_uuid

    def experimental_compile(self, *_: Any, **__: Any) -> NoReturn:
        """NotImplementedError: there are no compiled graphs."""
        raise NotImplementedError("Compiled graphs are not supported: use execute().")

    def with_tensor_transport(self, *_: Any, **__: Any) -> NoReturn:
        """NotImplementedError: it is for compiled graphs."""
        raise NotImplementedError("Compiled graphs are not supported: use execute().")

    def _needs(self) -> Iterator[DAGNode]:
        """What must be run before."""
        yield from _nodes_in((self._bound_args, self._bound_kwargs))

    def _run(self, run: Run) -> Any:
        raise NotImplementedError

    def _call(self, run: Run, function: Callable[..., Any]) -> Any:
        return function(*run.fill(self._bound_args), **run.fill(self._bound_kwargs))


def _nodes_in(value: Any) -> Iterator[DAGNode]:
    if isinstance(value, DAGNode):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nodes_in(key)
            yield from _nodes_in(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _nodes_in(item)


def _replace(value: Any, result: Callable[[DAGNode], Any]) -> Any:
    if isinstance(value, DAGNode):
        return result(value)
    if next(_nodes_in(value), None) is None:
        return value
    if isinstance(value, dict):
        return type(value)(
            (_replace(key, result), _replace(item, result)) for key, item in value.items()
        )
    items = [_replace(item, result) for item in value]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*items)
    return type(value)(items)
