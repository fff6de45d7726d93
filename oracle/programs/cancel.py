"""Cancelling tasks: pending, running, finished, by force."""

from __future__ import annotations

import os

from oracle.cases import Gate, Tally, attempt, case, raised, ray, run


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


@case(says=["cancelled", "task"])
def get_of_a_cancelled_running_task():
    ref = running(Gate())
    ray.cancel(ref)
    ray.get(ref, timeout=10)


@case
def cancel_returns_none():
    ref = running(Gate())
    return ray.cancel(ref)


@case
def a_cancelled_task_counts_as_ready_in_wait():
    ref = running(Gate())
    ray.cancel(ref)
    ready, rest = ray.wait([ref], timeout=10)
    return len(ready), len(rest)


@case(says=["cancelled", "task"], differs="says what was cancelled; the text of Ray's is empty")
def get_of_a_cancelled_pending_task():
    gate = Gate()
    held = running(gate, num_cpus=4)
    pending = wait_for.remote(gate)
    ray.cancel(pending)
    try:
        ray.get(pending, timeout=10)
    finally:
        gate.open()
        ray.get(held, timeout=10)


@case
def a_cancelled_pending_task_never_runs():
    gate, tally = Gate(), Tally()

    @ray.remote
    def count():
        return tally.add()

    held = running(gate, num_cpus=4)
    pending = count.remote()
    ray.cancel(pending)
    error = error_of(pending)
    gate.open()
    ray.get(held)
    ray.get(double.options(num_cpus=4).remote(1))
    return raised(error), tally.count()


@case
def cancelling_a_task_whose_argument_is_not_there():
    gate = Gate()
    argument = running(gate)
    dependent = double.remote(argument)
    ray.cancel(dependent)
    return raised(error_of(dependent)), len(ray.wait([argument], timeout=0)[0])


@case
def the_argument_of_a_cancelled_task_gets_there_later():
    gate = Gate()
    argument = running(gate)
    dependent = double.remote(argument)
    ray.cancel(dependent)
    first = raised(error_of(dependent))
    gate.open()
    answer = ray.get(argument, timeout=10)
    return first, answer, ray.get(double.remote(answer))


@case
def the_dependent_of_a_cancelled_task_fails_in_the_same_way():
    argument = running(Gate())
    dependent = double.remote(argument)
    ray.cancel(argument)
    error = error_of(dependent)
    return raised(error), raised(error_of(argument))


@case(says=["cancelled"])
def message_of_the_dependent_of_a_cancelled_task():
    argument = running(Gate())
    dependent = double.remote(argument)
    ray.cancel(argument)
    ray.get(dependent, timeout=10)


@case
def the_dependent_of_a_dependent_of_a_cancelled_task():
    argument = running(Gate())
    last = double.remote(double.remote(argument))
    ray.cancel(argument)
    return raised(error_of(last))


@case
def the_argument_of_a_dependent_raises_type_error_and_not_cancelled():
    """A plain failure on the way: what the dependent of a failed task raises."""

    @ray.remote
    def fail():
        raise ValueError("no")

    return raised(error_of(double.remote(fail.remote())))


@case
def cancelling_a_finished_task_changes_nothing():
    ref = double.remote(4)
    before = ray.get(ref)
    answer = ray.cancel(ref)
    return before, answer, ray.get(ref)


@case
def cancelling_a_finished_task_by_force_changes_nothing():
    ref = double.remote(4)
    ray.get(ref)
    return ray.cancel(ref, force=True), ray.get(ref)


@case
def cancelling_a_failed_task_changes_nothing():
    @ray.remote
    def fail():
        raise ValueError("no")

    ref = fail.remote()
    first = raised(error_of(ref))
    ray.cancel(ref)
    return first, raised(error_of(ref))


@case
def cancelling_twice():
    ref = running(Gate())
    ray.cancel(ref)
    first = raised(error_of(ref))
    ray.cancel(ref)
    return first, raised(error_of(ref))


@case(says=["died", "cancelled"], differs="says what was cancelled; the text of Ray's is empty")
def get_of_a_task_cancelled_by_force():
    ref = running(Gate())
    ray.cancel(ref, force=True)
    ray.get(ref, timeout=15)


@case
def a_task_cancelled_by_force_is_not_retried():
    gate, started, tally = Gate(), Gate(), Tally()

    @ray.remote(max_retries=3)
    def count():
        tally.add()
        started.open()
        gate.wait()

    ref = count.remote()
    started.wait()
    ray.cancel(ref, force=True)
    error = error_of(ref)
    return raised(error), tally.count()


@case
def a_pending_task_cancelled_by_force():
    gate = Gate()
    held = running(gate, num_cpus=4)
    pending = wait_for.remote(gate)
    ray.cancel(pending, force=True)
    error = error_of(pending)
    gate.open()
    return raised(error), ray.get(held, timeout=10)


@case
def the_worker_of_a_cancelled_task_goes_on():
    gate, started = Gate(), Gate()

    @ray.remote(num_cpus=4)
    def pid_of_waiter(pid_file):
        pid_file.open()
        with open(pid_file.path, "w") as file:
            file.write(str(os.getpid()))
        started.open()
        gate.wait()

    @ray.remote(num_cpus=4)
    def pid():
        return os.getpid()

    pid_file = Gate()
    ref = pid_of_waiter.remote(pid_file)
    started.wait()
    ray.cancel(ref)
    raised_by_get = raised(error_of(ref))
    with open(pid_file.path) as file:
        return raised_by_get, ray.get(pid.remote(), timeout=10) == int(file.read())


@case
def the_task_sees_a_keyboard_interrupt():
    gate, started, seen = Gate(), Gate(), Gate()

    @ray.remote
    def notice():
        started.open()
        try:
            gate.wait()
        except KeyboardInterrupt:
            seen.open()
            raise

    ref = notice.remote()
    started.wait()
    ray.cancel(ref)
    error = error_of(ref)
    seen.wait(10)
    return raised(error), seen.is_open()


@case
def a_task_that_swallows_the_interrupt_returns():
    gate, started = Gate(), Gate()

    @ray.remote
    def swallow():
        started.open()
        try:
            gate.wait()
        except KeyboardInterrupt:
            return "swallowed"

    ref = swallow.remote()
    started.wait()
    ray.cancel(ref)
    return attempt(ray.get, ref, timeout=10)


@case
def a_task_that_turns_the_interrupt_into_another_error():
    gate, started = Gate(), Gate()

    @ray.remote(max_retries=0)
    def turn():
        started.open()
        try:
            gate.wait()
        except KeyboardInterrupt:
            raise ValueError("turned") from None

    ref = turn.remote()
    started.wait()
    ray.cancel(ref)
    return attempt(ray.get, ref, timeout=10)


@case
def a_task_that_turns_the_interrupt_into_an_error_that_is_retried():
    gate, started, tally = Gate(), Gate(), Tally()

    @ray.remote(max_retries=2, retry_exceptions=True)
    def turn():
        tally.add()
        started.open()
        try:
            gate.wait()
        except KeyboardInterrupt:
            raise ValueError("turned") from None
        return "late"

    ref = turn.remote()
    started.wait()
    ray.cancel(ref)
    answer = attempt(ray.get, ref, timeout=10)
    return answer, tally.count()


@case
def the_finally_block_of_a_cancelled_task_runs():
    gate, started, cleaned = Gate(), Gate(), Gate()

    @ray.remote
    def clean():
        started.open()
        try:
            gate.wait()
        finally:
            cleaned.open()

    ref = clean.remote()
    started.wait()
    ray.cancel(ref)
    error = error_of(ref)
    cleaned.wait(10)
    return raised(error)


if __name__ == "__main__":
    run()
