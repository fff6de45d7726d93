"""ClassNode: an actor that the graph makes; ClassMethodNode: a call of an actor's method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from mobula.dag.constants import (
    BIND_INDEX_KEY as BIND_INDEX_KEY,
)
from mobula.dag.constants import (
    IS_CLASS_METHOD_OUTPUT_KEY as IS_CLASS_METHOD_OUTPUT_KEY,
)
from mobula.dag.constants import (
    PARENT_CLASS_NODE_KEY as PARENT_CLASS_NODE_KEY,
)
from mobula.dag.constants import (
    PREV_CLASS_METHOD_CALL_KEY as PREV_CLASS_METHOD_CALL_KEY,
)
from mobula.dag.dag_node import DAGNode, Run, _nodes_in
from mobula.dag.input_node import InputAttributeNode, InputNode


class ClassNode(DAGNode):
    """An actor. Each execution of the graph makes one, for all calls of its methods in the graph, which
    run in the order in which they were bound: what was bound before one that runs, runs too."""

    def __init__(
        self,
        actor_class: Any,
        cls: type,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`actor_class` has a method `remote`; `cls` is the user's class."""
        super().__init__(args, kwargs, options)
        for node in _nodes_in((args, dict(kwargs))):
            if isinstance(node, (InputNode, InputAttributeNode)):
                raise ValueError(
                    "The input of a graph cannot be an argument of a class: the actor is made for the "
                    "graph, before there is input. Pass it to a method."
                )
        self._actor_class = actor_class
        self._class = cls
        self._last_call: ClassMethodNode | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not callable(getattr(self.__dict__.get("_class"), name, None)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return UnboundMethod(self, name, {})

    def _run(self, run: Run) -> Any:
        return self._call(run, self._actor_class.remote)

    def __repr__(self) -> str:
        return f"ClassNode({self._class.__qualname__})"


class UnboundMethod:
    """A method of a ClassNode: `bind` makes a call of it."""

    def __init__(self, node: ClassNode, name: str, options: dict[str, Any]) -> None:
        self._node = node
        self._name = name
        self._options = options

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        call = ClassMethodNode(self._node, self._name, args, kwargs, self._options)
        self._node._last_call = call
        return call

    def options(self, **options: Any) -> UnboundMethod:
        return UnboundMethod(self._node, self._name, {**self._options, **options})

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"The method {self._name!r} of a bound class cannot be called: use "
            f"'{self._name}.bind(...)'."
        )


class ClassMethodNode(DAGNode):
    """A call of a method of an actor that the graph makes (`actor` is its ClassNode), or that lives
    (then it is an ActorMethod)."""

    def __init__(
        self,
        actor: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(args, kwargs, options)
        self._actor = actor
        self._name = name
        self._previous = actor._last_call if isinstance(actor, ClassNode) else None

    def get_method_name(self) -> str:
        return self._name

    def _needs(self) -> Iterator[DAGNode]:
        if isinstance(self._actor, ClassNode):
            yield self._actor
        if self._previous is not None:
            yield self._previous
        yield from super()._needs()

    def _run(self, run: Run) -> Any:
        method = self._actor
        if isinstance(method, ClassNode):
            method = getattr(run.fill(method), self._name)
            if self._bound_options:
                method = method.options(**self._bound_options)
        return self._call(run, method.remote)

    def __repr__(self) -> str:
        return f"ClassMethodNode({self._name})"
