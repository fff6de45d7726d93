"""Graphs of calls that are described first and run later.

    with InputNode() as given:
        graph = add.bind(square.bind(given), 1)
    ray.get(graph.execute(3))      # 10

`f.bind(...)`, `A.bind(...)` and `handle.method.bind(...)` make nodes; nodes among the arguments of a
node are run before it, once each for a call of `execute`.
"""

from mobula.dag.class_node import ClassMethodNode, ClassNode
from mobula.dag.constants import (
    BIND_INDEX_KEY,
    COLLECTIVE_OPERATION_KEY,
    DAGNODE_TYPE_KEY,
    IS_CLASS_METHOD_OUTPUT_KEY,
    PARENT_CLASS_NODE_KEY,
    PREV_CLASS_METHOD_CALL_KEY,
)
from mobula.dag.dag_node import DAGNode
from mobula.dag.function_node import FunctionNode
from mobula.dag.input_node import DAGInputData, InputAttributeNode, InputNode
from mobula.dag.output_node import MultiOutputNode

__all__ = [
    "BIND_INDEX_KEY",
    "COLLECTIVE_OPERATION_KEY",
    "DAGNODE_TYPE_KEY",
    "IS_CLASS_METHOD_OUTPUT_KEY",
    "PARENT_CLASS_NODE_KEY",
    "PREV_CLASS_METHOD_CALL_KEY",
    "ClassMethodNode",
    "ClassNode",
    "DAGInputData",
    "DAGNode",
    "FunctionNode",
    "InputAttributeNode",
    "InputNode",
    "MultiOutputNode",
]
