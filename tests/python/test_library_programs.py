"""Programs of the kind that the documentation of libraries has, run as users run them: the same text on
the library's own processes and on Mobula, which print the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.mobula_only

FUTURES = """
import math, operator, sys, threading, time
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, wait
if sys.argv[1] == "library":
    from concurrent.futures import ProcessPoolExecutor as Executor
else:
    from mobula import Executor

NUMBERS = [112272535095293, 112582705942171, 115280095190773, 1099726899285419]

def is_prime(number):
    return all(number % divisor for divisor in range(2, min(math.isqrt(number), 50000) + 1))

def fail(value):
    raise ValueError(f"no {value}")

def nap(seconds):
    time.sleep(seconds)
    return seconds

class Adder:
    def __init__(self, amount):
        self.amount = amount
    def add(self, value):
        return self.amount + value

def said(function):
    try:
        return repr(function())
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

if __name__ == "__main__":
    with Executor(max_workers=2) as executor:
        for number, prime in zip(NUMBERS, executor.map(is_prime, NUMBERS)):
            print(f"{number} is prime: {prime}")
        futures = {executor.submit(pow, 2, power): power for power in range(10)}
        print(sorted((futures[done], done.result()) for done in as_completed(futures)))
        print(said(lambda: executor.submit(fail, 1).result()))
        print(repr(executor.submit(fail, 2).exception()))
        print(list(executor.map(pow, [1, 2, 3], [2, 2])))
        print(list(executor.map(str, range(7), chunksize=3)))
        print(said(lambda: list(executor.map(fail, range(3)))))
        print(said(lambda: list(executor.map(str, range(3), chunksize=0))))
        late = executor.map(nap, [0.0, 5.0], timeout=1.0)
        print(next(late), said(lambda: next(late)))
        print(said(lambda: executor.submit(nap, 2.0).result(timeout=0.1)))
        some = [executor.submit(fail, 0), executor.submit(nap, 3.0)]
        print([len(part) for part in wait(some, return_when=FIRST_EXCEPTION)])
        print([len(part) for part in wait(some)])
        told, event = [], threading.Event()
        future = executor.submit(nap, 0.0)
        future.add_done_callback(lambda done: (told.append(done.result()), event.set()))
        event.wait(60)
        print(told, future.done(), future.cancelled(), future.running(), future.cancel())
        print(executor.submit(Adder(5).add, 2).result(), executor.submit(Adder, 7).result().amount)
        print(executor.submit(sorted, [3, 1], reverse=True).result())
        print(said(lambda: executor.submit(sys.exit, 3).result()))
    print(said(lambda: executor.submit(pow, 1, 1)))
    print(said(lambda: executor.map(pow, [1], [1])))
    executor = Executor(1)
    futures = [executor.submit(nap, 0.5) for _ in range(20)]
    while not futures[0].running():
        time.sleep(0.01)
    executor.shutdown(wait=True, cancel_futures=True)
    print(sum(future.cancelled() for future in futures) >= 15, all(one.done() for one in futures))
    print(said(lambda: Executor(0)))
"""

POOL = """
import os, sys, time
if sys.argv[1] == "library":
    from multiprocessing import Pool, TimeoutError
else:
    from mobula.util.multiprocessing import Pool, TimeoutError

def multiply(a, b):
    return a * b

def plus(a, b):
    return a + b

def calculate(function, arguments):
    return f"{function.__name__}{arguments} = {function(*arguments)}"

def calculate_star(arguments):
    return calculate(*arguments)

def divide(value):
    return 1.0 / (value - 5.0)

def square(value):
    return value * value

def nap(seconds):
    time.sleep(seconds)
    return seconds

table = None

def initialize(values):
    global table
    table = values

def look_up(key):
    return table[key]

def said(function):
    try:
        return repr(function())
    except Exception as error:
        return f"{type(error).__name__}: {error}"

if __name__ == "__main__":
    with Pool(processes=4) as pool:
        print(pool.map(square, range(10)), sorted(pool.imap_unordered(square, range(10))))
        print(pool.apply_async(square, (20,)).get(timeout=60))
        results = [pool.apply_async(os.getpid, ()) for _ in range(4)]
        print(all(result.get(timeout=60) != os.getpid() for result in results))
        try:
            print(pool.apply_async(nap, (10,)).get(timeout=0.2))
        except TimeoutError:
            print("We lacked patience")
    print(said(lambda: pool.map(square, [1])))
    with Pool(4) as pool:
        tasks = [(multiply, (i, 7)) for i in range(5)] + [(plus, (i, 8)) for i in range(5)]
        for result in [pool.apply_async(calculate, task) for task in tasks]:
            print(result.get())
        print(list(pool.imap(calculate_star, tasks)))
        print(sorted(pool.imap_unordered(calculate_star, tasks)))
        print(said(lambda: pool.apply(divide, (5,))), said(lambda: pool.map(divide, range(10))))
        results = pool.imap(divide, range(10))
        print([said(lambda: next(results)) for _ in range(11)])
        print(pool.starmap(multiply, [(1, 2), (3, 4)]), pool.map(square, range(5), chunksize=2))
        told = []
        result = pool.map_async(square, range(3), callback=told.append)
        result.wait(60)
        while not told:
            time.sleep(0.01)
        print(told, result.ready(), result.successful())
        pool.close()
        print(said(lambda: pool.apply(square, (1,))))
        pool.join()
    with Pool(2, initializer=initialize, initargs=({"a": 1, "b": 2},)) as pool:
        print(pool.map(look_up, ["a", "b", "a"]), said(lambda: pool.apply(look_up, ("c",))))
    pool = Pool(2)
    results = [pool.apply_async(nap, (0.05,)) for _ in range(6)]
    pool.close()
    pool.join()
    print([result.get() for result in results])
"""

PARALLEL = """
import sys
from math import modf, sqrt
from joblib import Parallel, delayed, parallel_config
if sys.argv[1] == "mobula":
    from mobula.util.joblib import register_ray
    register_ray()

def fail_at_three(value):
    if value == 3:
        raise ValueError("three")
    return value

if __name__ == "__main__":
    with parallel_config(backend="loky" if sys.argv[1] == "library" else "ray", n_jobs=2):
        print(Parallel()(delayed(sqrt)(i**2) for i in range(10)))
        parts, whole = zip(*Parallel(n_jobs=2)(delayed(modf)(i / 2.0) for i in range(10)))
        print(parts, whole)
        try:
            Parallel()(delayed(fail_at_three)(i) for i in range(6))
        except ValueError as error:
            print(error)
        print(list(Parallel(return_as="generator")(delayed(sqrt)(i) for i in range(5))))
        with Parallel(n_jobs=2) as parallel:
            total, rounds = 0.0, 0
            while total < 1000:
                total += sum(parallel(delayed(sqrt)(total + i**2) for i in range(5)))
                rounds += 1
            print(total, rounds)
"""


def lines(run_script: Callable[..., Any], program: str, how: str) -> list[str]:
    out: str = run_script(program, how, timeout=300).stdout
    return out.splitlines()


@pytest.mark.parametrize("program", [FUTURES, POOL, PARALLEL], ids=["futures", "pool", "parallel"])
def test_a_program_prints_what_it_prints_on_the_librarys_own_processes(
    no_session: None, run_script: Callable[..., Any], program: str
) -> None:
    if program is PARALLEL:
        pytest.importorskip("joblib")
    assert lines(run_script, program, "mobula") == lines(run_script, program, "library")
