"""InputNode: what a graph is given when it is executed; InputAttributeNode: a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

from mobula.dag.dag_node import DAGNode, Run


class DAGInputData:
    """The whole input where `execute` was given several values: by place and by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = args
        self._kwargs = kwargs

    def __getitem__(self, key: int | str) -> Any:
        return self._args[key] if isinstance(key, int) else self._kwargs[key]

    def __repr__(self) -> str:
        return f"DAGInputData(args={self._args}, kwargs={self._kwargs})"


class InputNode(DAGNode):
    """Stands for what `execute` is given: its only argument, or a DAGInputData of several. `node[0]`,
    `node["key"]` and `node.name` stand for parts of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """ValueError: anything is given."""
        if args or kwargs:
            raise ValueError("InputNode takes no arguments: execute() does.")
        super().__init__((), {})

    def __enter__(self) -> InputNode:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def __getitem__(self, key: Any) -> InputAttributeNode:
        if not isinstance(key, (int, str)):
            raise ValueError(f"A part of the input is named by a number or a text, not {key!r}.")
        return InputAttributeNode(self, key, by_item=True)

    def __getattr__(self, name: str) -> InputAttributeNode:
        if name.startswith("_"):
            raise AttributeError(f"'InputNode' object has no attribute {name!r}")
        return InputAttributeNode(self, name, by_item=False)

    def _run(self, run: Run) -> Any:
        if len(run.args) == 1 and not run.kwargs:
            return run.args[0]
        return DAGInputData(*run.args, **run.kwargs)

    def __repr__(self) -> str:
        return "InputNode()"


class InputAttributeNode(DAGNode):
    """Stands for a part of the input."""

    def __init__(self, node: InputNode, key: int | str, by_item: bool) -> None:
        super().__init__((node, key), {})
        self._key = key
        self._by_item = by_item

    def _needs(self) -> Iterator[DAGNode]:
        yield self._bound_args[0]

    def _run(self, run: Run) -> Any:
        whole = run.fill(self._bound_args[0])
        if isinstance(whole, DAGInputData) or self._by_item:
            return whole[self._key]
        return getattr(whole, str(self._key))

    def __repr__(self) -> str:
        return f"InputAttributeNode({self._key!r})"
