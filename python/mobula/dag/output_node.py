"""MultiOutputNode: several nodes whose results are the result of a graph."""

from __future__ import annotations

from typing import Any

from mobula.dag.dag_node import DAGNode, Run


class MultiOutputNode(DAGNode):
    """`execute` returns a list of what its nodes give."""

    def __init__(self, args: list[DAGNode] | tuple[DAGNode, ...] | DAGNode) -> None:
        """TypeError: not of nodes."""
        nodes = (args,) if isinstance(args, DAGNode) else tuple(args)
        for node in nodes:
            if not isinstance(node, DAGNode):
                raise TypeError(f"MultiOutputNode takes nodes of a graph, but one is {node!r}")
        super().__init__(nodes, {})

    def _run(self, run: Run) -> Any:
        return list(run.fill(self._bound_args))

    def __repr__(self) -> str:
        return f"MultiOutputNode({list(self._bound_args)})"
