"""Graphs of calls that are described first and run later."""

from __future__ import annotations

from typing import Any

import mobula as ray
import pytest
from mobula.dag import InputNode, MultiOutputNode

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]


@ray.remote
def add(a: int, b: int = 10) -> int:
    return a + b


@ray.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, n: int) -> int:
        self.value += n
        return self.value


def test_nodes_among_the_arguments_run_first_and_once() -> None:
    calls = Counter.remote()
    shared = calls.add.bind(1)
    graph = add.bind(shared, b=shared)
    assert ray.get(graph.execute()) == 2
    assert ray.get(graph.execute()) == 4


def test_the_input_and_its_parts_stand_for_what_execute_is_given() -> None:
    with InputNode() as given:
        whole = add.bind(given, 5)
        parts = add.bind(given[0], given.other)
    assert ray.get([whole.execute(1), whole.execute(2)]) == [6, 7]
    assert ray.get(parts.execute(1, other=7)) == 8


def test_several_outputs_are_a_list_of_refs() -> None:
    with InputNode() as given:
        graph = MultiOutputNode([add.bind(given, 1), add.bind(given, 2)])
    assert ray.get(graph.execute(10)) == [11, 12]


def test_each_execution_makes_its_actors_and_calls_them_in_order() -> None:
    counter = Counter.bind(10)
    counter.add.bind(2)
    graph = counter.add.bind(4)
    assert ray.get(graph.execute()) == 16
    assert ray.get(graph.execute()) == 16


def test_a_long_chain_is_no_deep_recursion() -> None:
    node: Any = add.bind(0, 1)
    for _ in range(3000):
        node = add.bind(node, 1)
    assert ray.get(node.execute()) == 3001


def test_nodes_inside_of_containers_become_refs() -> None:
    @ray.remote
    def total(tree: dict[str, list[Any]]) -> int:
        return sum(ray.get(tree["refs"]))

    graph = total.bind({"refs": [add.bind(1, 1), add.bind(2, 2)]})
    assert ray.get(graph.execute()) == 6


def test_what_cannot_be_in_a_graph_is_refused() -> None:
    with InputNode() as given:
        pass
    with pytest.raises(ValueError, match="method"):
        Counter.bind(given)
    with pytest.raises(TypeError, match="node"):
        MultiOutputNode([1])  # type: ignore[list-item]
    with pytest.raises(AttributeError, match="nosuch"):
        Counter.bind().nosuch.bind()
    with pytest.raises(TypeError, match="bind"):
        Counter.bind().add(1)
    with pytest.raises(NotImplementedError):
        add.bind(1).experimental_compile()
