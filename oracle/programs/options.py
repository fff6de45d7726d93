"""What `ray.remote(...)` and `.options(...)` accept, and what they say about the rest."""

from __future__ import annotations

import warnings

from oracle.cases import attempt, case, message_of, ray, run


def plain_function(value=1):
    return value


function = ray.remote(plain_function)


def decorated(**options):
    """How the decorator takes `options`: "fine", or what it raises."""
    return attempt(lambda: ray.remote(**options)(plain_function) and "fine")


def optioned(**options):
    """How `.options` and the call take `options`."""
    return attempt(lambda: (function.options(**options).remote(1), "fine")[1])


def both(name, values):
    return {
        repr(value): [decorated(**{name: value}), optioned(**{name: value})] for value in values
    }


@case(says=["'wrong'", "num_cpus", "max_retries"])
def an_unknown_option_in_the_decorator():
    ray.remote(wrong=1)(plain_function)


@case(says=["'wrong'", "num_cpus", "max_retries"])
def an_unknown_option():
    function.options(wrong=1)


@case
def options_of_actors_in_a_task():
    names = [
        "max_restarts",
        "max_task_retries",
        "max_concurrency",
        "lifetime",
        "namespace",
        "get_if_exists",
    ]
    return {name: optioned(**{name: 1}) for name in names}


@case
def num_cpus():
    return both("num_cpus", [0, 1, 0.5, 2.25, None, -1, -0.5, "1", True, [1], 0.0001])


@case
def num_cpus_that_are_too_fine():
    return both("num_cpus", [0.00001, 1.00005])


@case(says=["num_cpus", "negative"])
def message_of_negative_cpus():
    function.options(num_cpus=-1)


@case(says=["num_cpus", "int", "float", "str"])
def message_of_cpus_of_a_wrong_type():
    function.options(num_cpus="1")


@case
def num_gpus():
    return both("num_gpus", [0, None, -1, "1", 0.5])


@case(differs="refused by the decorator already")
def gpus_that_are_more_than_one_but_not_whole():
    return both("num_gpus", [1.5])


@case
def resources():
    return both(
        "resources", [{}, None, {"CPU": 1}, {"GPU": 1}, {"a": -1}, {"a": "1"}, "a", [("a", 1)]]
    )


@case(differs="a TypeError that says so, where Ray has an AttributeError at the call")
def names_of_resources_that_are_no_texts():
    return both("resources", [{1: 1}])


@case(says=["resources", "CPU", "num_cpus"])
def message_of_cpu_among_the_resources():
    function.options(resources={"CPU": 1})


@case
def memory():
    return both("memory", [0, 1000, None, -1, "1000", 1.5])


@case
def object_store_memory():
    return both("object_store_memory", [1000, None])


@case
def accelerator_type():
    return both("accelerator_type", [None, 1])


@case
def name_of_a_task():
    return both("name", ["a name", "", None, 1])


@case
def num_returns():
    return both("num_returns", [0, 1, 2, None, -1, 1.5, "2", True])


@case
def max_retries():
    return both("max_retries", [0, 3, -1, -2, 1.5, "3", True])


@case(differs="None is the default, where Ray takes it and then fails in the call")
def max_retries_of_none():
    return both("max_retries", [None])


@case(says=["max_retries", "-1"])
def message_of_max_retries_below_minus_one():
    function.options(max_retries=-2)


@case
def retry_exceptions():
    values = [
        True,
        False,
        None,
        [ValueError],
        (ValueError, KeyError),
        [],
        "ValueError",
        ValueError,
        1,
    ]
    return both("retry_exceptions", values)


@case
def retry_exceptions_with_something_that_is_no_exception():
    return both("retry_exceptions", [[1], ["ValueError"], [int]])


@case
def max_calls_in_the_decorator():
    return [decorated(max_calls=value) for value in (0, 1, 5, None, -1, 1.5, "1")]


@case(says=["max_calls"])
def max_calls_is_not_for_options():
    function.options(max_calls=1)


@case
def scheduling_strategy():
    return both("scheduling_strategy", ["DEFAULT", "SPREAD", None, 1])


@case(differs="refused by the decorator already")
def an_unknown_scheduling_strategy():
    return both("scheduling_strategy", ["PACK"])


@case
def runtime_env():
    return both("runtime_env", [None, 1])


@case
def label_selector():
    return both("label_selector", [None, {}, {"a": 1}, {1: "a"}, "a"])


@case
def fallback_strategy():
    return both("fallback_strategy", [None, [], "a", {}])


@case
def enable_task_events():
    return both("enable_task_events", [True, False, None, "no"])


@case
def placement_group():
    return both("placement_group", ["default", None])


@case
def labels_of_a_task():
    return both("_labels", [{"a": "b"}, None, "a"])


@case
def options_without_anything():
    return ray.get(function.options().remote(3))


@case
def options_with_positional_arguments():
    return attempt(function.options, 1)


@case
def several_errors_at_once():
    return optioned(num_cpus=-1, wrong=1), optioned(num_cpus="1", num_gpus=-1)


@case
def options_are_checked_when_they_are_given():
    return attempt(lambda: function.options(num_cpus=-1) and "too late")


@case
def the_options_of_the_decorator_hold_for_the_calls():
    @ray.remote(num_returns=2, max_retries=0)
    def two():
        return 1, 2

    return len(two.remote()), type(two.options(num_returns=1).remote()).__name__


@case
def the_options_of_the_decorator_stay_beside_others():
    @ray.remote(num_returns=2)
    def two():
        return 1, 2

    return len(two.options(num_cpus=2).remote())


@case
def deprecated_options_warn():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        message_of(function.options, num_returns="dynamic")
    return [warning.category.__name__ for warning in caught if "dynamic" in str(warning.message)]


if __name__ == "__main__":
    run()
