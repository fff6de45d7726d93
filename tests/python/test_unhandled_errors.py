"""What the driver says of failures that the program does not look at: errors of dropped refs, and tasks
that are tried again."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.mobula_only

RunScript = Callable[..., subprocess.CompletedProcess[str]]

UNHANDLED = "Unhandled error (suppress with 'MOBULA_IGNORE_UNHANDLED_ERRORS=1'): "

# `settle` returns when all that was submitted is over, and known to be.
HEAD = """
import os, sys
from mobula.util import state
import mobula as ray
ray.init(num_cpus=1)

@ray.remote(max_retries=0)
def fail(text="boom"):
    raise ValueError(text)

@ray.remote
def nothing(*args):
    pass

def settle():
    while any(row.state not in ("FINISHED", "FAILED") for row in state.list_tasks(limit=1000)):
        pass
    ray.get(nothing.remote())
"""


def reports(done: subprocess.CompletedProcess[str]) -> int:
    return done.stderr.count("Unhandled error")


@pytest.mark.parametrize(
    "code, expected",
    [
        ("fail.remote(); settle()", 1),
        ("refs = [fail.remote() for _ in range(3)]; settle(); del refs", 3),
        ("ref = fail.remote(); settle(); ref = None", 1),
        ("fail.options(num_returns=2).remote(); settle()", 2),
        # Of the second; it has looked at the first.
        ("nothing.remote(fail.remote()); settle()", 1),
        ("ref = fail.remote(); ray.wait([ref]); del ref", 0),
        ("ref = fail.remote(); ref.future().exception(); del ref", 0),
        ("ref = fail.remote(); ray.wait([nothing.remote(ref)]); del ref", 0),
        ("ref = fail.remote(); settle(); ray.shutdown(); del ref", 0),
        ("nothing.remote(); settle()", 0),
        ("ref = ray.put(ValueError()); del ref; settle()", 0),
    ],
)
def test_an_error_that_nobody_looked_at_is_told_when_its_ref_goes(
    run_script: RunScript, code: str, expected: int
) -> None:
    done = run_script(f"{HEAD}\n{code}\nray.shutdown()\n")
    assert done.returncode == 0, done.stderr
    assert reports(done) == expected, done.stderr


def test_what_is_told_is_the_error_with_its_traceback(run_script: RunScript) -> None:
    done = run_script(HEAD + "fail.remote('a text'); settle()\nray.shutdown()\n")
    assert f"{UNHANDLED}mobula::fail() (pid=" in done.stderr
    assert "raise ValueError(text)" in done.stderr
    assert "ValueError: a text" in done.stderr


def test_an_error_that_get_raised_is_not_told(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
ref = fail.remote()
try:
    ray.get(ref)
except ValueError:
    del ref
settle()
ray.shutdown()
"""
    )
    assert reports(done) == 0, done.stderr


def test_calls_of_actors_and_items_of_generators_are_told_too(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote(num_cpus=0)
class Actor:
    def fail(self):
        raise KeyError("of an actor")
    def fine(self):
        pass

@ray.remote
def items():
    yield 1
    raise ValueError("of a generator")

actor = Actor.remote()
actor.fail.remote()
ray.get(actor.fine.remote())
refs = items.remote()
settle()
del refs
settle()
ray.shutdown()
"""
    )
    assert reports(done) == 2, done.stderr
    assert "KeyError: 'of an actor'" in done.stderr
    assert "ValueError: of a generator" in done.stderr


def test_a_cancelled_task_is_not_told(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
import time

@ray.remote
def sleep(path):
    open(path, "w").close()
    time.sleep(100)

path = os.path.join(os.getcwd(), "started")
ref = sleep.remote(path)
while not os.path.exists(path):
    time.sleep(0.01)
ray.cancel(ref)
del ref
settle()
ray.shutdown()
"""
    )
    assert done.returncode == 0, done.stderr
    assert reports(done) == 0, done.stderr


def test_a_task_tells_of_its_own_tasks_through_its_output(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def parent():
    import logging, threading

    told = threading.Event()
    class Note(logging.StreamHandler):
        def emit(self, record):
            super().emit(record)
            told.set()
    logging.getLogger("mobula").addHandler(Note())
    fail.options(num_cpus=0).remote()  # The CPU is the parent's.
    told.wait()

ray.get(parent.remote())
ray.shutdown()
"""
    )
    assert reports(done) == 1, done.stderr
    assert re.search(r"^\([^)]*pid=\d+\) Unhandled error", done.stderr, re.MULTILINE), done.stderr


def test_a_flood_of_errors_is_cut_short_and_counted(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
import logging, threading
slow = threading.Event()
class Slow(logging.Handler):
    def emit(self, record):
        slow.wait()
logging.getLogger("mobula").addHandler(Slow())
logging.getLogger("mobula").addHandler(logging.StreamHandler())
for _ in range(300):
    fail.remote()
settle()
slow.set()
ray.shutdown()
"""
    )
    shown = reports(done)
    left_out = sum(int(n) for n in re.findall(r"(\d+) more tasks failed", done.stderr))
    assert 0 < shown < 300
    assert shown + left_out == 300


def test_a_variable_keeps_it_silent(run_script: RunScript) -> None:
    code = HEAD + "fail.remote(); settle()\nray.shutdown()\n"
    silent = {**os.environ, "MOBULA_IGNORE_UNHANDLED_ERRORS": "1"}
    assert reports(run_script(code, env=silent)) == 0
    of_ray = {**os.environ, "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
    assert reports(run_script(code, env=of_ray)) == 1
    assert reports(run_script(code, env={**of_ray, "MOBULA_AS_RAY": "1"})) == 0


@pytest.mark.parametrize("log_to_driver", [True, False])
def test_a_task_that_lost_its_worker_and_is_tried_again_is_told(
    run_script: RunScript, log_to_driver: bool
) -> None:
    done = run_script(
        f"""
import os, signal
import mobula as ray
ray.init(num_cpus=1, log_to_driver={log_to_driver})

@ray.remote(max_retries=2)
def dies_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"

print(ray.get(dies_once.remote(os.path.join(os.getcwd(), "died"))))
ray.shutdown()
"""
    )
    assert "alive" in done.stdout
    assert re.search(
        r"The worker that ran dies_once \(pid \d+\) died: killed by SIGKILL\. "
        r"The task is tried again: attempt 2 of 3\.",
        done.stderr,
    ), done.stderr


def test_many_crashes_of_one_function_make_few_lines(run_script: RunScript) -> None:
    done = run_script(
        """
import os
import mobula as ray
ray.init(num_cpus=2)

@ray.remote(max_retries=1)
def dies():
    os._exit(1)

refs = [dies.remote() for _ in range(12)]
ray.wait(refs, num_returns=len(refs))
ray.shutdown()
"""
    )
    assert 1 <= done.stderr.count("The task is tried again") < 12, done.stderr


def test_a_function_that_is_called_again_after_an_exception_is_told(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote(max_retries=2, retry_exceptions=True)
def again():
    raise ValueError("once more")

ref = again.remote()
ray.wait([ref])
ray.shutdown()
"""
    )
    said = "again failed with ValueError: once more. It is called again: attempt 2 of 3."
    assert said in done.stderr, done.stderr
    assert reports(done) == 0


def test_an_actor_that_cannot_be_made_says_why_though_nobody_calls_it(
    run_script: RunScript,
) -> None:
    done = run_script(
        HEAD
        + """
from mobula.util.state import list_actors

@ray.remote
class Unlucky:
    def __init__(self):
        raise ValueError("of the constructor")

actor = Unlucky.remote()
while list_actors()[0].state != "DEAD":
    pass
ray.shutdown()
"""
    )
    said = r"^\(Unlucky pid=\d+\) Exception raised in creation task: .*Unlucky\.__init__\(\)"
    assert re.search(said, done.stderr, re.MULTILINE), done.stderr
    assert "ValueError: of the constructor" in done.stderr
    assert reports(done) == 0


def test_a_log_handler_that_uses_the_session_does_not_hold_up_its_end(
    run_script: RunScript,
) -> None:
    done = run_script(
        HEAD
        + """
import logging

class Uses(logging.Handler):
    def emit(self, record):
        try:
            print("handled", ray.get(ray.put(1)), flush=True)
        except ray.exceptions.RaySystemError:
            print("handled at the end", flush=True)

logging.getLogger("mobula").addHandler(Uses())
refs = [fail.remote() for _ in range(3)]
settle()
del refs
ray.shutdown()
print("over", ray.is_initialized())
"""
    )
    assert done.stdout.count("handled") == 3
    assert done.stdout.splitlines()[-1] == "over False"
