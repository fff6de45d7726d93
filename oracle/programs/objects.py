"""get, put and wait."""

from __future__ import annotations

from oracle.cases import Gate, attempt, case, ray, run


@ray.remote
def add(value, other=1):
    return value + other


@ray.remote
def fail(text="broken"):
    raise ValueError(text)


@ray.remote
def wait_for(gate, value=None):
    gate.wait()
    return value


@case
def put_and_get():
    values = [None, 1, 1.5, "text", b"bytes", [1, [2]], {"a": (1, 2)}, {1, 2}, True]
    return [ray.get(ray.put(value)) == value for value in values]


@case
def get_of_a_list():
    return ray.get([ray.put(1), ray.put(2), add.remote(2)])


@case
def get_of_an_empty_list():
    return ray.get([])


@case
def get_of_one_ref_twice():
    ref = ray.put([1])
    first, second = ray.get([ref, ref])
    return first == second, first is second


@case
def get_gives_a_new_object_each_time():
    ref = ray.put([1])
    return ray.get(ref) is ray.get(ref)


@case
def put_takes_a_copy():
    value = [1]
    ref = ray.put(value)
    value.append(2)
    return ray.get(ref)


@case
def get_of_other_sequences():
    refs = [ray.put(1), ray.put(2)]
    kinds = {
        "tuple": tuple(refs),
        "set": set(refs),
        "generator": (ref for ref in refs),
        "dict": {"a": refs[0]},
    }
    return {name: attempt(ray.get, value) for name, value in kinds.items()}


@case(says=["object_refs", "list", "int"])
def get_of_a_number():
    ray.get(1)


@case(says=["None"])
def get_of_none():
    ray.get(None)


@case(says=["get", "int"])
def get_of_a_list_with_something_else():
    ray.get([ray.put(1), 2])


@case
def get_of_a_nested_list():
    return attempt(ray.get, [[ray.put(1)]])


@case
def get_of_a_text():
    return attempt(ray.get, "text"), attempt(ray.get, b"bytes")


@case(says=["timed out", "get"])
def get_with_a_timeout():
    gate = Gate()
    ray.get(wait_for.remote(gate), timeout=0.05)


@case
def get_with_a_timeout_of_zero():
    gate = Gate()
    ready = ray.put(1)
    return attempt(ray.get, wait_for.remote(gate), timeout=0), ray.get(ready, timeout=0)


@case
def get_of_several_with_a_timeout():
    gate = Gate()
    return attempt(ray.get, [ray.put(1), wait_for.remote(gate)], timeout=0.05)


@case
def timeouts_of_get():
    ref = ray.put(1)
    values = {"true": True, "none": None, "whole": 3, "fraction": 0.5}
    return {name: attempt(ray.get, ref, timeout=value) for name, value in values.items()}


@case(differs="negative ones and texts are refused with a word, infinity waits for ever")
def odd_timeouts_of_get():
    ref = ray.put(1)
    values = {"negative": -1, "text": "1", "infinite": float("inf"), "fraction": -0.5}
    return {name: attempt(ray.get, ref, timeout=value) for name, value in values.items()}


@case
def get_takes_timeout_by_keyword_only():
    return attempt(ray.get, ray.put(1), 1)


@case
def get_with_an_unknown_keyword():
    return attempt(ray.get, ray.put(1), wrong=1)


@case
def after_a_timeout_the_value_still_comes():
    gate = Gate()
    ref = wait_for.remote(gate, 5)
    first = attempt(ray.get, ref, timeout=0.01)
    gate.open()
    return first, ray.get(ref)


@case
def get_of_a_list_with_an_error_raises_it():
    return attempt(ray.get, [add.remote(1), fail.remote(), add.remote(2)])


@case
def an_error_is_raised_by_each_get():
    ref = fail.remote()
    return attempt(ray.get, ref), attempt(ray.get, ref)


@case(says=["put", "ObjectRef"])
def put_of_a_ref():
    ray.put(ray.put(1))


@case
def put_of_a_list_of_refs():
    inner = ray.put(1)
    outer = ray.get(ray.put([inner]))
    return outer[0] == inner, ray.get(outer[0])


@case
def put_of_an_exception_is_a_value():
    return type(ray.get(ray.put(ValueError("a value")))).__name__


@case
def a_task_that_returns_an_exception():
    @ray.remote
    def give():
        return ValueError("a value")

    return type(ray.get(give.remote())).__name__


@case
def put_of_a_lambda():
    return ray.get(ray.put(lambda value: value + 1))(2)


@case
def put_of_something_that_cannot_be_pickled():
    import threading

    return attempt(ray.put, threading.Lock())


@case(says=["lock", "serializ"])
def message_of_put_of_something_that_cannot_be_pickled():
    import threading

    ray.put(threading.Lock())


@case
def put_without_and_with_too_many_arguments():
    return attempt(ray.put), attempt(ray.put, 1, 2)


@case
def wait_for_one_of_several():
    gate = Gate()
    late, ready = wait_for.remote(gate), ray.put(1)
    first, rest = ray.wait([late, ready])
    return first == [ready], rest == [late]


@case
def wait_for_all():
    refs = [add.remote(i) for i in range(5)]
    ready, rest = ray.wait(refs, num_returns=5)
    return ready == refs, rest


@case
def wait_returns_no_more_than_asked_for():
    refs = [ray.put(i) for i in range(5)]
    ready, rest = ray.wait(refs, num_returns=2)
    return len(ready), len(rest), sorted(ray.get(ready + rest))


@case
def wait_keeps_the_order():
    refs = [add.remote(i) for i in range(20)]
    ray.get(refs)
    ready, rest = ray.wait(refs, num_returns=20)
    return ready == refs, rest == []


@case
def wait_with_a_timeout():
    gate = Gate()
    refs = [wait_for.remote(gate), ray.put(1), wait_for.remote(gate)]
    ready, rest = ray.wait(refs, num_returns=3, timeout=0.1)
    return ready == [refs[1]], rest == [refs[0], refs[2]]


@case
def wait_with_a_timeout_of_zero():
    gate = Gate()
    ref, late = add.remote(1), wait_for.remote(gate)
    ray.get(ref)
    ready, rest = ray.wait([late, ref], num_returns=2, timeout=0)
    return ready == [ref], rest == [late]


@case
def a_failed_ref_is_ready():
    ready, rest = ray.wait([fail.remote()], timeout=10)
    return len(ready), len(rest)


@case(says=["unique"])
def wait_with_duplicates():
    ref = ray.put(1)
    ray.wait([ref, ref], num_returns=2)


@case
def wait_with_a_num_returns_out_of_range():
    refs = [ray.put(1), ray.put(2)]
    return {value: attempt(ray.wait, refs, num_returns=value) for value in (0, -1, 3)}


@case
def wait_with_a_num_returns_of_a_wrong_type():
    refs = [ray.put(1), ray.put(2)]
    return attempt(ray.wait, refs, num_returns="1"), attempt(ray.wait, refs, num_returns=None)


@case
def wait_for_an_empty_list():
    return attempt(ray.wait, []), attempt(ray.wait, [], num_returns=0)


@case
def wait_with_other_types():
    ref = ray.put(1)
    values = {
        "ref": ref,
        "tuple": (ref,),
        "set": {ref},
        "none": None,
        "numbers": [1],
        "mixed": [ref, 1],
    }
    return {name: attempt(ray.wait, value) for name, value in values.items()}


@case(says=["list"])
def message_of_wait_for_a_single_ref():
    ray.wait(ray.put(1))


@case
def wait_with_odd_timeouts():
    refs = [ray.put(1)]
    values = {"negative": -1, "text": "1", "none": None, "infinite": 1e6}
    answers = {name: attempt(ray.wait, refs, timeout=value) for name, value in values.items()}
    return {
        name: len(answer[0]) if isinstance(answer, tuple) else answer
        for name, answer in answers.items()
    }


@case
def wait_takes_its_options_by_keyword_only():
    return attempt(ray.wait, [ray.put(1)], 1)


@case
def wait_without_fetching():
    ready, rest = ray.wait([add.remote(1)], fetch_local=False, timeout=10)
    return len(ready), len(rest)


@case
def the_types_that_wait_returns():
    answer = ray.wait([ray.put(1)])
    return type(answer).__name__, [type(part).__name__ for part in answer]


if __name__ == "__main__":
    run()
