"""FunctionNode: a call of a remote function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobula.dag.dag_node import DAGNode, Run


class FunctionNode(DAGNode):
    def __init__(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`function` has a method `remote`."""
        super().__init__(args, kwargs, options)
        self._function = function

    def _run(self, run: Run) -> Any:
        return self._call(run, self._function.remote)

    def __repr__(self) -> str:
        return f"FunctionNode({self._function!r})"
