"""The contract of wait and get: order, counts, duplicates, timeouts, what they take, and threads."""

from __future__ import annotations

import threading
import time

from oracle.cases import Gate, attempt, case, message_of, ray, run


@ray.remote
def value(x=None):
    return x


@ray.remote
def held(gate):
    gate.wait()
    return "held"


@ray.remote(max_retries=0)
def fails():
    raise ValueError("on purpose")


@ray.remote
def items(count):
    yield from iter_of(count)


def iter_of(count):
    yield from (number for number in range(count))


def positions(refs, found):
    return [refs.index(ref) for ref in found]


@case
def wait_of_nothing():
    return attempt(ray.wait, [])


@case
def wait_of_nothing_with_a_number():
    return attempt(ray.wait, [], num_returns=2)


@case
def the_ready_come_in_the_order_given():
    refs = [value.remote(i) for i in range(6)]
    ray.get(refs)
    ready, rest = ray.wait(list(reversed(refs)), num_returns=6)
    return positions(refs, ready), rest


@case
def exactly_as_many_as_asked():
    refs = [value.remote(i) for i in range(6)]
    ray.get(refs)
    ready, rest = ray.wait(refs, num_returns=2)
    return len(ready), len(rest), sorted(positions(refs, ready + rest))


@case
def those_that_are_not_ready_keep_their_order():
    gate = Gate()
    refs = [held.remote(gate) for _ in range(3)]
    ready, rest = ray.wait(refs, timeout=0.1)
    answer = ready, positions(refs, rest)
    gate.open()
    ray.get(refs)
    return answer


@case
def a_timeout_of_zero_looks_once():
    gate = Gate()
    done, pending = value.remote(1), held.remote(gate)
    ray.get(done)
    ready, rest = ray.wait([pending, done], num_returns=2, timeout=0)
    answer = ready == [done], rest == [pending]
    gate.open()
    ray.get(pending)
    return answer


@case
def fewer_than_asked_after_the_timeout():
    gate = Gate()
    done, pending = value.remote(1), held.remote(gate)
    began = time.monotonic()
    ready, rest = ray.wait([pending, done], num_returns=2, timeout=0.5)
    answer = len(ready), len(rest), time.monotonic() - began >= 0.4
    gate.open()
    ray.get(pending)
    return answer


@case
def a_failed_task_is_ready():
    ref = fails.remote()
    ready, rest = ray.wait([ref])
    return len(ready), rest


@case
def a_put_is_ready():
    return len(ray.wait([ray.put(1)], timeout=0)[0])


@case
def the_same_ref_twice():
    ref = value.remote(1)
    return attempt(ray.wait, [ref, ref])


@case
def message_of_the_same_ref_twice():
    ref = value.remote(1)
    return "unique" in message_of(ray.wait, [ref, ref])


@case
def more_than_there_are():
    return attempt(ray.wait, [value.remote(1)], num_returns=2)


@case
def numbers_of_returns():
    ref = value.remote(1)
    return [attempt(ray.wait, [ref], num_returns=n) for n in (0, -1)]


@case(differs="a number of things is a whole number; Ray takes 1.0")
def a_number_of_returns_that_is_a_fraction():
    return attempt(ray.wait, [value.remote(1)], num_returns=1.0)


@case
def negative_timeouts():
    return attempt(ray.wait, [value.remote(1)], timeout=-1)


@case
def a_timeout_that_is_a_whole_number():
    ref = value.remote(1)
    ray.get(ref)
    return len(attempt(ray.wait, [ref], timeout=1)[0])


@case
def a_tuple():
    return attempt(ray.wait, (value.remote(1),))


@case
def a_set():
    return attempt(ray.wait, {value.remote(1)})


@case
def a_single_ref():
    return attempt(ray.wait, value.remote(1))


@case
def a_generator_expression():
    return attempt(ray.wait, (value.remote(i) for i in range(2)))


@case
def things_that_are_no_refs():
    return [attempt(ray.wait, [thing]) for thing in (1, None, "x", [value.remote(1)])]


@case
def positional_arguments():
    ref = value.remote(1)
    return attempt(ray.wait, [ref], 1), attempt(ray.wait, [ref], 1, None)


@case
def keyword_for_the_list():
    ref = value.remote(1)
    return len(ray.wait(ray_waitables=[ref])[0])


@case
def fetch_local_false():
    ref = value.remote(1)
    return len(ray.wait([ref], fetch_local=False)[0])


@case
def what_wait_returns():
    answer = ray.wait([value.remote(1)])
    return type(answer).__name__, [type(part).__name__ for part in answer]


@case
def the_list_stays_as_it_is():
    refs = [value.remote(i) for i in range(3)]
    before = list(refs)
    ray.wait(refs, num_returns=3)
    return refs == before


@case
def the_refs_are_the_same_objects():
    ref = value.remote(1)
    return ray.wait([ref])[0][0] is ref


@case
def wait_with_a_generator_and_a_ref():
    gate = Gate()
    stream, pending = items.remote(2), held.remote(gate)
    ready, rest = ray.wait([stream, pending], timeout=10)
    answer = ready[0] is stream, rest[0] is pending
    gate.open()
    ray.get(pending)
    return answer


@case
def draining_by_wait():
    refs, order = [value.remote(i) for i in range(10)], []
    while refs:
        ready, refs = ray.wait(refs)
        order += ray.get(ready)
    return sorted(order)


@case
def wait_from_many_threads():
    refs = [value.remote(i) for i in range(40)]
    seen, lock = [], threading.Lock()

    def work(mine):
        while mine:
            ready, mine = ray.wait(mine)
            with lock:
                seen.extend(ray.get(ready))

    threads = [threading.Thread(target=work, args=(refs[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(seen) == list(range(40))


@case
def two_threads_wait_for_one_ref():
    gate = Gate()
    ref, seen = held.remote(gate), []
    threads = [threading.Thread(target=lambda: seen.append(ray.get(ref))) for _ in range(2)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    return seen


# ---- get


@case
def get_of_an_empty_list():
    return ray.get([])


@case
def get_of_a_list_in_its_order():
    return ray.get([value.remote(i) for i in (3, 1, 2)])


@case
def get_of_the_same_ref_twice_in_a_list():
    ref = value.remote("x")
    return ray.get([ref, ref])


@case
def get_of_nested_lists():
    return attempt(ray.get, [[value.remote(1)]])


@case
def get_of_a_tuple_and_a_dict():
    ref = value.remote(1)
    return attempt(ray.get, (ref,)), attempt(ray.get, {"a": ref})


@case
def get_of_other_things():
    return [attempt(ray.get, thing) for thing in (1, None, "text", [1], [None])]


@case
def get_with_a_timeout_of_zero():
    gate = Gate()
    ref = held.remote(gate)
    answer = attempt(ray.get, ref, timeout=0)
    gate.open()
    ray.get(ref)
    return answer


@case
def get_with_a_timeout_in_a_list():
    gate = Gate()
    refs = [value.remote(1), held.remote(gate)]
    answer = attempt(ray.get, refs, timeout=0.2)
    gate.open()
    ray.get(refs)
    return answer


@case
def the_first_error_of_a_list():
    return attempt(ray.get, [value.remote(1), fails.remote(), value.remote(2)])


@case
def a_timeout_is_a_timeout_error():
    gate = Gate()
    ref = held.remote(gate)
    try:
        ray.get(ref, timeout=0.05)
    except TimeoutError as error:
        answer = type(error).__name__
    gate.open()
    ray.get(ref)
    return answer


@case
def get_twice_is_equal_but_not_the_same():
    ref = value.remote([1, 2])
    return ray.get(ref) == ray.get(ref), ray.get(ref) is ray.get(ref)


@case
def get_of_none_and_of_true():
    return ray.get([value.remote(None), value.remote(True)])


@case
def positional_timeout():
    return attempt(ray.get, value.remote(1), 1)


@case
def get_of_keywords():
    return ray.get(object_refs=value.remote(5), timeout=10)


@case
def put_of_keywords_and_of_positions():
    return ray.get(ray.put(value=1)), attempt(ray.put), attempt(ray.put, 1, 2)


@case
def put_of_a_list_of_refs():
    ref = value.remote(7)
    (inner,) = ray.get(ray.put([ref]))
    return inner == ref, ray.get(inner)


if __name__ == "__main__":
    run()
