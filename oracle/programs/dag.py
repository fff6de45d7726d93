"""Graphs of calls that are described first and run later: bind, execute, InputNode."""

from __future__ import annotations

import importlib

from oracle.cases import ENGINE, attempt, case, message_of, ray, run

dag = importlib.import_module(f"{ENGINE}.dag")
InputNode = dag.InputNode
MultiOutputNode = dag.MultiOutputNode


@ray.remote
def add(a, b=10):
    return a + b


@ray.remote
def total(values):
    return sum(ray.get(list(values)))


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self, n):
        self.value += n
        return self.value

    def get(self):
        return self.value


@case
def a_call_runs_when_it_is_executed():
    node = add.bind(1, 2)
    ref = node.execute()
    return type(node).__name__, type(ref).__name__, ray.get(ref)


@case
def nodes_among_the_arguments_run_first():
    return ray.get(add.bind(add.bind(1, 2), b=add.bind(3, 4)).execute())


@case
def a_node_that_is_used_twice_runs_once():
    @ray.remote
    class Calls:
        def __init__(self):
            self.n = 0

        def tick(self):
            self.n += 1
            return self.n

    calls = Calls.remote()

    @ray.remote
    def once(calls):
        return ray.get(calls.tick.remote())

    shared = once.bind(calls)
    node = add.bind(shared, shared)
    return ray.get(node.execute()), ray.get(node.execute()), ray.get(calls.tick.remote())


@case
def nodes_in_lists_become_refs():
    return ray.get(total.bind([add.bind(1, 1), add.bind(2, 2)]).execute())


@case
def nodes_deep_inside_become_refs():
    @ray.remote
    def look(tree):
        return ray.get(tree["a"][0][1]), tree["b"]

    return ray.get(look.bind({"a": [(0, add.bind(1, 1))], "b": 3}).execute())


@case
def the_input_is_what_execute_is_given():
    with InputNode() as given:
        node = add.bind(given, 5)
    return ray.get(node.execute(1)), ray.get(node.execute(2))


@case
def parts_of_the_input_by_place_and_by_name():
    with InputNode() as given:
        node = add.bind(given[0], given.other)
    return ray.get(node.execute(1, other=7))


@case
def parts_of_the_input_by_key():
    with InputNode() as given:
        node = add.bind(given["a"], given["b"])
    return ray.get(node.execute(a=1, b=7))


@case
def parts_of_one_argument():
    with InputNode() as given:
        node = add.bind(given["a"], given["b"])
    return attempt(lambda: ray.get(node.execute({"a": 1, "b": 7})))


@case
def places_in_one_list():
    with InputNode() as given:
        node = add.bind(given[0], given[1])
    return attempt(lambda: ray.get(node.execute([4, 5])))


@case
def places_of_several_arguments():
    with InputNode() as given:
        node = add.bind(given[0], given[1])
    return attempt(lambda: ray.get(node.execute(4, 5)))


@case
def the_whole_input_of_several_arguments():
    @ray.remote
    def look(data):
        return type(data).__name__

    with InputNode() as given:
        node = look.bind(given)
    return attempt(lambda: ray.get(node.execute(4, 5)))


@case
def no_input_where_some_is_wanted():
    with InputNode() as given:
        node = add.bind(given)
    return attempt(lambda: ray.get(node.execute()))


@case
def input_where_none_is_wanted():
    return attempt(lambda: ray.get(add.bind(1, 2).execute(7)))


@case
def the_input_node_itself_is_executed():
    with InputNode() as given:
        pass
    return attempt(lambda: given.execute(5))


@case
def several_outputs():
    with InputNode() as given:
        node = MultiOutputNode([add.bind(given, 1), add.bind(given, 2)])
    refs = node.execute(10)
    return type(refs).__name__, ray.get(refs)


@case
def outputs_that_are_no_list():
    return attempt(MultiOutputNode, (add.bind(1, 2), add.bind(1, 2))) is not None


@case
def outputs_that_are_no_nodes():
    return attempt(lambda: ray.get(MultiOutputNode([1, 2]).execute()))


@case
def options_of_a_bound_call():
    @ray.remote
    def name():
        return ray.get_runtime_context().get_assigned_resources()

    return ray.get(name.options(num_cpus=0.5).bind().execute())


@case
def several_returns():
    @ray.remote(num_returns=2)
    def two():
        return 1, 2

    return [ray.get(ref) for ref in two.bind().execute()]


@case
def an_actor_is_made_by_the_graph():
    counter = Counter.bind(5)
    return type(counter).__name__, ray.get(counter.add.bind(2).execute())


@case
def calls_of_a_bound_actor_go_to_one_actor_a_run():
    counter = Counter.bind(5)
    node = total.bind([counter.add.bind(1), counter.add.bind(2), counter.get.bind()])
    return ray.get(node.execute()), ray.get(node.execute())


@case
def calls_that_were_bound_before_run_too():
    counter = Counter.bind(10)
    counter.add.bind(2)
    counter.add.bind(4)
    return ray.get(counter.get.bind().execute())


@case
def an_actor_node_is_executed():
    handle = Counter.bind(5).execute()
    return type(handle).__name__, ray.get(handle.add.remote(3))


@case
def an_actor_with_options():
    handle = Counter.options(name="bound").bind(5).execute()
    return ray.get(handle.get.remote()), ray.get(ray.get_actor("bound").get.remote())


@case
def an_actor_gets_input():
    with InputNode() as given:
        node = Counter.bind(given).add.bind(1)
    return attempt(lambda: ray.get(node.execute(3)))


@case
def the_method_of_a_living_actor():
    counter = Counter.remote(1)
    with InputNode() as given:
        node = counter.add.bind(given)
    first, second = ray.get(node.execute(2)), ray.get(node.execute(3))
    return type(node).__name__, first, second


@case
def results_go_from_actor_to_actor():
    one, two = Counter.remote(1), Counter.remote(100)
    with InputNode() as given:
        node = two.add.bind(one.add.bind(given))
    return ray.get(node.execute(1)), ray.get(node.execute(1))


@case
def a_bound_actor_among_the_arguments():
    @ray.remote
    def use(handle):
        return ray.get(handle.add.remote(1))

    return attempt(lambda: ray.get(use.bind(Counter.bind(6)).execute()))


@case
def a_method_that_there_is_not():
    return attempt(lambda: Counter.bind(1).nosuch.bind())


@case
def errors_come_through_the_graph():
    @ray.remote
    def breaks():
        raise KeyError("k")

    return attempt(lambda: ray.get(add.bind(breaks.bind()).execute()))


@case
def arguments_that_do_not_fit():
    return attempt(lambda: add.bind(1, 2, 3).execute())


@case
def a_bound_node_cannot_be_called():
    node = add.bind(1)
    return attempt(lambda: node.remote()), attempt(lambda: node())


@case
def an_attribute_of_a_bound_method():
    return attempt(lambda: Counter.bind(1).add(1))


@case
def what_a_node_says_of_itself():
    node = add.bind(1, b=2)
    return (
        list(node.get_args()),
        node.get_kwargs(),
        node.get_options().get("num_cpus"),
        len(node.get_stable_uuid()) > 10,
        node.get_stable_uuid() == add.bind(1, b=2).get_stable_uuid(),
    )


@case
def refs_as_arguments():
    return ray.get(add.bind(ray.put(4), ray.put(5)).execute())


@case
def the_same_graph_from_many_threads():
    from concurrent.futures import ThreadPoolExecutor

    with InputNode() as given:
        node = add.bind(add.bind(given, 1), 1)
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda i: ray.get(node.execute(i)), range(30)))


@case
def a_node_is_in_a_task():
    @ray.remote
    def inside(x):
        return ray.get(add.bind(x, 1).execute())

    return ray.get(inside.remote(3))


@case
def a_node_travels_into_a_task():
    @ray.remote
    def run_it(nodes):
        return ray.get(nodes[0].execute())

    return attempt(lambda: ray.get(run_it.remote([add.bind(3, 4)])))


@case
def messages():
    with InputNode() as given:
        node = add.bind(given)
    said = message_of(lambda: Counter.bind(1).nosuch)
    return "nosuch" in said, message_of(node.execute) != ""


run()
