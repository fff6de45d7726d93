"""What code does inside of tasks: threads, loops, signals, other processes, odd values."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

from oracle.cases import Gate, Tally, attempt, case, ray, run


@ray.remote
def give(value=0):
    return value


@ray.remote
def count(limit):
    for number in range(limit):  # noqa: UP028 - `yield from` a range is too much for Ray.
        yield number


@case
def threads_of_a_task_submit_and_get():
    @ray.remote
    def fan_out():
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda i: ray.get(give.remote(i)), range(6)))

    return ray.get(fan_out.remote())


@case
def a_task_forks_a_pool_of_processes():
    @ray.remote
    def pool():
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as workers:
            return workers.map(abs, [-1, -2])

    return ray.get(pool.remote())


@case
def a_task_runs_a_program():
    @ray.remote
    def program():
        code = "print(6 * 7)"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return out.stdout, out.returncode

    return ray.get(program.remote())


@case
def a_task_handles_a_signal():
    @ray.remote
    def handle():
        hits = []
        before = signal.signal(signal.SIGUSR2, lambda number, _frame: hits.append(number))
        os.kill(os.getpid(), signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, before)
        return len(hits)

    return ray.get(handle.remote())


@case
def an_alarm_ends_a_sleep_of_a_task():
    @ray.remote
    def alarmed():
        def ring(_number, _frame):
            raise TimeoutError("alarm")

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            time.sleep(10)
        except TimeoutError as error:
            return str(error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    return ray.get(alarmed.remote())


@case
def tasks_run_in_the_main_thread():
    @ray.remote
    def thread():
        return threading.current_thread() is threading.main_thread()

    return ray.get(thread.remote())


@case
def a_context_variable_cannot_be_sent():
    variable = contextvars.ContextVar("variable", default=0)

    @ray.remote
    def read():
        return variable.get()

    return attempt(read.remote)


@case
def a_loop_in_a_task_awaits_refs():
    @ray.remote
    def loop():
        async def main():
            return await give.remote(4), await asyncio.gather(give.remote(1), give.remote(2))

        return asyncio.run(main())

    return ray.get(loop.remote())


@case
def standard_input_is_empty():
    @ray.remote
    def read():
        try:
            return input()
        except EOFError:
            return "the end"

    return ray.get(read.remote())


@case
def warnings_as_errors():
    @ray.remote
    def warn():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.warn("careful", stacklevel=1)

    return attempt(ray.get, warn.remote())


@case
def output_can_be_redirected():
    @ray.remote
    def show():
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            print("inside")
        return text.getvalue()

    return ray.get(show.remote())


@case
def what_a_task_writes_lies_in_the_directory_of_the_driver():
    @ray.remote
    def write():
        with open("made_by_a_task", "w") as file:
            file.write("1")

    ray.get(write.remote())
    return os.path.exists("made_by_a_task")


@case
def a_daemon_thread_that_stays_behind():
    @ray.remote
    def leave():
        threading.Thread(target=lambda: time.sleep(30), daemon=True).start()
        return 1

    return ray.get(leave.remote()), ray.get(give.remote(2))


@case
def ids_are_the_same_in_driver_and_task():
    @ray.remote
    def hexadecimal(refs):
        return refs[0].hex()

    ref = give.remote(1)
    return ray.get(hexadecimal.remote([ref])) == ref.hex()


@case
def init_again_inside_of_a_task():
    return ray.get(ray.remote(lambda: ray.is_initialized()).remote())


@case
def iterator_tools_over_generators():
    return (
        [ray.get(ref) for ref in itertools.islice(count.remote(10), 3)],
        len(list(count.remote(4))),
        [
            ray.get(left) + ray.get(right)
            for left, right in zip(count.remote(3), count.remote(3), strict=True)
        ],
        ray.get([give.remote(ref) for ref in count.remote(3)]),
    )


@case
def tasks_without_cpus_run_side_by_side():
    gate = Gate()
    tally = Tally()

    @ray.remote(num_cpus=0)
    def wait():
        if tally.add() == 6:
            gate.open()
        gate.wait()
        return 1

    return sum(ray.get([wait.remote() for _ in range(6)]))


@case
def hyperparameters_one_by_one_as_they_finish():
    @ray.remote
    def score(value):
        return -((value - 5) ** 2)

    left = {score.remote(value): value for value in range(10)}
    best = None
    while left:
        (ready,), _ = ray.wait(list(left))
        found = ray.get(ready), left.pop(ready)
        best = found if best is None else max(best, found)
    return best


@case
def words_are_counted_by_mappers_and_reducers():
    @ray.remote(num_returns=3)
    def split(text):
        parts = [[], [], []]
        for word in text.split():
            parts[ord(word[0]) % 3].append(word)
        return parts

    @ray.remote
    def total(*parts):
        words = [word for part in parts for word in part]
        return {word: words.count(word) for word in words}

    split_up = [split.remote(text) for text in ("a b a", "c a b", "b b")]
    counted = {}
    for i in range(3):
        counted.update(ray.get(total.remote(*[parts[i] for parts in split_up])))
    return sorted(counted.items())


if __name__ == "__main__":
    run()
