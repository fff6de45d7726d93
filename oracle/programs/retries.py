"""Retries, dying workers, max_calls."""

from __future__ import annotations

import os
import signal
import sys

from oracle.cases import Gate, Tally, attempt, case, ray, run


class PlainError(Exception):
    pass


class DerivedError(PlainError):
    pass


def counted(body, **options):
    """(what get of a task that calls `body(number of the call)` gives, how often it was called)."""
    tally = Tally()

    @ray.remote(**options)
    def task():
        return body(tally.add())

    return attempt(ray.get, task.remote(), timeout=18), tally.count()


def die(_call):
    os._exit(1)


def fail(_call):
    raise PlainError("broken")


def die_once(call):
    if call == 1:
        os._exit(1)
    return call


def fail_twice(call):
    if call <= 2:
        raise PlainError("broken")
    return call


@case
def a_worker_that_exits():
    return counted(die, max_retries=0)


@case(says=["worker", "died"])
def message_of_a_worker_that_exits():
    @ray.remote(max_retries=0)
    def leave():
        os._exit(1)

    ray.get(leave.remote())


@case
def a_worker_that_exits_with_status_zero():
    return counted(lambda call: os._exit(0), max_retries=0)


@case
def a_worker_that_is_killed():
    return counted(lambda call: os.kill(os.getpid(), signal.SIGKILL), max_retries=0)


@case
def a_worker_that_is_aborted():
    return counted(lambda call: os.abort(), max_retries=0)


@case
def a_worker_with_a_segmentation_fault():
    return counted(lambda call: os.kill(os.getpid(), signal.SIGSEGV), max_retries=0)


@case
def sys_exit():
    return counted(lambda call: sys.exit(3), max_retries=0)


@case
def sys_exit_of_zero():
    return counted(lambda call: sys.exit(0), max_retries=0)


@case
def sys_exit_is_retried():
    return counted(lambda call: sys.exit(3) if call == 1 else call, max_retries=1)


@case
def a_crash_is_retried_by_default():
    return counted(die_once)


@case
def crashes_are_retried_max_retries_times():
    return counted(die, max_retries=1)


@case
def crashes_without_limit():
    return counted(lambda call: os._exit(1) if call < 4 else call, max_retries=-1)


@case
def crashes_and_retry_exceptions_share_the_retries():
    def body(call):
        if call == 1:
            os._exit(1)
        if call == 2:
            raise PlainError("broken")
        return call

    return counted(body, max_retries=2, retry_exceptions=True)


@case(differs="crashes and exceptions are counted apart, each up to max_retries")
def crashes_and_exceptions_with_one_retry_in_all():
    def body(call):
        if call == 1:
            os._exit(1)
        if call == 2:
            raise PlainError("broken")
        return call

    return counted(body, max_retries=1, retry_exceptions=True)


@case
def an_exception_is_not_retried_by_default():
    return counted(fail)


@case
def exceptions_are_retried_on_request():
    return counted(fail_twice, retry_exceptions=True)


@case
def exceptions_are_retried_max_retries_times():
    return counted(fail, retry_exceptions=True, max_retries=2)


@case
def exceptions_are_not_retried_with_no_retries():
    return counted(fail, retry_exceptions=True, max_retries=0)


@case
def listed_exceptions_are_retried():
    return counted(fail_twice, retry_exceptions=[PlainError])


@case
def classes_below_a_listed_exception_are_retried():
    def body(call):
        if call == 1:
            raise DerivedError("broken")
        return call

    return counted(body, retry_exceptions=[PlainError])


@case
def other_exceptions_than_the_listed_are_not():
    return counted(fail, retry_exceptions=[KeyError])


@case
def classes_above_a_listed_exception_are_not():
    return counted(fail, retry_exceptions=[DerivedError])


@case
def an_empty_list_of_exceptions():
    return counted(fail, retry_exceptions=[])


@case
def a_tuple_of_exceptions():
    return attempt(lambda: counted(fail_twice, retry_exceptions=(PlainError, KeyError)))


@case
def an_error_of_an_inner_task_is_retried_as_its_class():
    @ray.remote(max_retries=0)
    def inner():
        raise PlainError("inner")

    return counted(
        lambda call: ray.get(inner.remote()) if call == 1 else call, retry_exceptions=[PlainError]
    )


@case
def keyboard_interrupt_is_not_retried():
    def body(call):
        raise KeyboardInterrupt

    return counted(body, retry_exceptions=True, max_retries=2)


@case
def a_failed_argument_is_not_retried():
    tally = Tally()

    @ray.remote(max_retries=0)
    def broken():
        raise PlainError("broken")

    @ray.remote(max_retries=2, retry_exceptions=True)
    def use(value):
        tally.add()
        return value

    return attempt(ray.get, use.remote(broken.remote())), tally.count()


@case
def the_options_of_a_call_count():
    tally = Tally()

    @ray.remote
    def task():
        return fail(tally.add())

    ref = task.options(retry_exceptions=True, max_retries=1).remote()
    return attempt(ray.get, ref), tally.count()


@case
def all_results_of_a_retried_task():
    tally = Tally()

    @ray.remote(num_returns=2)
    def task():
        die_once(tally.add())
        return 1, 2

    return ray.get(task.remote())


@case
def the_dependents_of_a_crashed_task():
    @ray.remote(max_retries=0)
    def leave():
        os._exit(1)

    @ray.remote
    def use(value):
        return value

    return attempt(ray.get, use.remote(leave.remote()))


@case
def other_tasks_go_on_after_a_crash():
    @ray.remote(max_retries=0)
    def leave():
        os._exit(1)

    @ray.remote
    def number(value):
        return value

    refs = (
        [number.remote(i) for i in range(10)]
        + [leave.remote()]
        + [number.remote(i) for i in range(10)]
    )
    return [attempt(ray.get, ref) for ref in refs]


@case
def a_parent_sees_the_crash_of_its_child():
    @ray.remote(max_retries=0)
    def leave():
        os._exit(1)

    @ray.remote(max_retries=0)
    def parent():
        return attempt(ray.get, leave.remote())

    return ray.get(parent.remote())


@case
def a_crash_inherited_by_the_parent():
    @ray.remote(max_retries=0)
    def leave():
        os._exit(1)

    @ray.remote(max_retries=0)
    def parent():
        return ray.get(leave.remote())

    return attempt(ray.get, parent.remote())


@case
def the_worker_that_died_is_a_ready_ref():
    @ray.remote(max_retries=0)
    def leave():
        os._exit(1)

    ready, rest = ray.wait([leave.remote()], timeout=15)
    return len(ready), len(rest)


@case
def max_calls_of_one_takes_a_new_worker_each_time():
    @ray.remote(max_calls=1)
    def pid():
        return os.getpid()

    return len({ray.get(pid.remote()) for _ in range(3)})


@case
def max_calls_of_two():
    @ray.remote(max_calls=2, num_cpus=4)
    def pid():
        return os.getpid()

    pids = [ray.get(pid.remote()) for _ in range(4)]
    return [pids.count(one) for one in dict.fromkeys(pids)]


@case
def max_calls_leaves_the_results_alone():
    @ray.remote(max_calls=1)
    def number(value):
        return value

    return ray.get([number.remote(i) for i in range(6)])


@case
def without_max_calls_workers_are_used_again():
    @ray.remote(num_cpus=4)
    def pid():
        return os.getpid()

    return len({ray.get(pid.remote()) for _ in range(5)})


@case
def a_child_process_that_dies_is_no_crash():
    import subprocess

    return counted(lambda call: subprocess.call(["false"]), max_retries=0)


@case
def a_thread_that_fails_is_no_crash():
    def body(call):
        import threading

        thread = threading.Thread(target=fail, args=(1,))
        thread.start()
        thread.join()
        return call

    return counted(body, max_retries=0)


@case
def an_object_of_a_dead_worker():
    gate = Gate()

    @ray.remote(max_retries=0)
    def make():
        return [ray.put(bytes(200_000))], os.getpid()

    refs, pid = ray.get(make.remote())
    os.kill(pid, signal.SIGKILL)
    gate.open()
    return attempt(lambda: len(ray.get(refs[0], timeout=10)))


if __name__ == "__main__":
    run()
