"""Cancelling tasks in company: children, borrowers, results, queues; the arguments of cancel."""

from __future__ import annotations

import asyncio
import os
import time

from oracle.cases import Gate, Tally, attempt, case, lineage, raised, ray, run


@ray.remote
def wait_for(gate, started=None, value="done"):
    if started is not None:
        started.open()
    gate.wait()
    return value


@ray.remote
def double(value):
    return value * 2


def error_of(ref, timeout=10):
    """What `get` raises."""
    try:
        ray.get(ref, timeout=timeout)
    except Exception as error:
        return error
    return None


def running(gate, **options):
    """A ref of a task that certainly runs."""
    started = Gate()
    ref = wait_for.options(**options).remote(gate, started)
    started.wait()
    return ref


@case
def a_task_in_one_long_call_of_c_code():
    started = Gate()

    @ray.remote
    def sleep():
        started.open()
        time.sleep(2)
        return "slept"

    ref = sleep.remote()
    started.wait()
    ray.cancel(ref)
    return attempt(ray.get, ref, timeout=10)


@case
def a_task_that_waits_in_get_is_interrupted():
    gate, started = Gate(), Gate()

    @ray.remote
    def outer():
        ref = wait_for.remote(gate, started)
        return ray.get(ref)

    ref = outer.remote()
    started.wait()
    ray.cancel(ref, recursive=False)
    return attempt(ray.get, ref, timeout=10)


@case
def what_get_inside_of_a_cancelled_task_raises():
    gate, started, told = Gate(), Gate(), Gate()

    @ray.remote
    def outer():
        ref = wait_for.remote(gate, started)
        try:
            return ray.get(ref)
        except BaseException as error:
            with open(told.path, "w") as file:
                file.write(" < ".join(lineage(error)))
            raise

    ref = outer.remote()
    started.wait()
    ray.cancel(ref, recursive=False)
    answer = attempt(ray.get, ref, timeout=10)
    told.wait(10)
    with open(told.path) as file:
        return answer, file.read()


@case
def children_are_cancelled_too_by_default():
    gate, started, interrupted = Gate(), Gate(), Gate()

    @ray.remote
    def child():
        started.open()
        try:
            gate.wait()
        except KeyboardInterrupt:
            interrupted.open()
            raise

    @ray.remote
    def parent():
        return ray.get(child.remote())

    ref = parent.remote()
    started.wait()
    ray.cancel(ref)
    answer = attempt(ray.get, ref, timeout=10)
    interrupted.wait(10)
    return answer


@case
def children_go_on_without_recursive():
    gate, started, finished = Gate(), Gate(), Gate()

    @ray.remote
    def child():
        started.open()
        gate.wait()
        finished.open()

    @ray.remote
    def parent():
        return ray.get(child.remote())

    ref = parent.remote()
    started.wait()
    ray.cancel(ref, recursive=False)
    answer = attempt(ray.get, ref, timeout=10)
    gate.open()
    finished.wait(10)
    return answer


@case
def a_task_cancels_its_own_child():
    gate, started = Gate(), Gate()

    @ray.remote
    def parent():
        ref = wait_for.remote(gate, started)
        started.wait()
        ray.cancel(ref)
        try:
            ray.get(ref, timeout=10)
        except Exception as error:
            return raised(error)

    return attempt(ray.get, parent.remote(), timeout=15)


@case
def a_borrower_cancels_a_task_of_the_driver():
    gate = Gate()
    ref = running(gate)

    @ray.remote
    def cancel_it(refs):
        ray.cancel(refs[0])

    answer = attempt(ray.get, cancel_it.remote([ref]), timeout=10)
    return answer, attempt(ray.get, ref, timeout=10)


@case
def all_returns_of_a_cancelled_task_fail():
    gate, started = Gate(), Gate()

    @ray.remote(num_returns=2)
    def two():
        started.open()
        gate.wait()
        return 1, 2

    first, second = two.remote()
    started.wait()
    ray.cancel(second)
    return raised(error_of(first)), raised(error_of(second))


@case
def a_queue_of_pending_tasks_is_cancelled():
    gate = Gate()
    held = running(gate, num_cpus=4)
    refs = [wait_for.remote(gate) for _ in range(50)]
    for ref in refs:
        ray.cancel(ref)
    answers = sorted({raised(error_of(ref)) for ref in refs})
    gate.open()
    return answers, ray.get(held, timeout=10)


@case(says=["cancel", "ObjectRef"])
def cancel_of_a_put_object():
    ray.cancel(ray.put(1))


@case
def a_put_object_is_there_after_cancel():
    ref = ray.put(1)
    attempt(ray.cancel, ref)
    return ray.get(ref)


@case(says=["ray.cancel", "int"])
def cancel_of_a_number():
    ray.cancel(1)


@case(says=["ray.cancel", "list"])
def cancel_of_a_list():
    ray.cancel([double.remote(1)])


@case(says=["ray.cancel", "None"])
def cancel_of_none():
    ray.cancel(None)


@case
def cancel_takes_force_by_keyword_only():
    ref = double.remote(1)
    ray.get(ref)
    return attempt(ray.cancel, ref, True)


@case
def cancel_with_an_unknown_keyword():
    return attempt(ray.cancel, double.remote(1), hard=True)


@case
def cancel_with_values_that_are_not_bool():
    ref = double.remote(1)
    ray.get(ref)
    return attempt(ray.cancel, ref, force="yes"), attempt(ray.cancel, ref, recursive=None)


@case
def the_task_id_of_the_error():
    ref = running(Gate())
    ray.cancel(ref)
    error = error_of(ref)
    return (
        lineage(error),
        hasattr(error, "task_id"),
        getattr(error, "task_id", None) is None,
    )


@case
def the_error_is_the_public_class():
    ref = running(Gate())
    ray.cancel(ref)
    error = error_of(ref)
    return type(error) is ray.exceptions.TaskCancelledError


@case(differs="has a text, where Ray's is empty, and shows its arguments")
def the_error_made_by_hand():
    plain_error = ray.exceptions.TaskCancelledError()
    return str(plain_error), plain_error.task_id, repr(plain_error)


@case
def a_task_that_raises_keyboard_interrupt():
    @ray.remote(max_retries=0)
    def interrupt():
        raise KeyboardInterrupt

    return attempt(ray.get, interrupt.remote(), timeout=15)


@case
def a_task_that_raises_asyncio_cancelled_error():
    @ray.remote(max_retries=0)
    def interrupt():
        raise asyncio.CancelledError

    return attempt(ray.get, interrupt.remote(), timeout=15)


@case
def the_resources_come_back_after_cancel():
    refs = [running(Gate()) for _ in range(4)]
    for ref in refs:
        ray.cancel(ref)
    for ref in refs:
        error_of(ref)
    return ray.get(double.options(num_cpus=4).remote(3), timeout=10)


@case
def cancel_of_a_task_that_can_never_be_scheduled():
    ref = double.options(resources={"unobtainable": 1}).remote(1)
    ray.cancel(ref)
    return attempt(ray.get, ref, timeout=10)


@case
def cancel_of_a_task_while_it_is_retried():
    gate, tally, second = Gate(), Tally(), Gate()

    @ray.remote(max_retries=5)
    def crash_once():
        if tally.add() == 1:
            os._exit(1)
        second.open()
        gate.wait()

    ref = crash_once.remote()
    second.wait()
    ray.cancel(ref)
    return attempt(ray.get, ref, timeout=10), tally.count()


@case
def is_canceled_of_the_runtime_context():
    @ray.remote
    def ask():
        return ray.get_runtime_context().is_canceled()

    return attempt(ray.get, ask.remote(), timeout=10)


@case
def is_canceled_in_the_driver():
    return attempt(lambda: ray.get_runtime_context().is_canceled())


if __name__ == "__main__":
    run()
