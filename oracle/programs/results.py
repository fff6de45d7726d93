"""Nested tasks, refs as arguments, numbers of results."""

from __future__ import annotations

import os

from oracle.cases import attempt, case, message_of, ray, run


@ray.remote
def add(value, other=1):
    return value + other


@ray.remote
def give(*args, **kwargs):
    return list(args), kwargs


@ray.remote
def fail(text="broken"):
    raise ValueError(text)


@case
def recursion():
    @ray.remote
    def factorial(n):
        return 1 if n <= 1 else n * ray.get(factorial.remote(n - 1))

    return ray.get(factorial.remote(6))


@case
def nested_tasks():
    @ray.remote
    def outer(n):
        return sum(ray.get([add.remote(i) for i in range(n)]))

    return ray.get([outer.remote(n) for n in range(5)])


@case
def a_task_that_returns_a_ref():
    @ray.remote
    def outer():
        return add.remote(1)

    inner = ray.get(outer.remote())
    return type(inner).__name__, ray.get(inner)


@case
def a_remote_function_as_an_argument():
    @ray.remote
    def call(function, value):
        return ray.get(function.remote(value))

    return ray.get(call.remote(add, 4))


@case
def a_remote_function_defined_in_a_task():
    @ray.remote
    def outer():
        @ray.remote
        def inner():
            return 1

        return ray.get(inner.remote())

    return ray.get(outer.remote())


@case
def refs_as_arguments_are_resolved():
    return ray.get(add.remote(add.remote(1), other=add.remote(2)))


@case
def refs_in_containers_are_not():
    @ray.remote
    def kinds(refs, by_name):
        return [type(ref).__name__ for ref in refs], {
            k: type(v).__name__ for k, v in by_name.items()
        }

    return ray.get(kinds.remote([ray.put(1), ray.put(2)], by_name={"a": ray.put(3)}))


@case
def refs_in_containers_can_be_got():
    @ray.remote
    def total(refs):
        return sum(ray.get(refs))

    return ray.get(total.remote([add.remote(i) for i in range(4)]))


@case
def a_put_list_of_refs():
    @ray.remote
    def total(refs):
        return sum(ray.get(refs))

    return ray.get(total.remote(ray.put([ray.put(1), ray.put(2)])))


@case
def one_ref_many_times():
    ref = ray.put(2)
    return ray.get(give.remote(ref, ref, x=ref, y=[1]))


@case
def a_ref_in_a_closure():
    ref = ray.put(11)

    @ray.remote
    def read():
        return ray.get(ref)

    return ray.get(read.remote())


@case
def a_failed_argument():
    return attempt(ray.get, add.remote(fail.remote()))


@case
def a_failed_argument_in_a_list_fails_only_in_get():
    @ray.remote
    def length(refs):
        return len(refs)

    return ray.get(length.remote([fail.remote()]))


@case
def arguments_are_copies():
    @ray.remote
    def change(values):
        values.append(1)
        return values

    mine = [0]
    return ray.get(change.remote(mine)), mine


@case
def large_arguments():
    @ray.remote
    def length(data, more):
        return len(data), len(more)

    return ray.get(length.remote(bytes(2_000_000), more=bytes(300_000)))


@case
def two_results():
    @ray.remote(num_returns=2)
    def two():
        return 1, 2

    refs = two.remote()
    return type(refs).__name__, ray.get(refs)


@case
def results_as_a_list_or_another_sequence():
    @ray.remote(num_returns=2)
    def make(kind):
        return kind([1, 2])

    return [attempt(ray.get, make.remote(kind)) for kind in (list, tuple, set, str, dict.fromkeys)]


@case
def no_results():
    @ray.remote(num_returns=0)
    def nothing():
        return 1

    return nothing.remote()


@case
def no_results_by_option():
    return add.options(num_returns=0).remote(1)


@case
def one_result_by_option_is_a_ref():
    return type(add.options(num_returns=1).remote(1)).__name__


@case(says=["2", "3"])
def too_few_results():
    @ray.remote(num_returns=3)
    def two():
        return 1, 2

    ray.get(two.remote()[0])


@case(says=["3", "2"])
def too_many_results():
    @ray.remote(num_returns=2)
    def three():
        return 1, 2, 3

    ray.get(three.remote()[0])


@case
def each_ref_of_a_wrong_number_of_results_fails():
    @ray.remote(num_returns=3)
    def two():
        return 1, 2

    return [attempt(ray.get, ref) for ref in two.remote()]


@case
def a_number_as_several_results():
    @ray.remote(num_returns=2)
    def one():
        return 1

    return attempt(ray.get, one.remote())


@case
def none_as_several_results():
    @ray.remote(num_returns=2)
    def none():
        return None

    return attempt(ray.get, none.remote())


@case
def an_error_with_several_results():
    refs = fail.options(num_returns=2).remote()
    return [attempt(ray.get, ref) for ref in refs]


@case
def many_results():
    @ray.remote(num_returns=100)
    def many():
        return range(100)

    return sum(ray.get(many.remote()))


@case
def a_tuple_is_one_result():
    @ray.remote
    def two():
        return 1, 2

    return ray.get(two.remote()) == (1, 2)


@case
def options_do_not_change_the_function():
    add.options(num_returns=0)
    return type(add.remote(1)).__name__


@case
def options_of_options():
    once = add.options(num_returns=2)
    return attempt(lambda: once.options(num_returns=1))


@case
def calling_what_options_returns():
    return attempt(add.options(num_cpus=1), 1)


@case
def tasks_run_in_other_processes():
    @ray.remote
    def pid():
        return os.getpid()

    return ray.get(pid.remote()) == os.getpid()


@case
def isolated_functions_of_one_name():
    def make(value):
        @ray.remote
        def same():
            return value

        return same

    return ray.get([make(i).remote() for i in range(3)])


@case
def a_thousand_tasks():
    return sum(ray.get([add.remote(i) for i in range(1000)]))


@case
def the_message_for_a_direct_call_names_the_way_out():
    return ".remote()" in message_of(add, 1)


@case
def bind_makes_a_node():
    return attempt(lambda: type(add.bind(1)).__name__)


if __name__ == "__main__":
    run()
