"""Calling remote functions: arguments, signatures, closures."""

from __future__ import annotations

import functools

from oracle.cases import attempt, case, ray, run


@ray.remote
def add(value, other=1):
    return value + other


@ray.remote
def give(*args, **kwargs):
    return list(args), kwargs


@ray.remote
def named_only(*, left, right=2):
    return left, right


@ray.remote
def positional_only(left, right=2, /):
    return left, right


@case(says=["remote", "add"])
def calling_it_directly():
    add(1)


@case
def arguments_by_position_and_by_name():
    return ray.get(
        [add.remote(1), add.remote(1, 2), add.remote(1, other=5), add.remote(other=1, value=7)]
    )


@case
def any_number_of_arguments():
    return ray.get(give.remote(1, "two", 3.0, four=4, five=None))


@case
def no_arguments():
    return ray.get(give.remote())


@case
def a_keyword_named_like_something_of_the_engine():
    return ray.get(give.remote(self=1, args=2, kwargs=3, name=4, num_returns=5))[1]


@case
def arguments_by_name_only():
    return ray.get(named_only.remote(left=1)), attempt(named_only.remote, 1)


@case
def arguments_by_position_only():
    return ray.get(positional_only.remote(1, 3)), attempt(positional_only.remote, left=1)


@case(says=["missing a required argument", "'value'"])
def a_missing_argument():
    add.remote()


@case(says=["too many positional arguments"])
def too_many_arguments():
    add.remote(1, 2, 3)


@case(says=["unexpected keyword argument", "'wrong'"])
def an_unknown_keyword():
    add.remote(1, wrong=2)


@case(says=["multiple values for argument", "'value'"])
def an_argument_given_twice():
    add.remote(1, value=2)


@case(says=["missing a required", "'left'"])
def a_missing_keyword_only_argument():
    named_only.remote()


@case
def defaults_are_those_of_the_function():
    default = []

    @ray.remote
    def with_default(value=default):
        value.append(1)
        return value

    return ray.get(with_default.remote()), default


@case
def a_lambda():
    return ray.get(ray.remote(lambda value: value * 2).remote(4))


@case
def a_builtin_function():
    return attempt(lambda: ray.get(ray.remote(len).remote([1, 2])))


@case
def a_partial():
    return attempt(lambda: ray.get(ray.remote(functools.partial(max, 3)).remote(2)))


@case
def a_callable_object():
    class Callable:
        def __call__(self):
            return 1

    return attempt(lambda: ray.get(ray.remote(Callable()).remote()))


@case(differs="works; Ray takes plain functions only")
def a_bound_method():
    class Holder:
        def __init__(self):
            self.value = 5

        def get(self, add):
            return self.value + add

    return attempt(lambda: ray.get(ray.remote(Holder().get).remote(1)))


@case(says=["remote"])
def remote_of_a_number():
    ray.remote(1)


@case(says=["remote"])
def remote_with_positional_arguments():
    ray.remote(1, 2)


@case
def remote_with_empty_parentheses():
    return attempt(ray.remote())


@case
def decorating_twice():
    return attempt(ray.remote, add)


@case
def the_original_function_is_there():
    return add._function(1, 2)


@case(differs="a remote function carries the metadata of its function")
def name_and_module_of_a_remote_function():
    return add.__name__, add.__module__ == "__main__", type(add).__name__


@case
def a_decorated_function_keeps_what_wraps_set():
    def decorate(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return function(*args, **kwargs) + 100

        return inner

    @ray.remote
    @decorate
    def plus(value, other):
        return value + other

    return ray.get(plus.remote(1, other=2)), attempt(plus.remote, 1)


@case
def closures():
    factor = 3

    @ray.remote
    def multiply(value):
        return value * factor

    first = ray.get(multiply.remote(2))
    factor = 10
    return first, ray.get(multiply.remote(2))


@case
def functions_are_pickled_once():
    box = [1]

    @ray.remote
    def read():
        return box[0]

    first = ray.get(read.remote())
    box[0] = 2
    return first, ray.get(read.remote())


GLOBAL = ["before"]


@case
def globals_are_taken_at_the_first_call():
    @ray.remote
    def read():
        return GLOBAL[0]

    GLOBAL[0] = "after"
    return ray.get(read.remote())


@case
def a_function_that_cannot_be_pickled():
    import threading

    lock = threading.Lock()

    @ray.remote
    def use():
        return lock

    return attempt(use.remote)


@case(says=["use"])
def message_of_a_function_that_cannot_be_pickled():
    import threading

    lock = threading.Lock()

    @ray.remote
    def use():
        return lock

    use.remote()


@case
def an_argument_that_cannot_be_pickled():
    import threading

    return attempt(add.remote, threading.Lock())


@case
def a_result_that_cannot_be_pickled():
    @ray.remote(max_retries=0)
    def lock():
        import threading

        return threading.Lock()

    return attempt(ray.get, lock.remote(), timeout=15)


if __name__ == "__main__":
    run()
