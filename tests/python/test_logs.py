"""What workers print appears at the driver, with the task and process in front."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from leftovers import wait_until

pytestmark = pytest.mark.mobula_only

RunScript = Callable[..., subprocess.CompletedProcess[str]]

HEAD = """
import os, sys
import mobula as ray
"""


def lines_of(text: str) -> list[str]:
    return text.splitlines()


def test_prints_are_labelled(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def speak():
    print("one")
    print("two", "words")
    print("three\\nfour")
    return os.getpid()

print("driver", ray.get(speak.remote()))
ray.shutdown()
print("end")
"""
    )
    lines = lines_of(done.stdout)
    pid = next(line.split()[1] for line in lines if line.startswith("driver"))
    spoken = [line for line in lines if line.startswith("(")]
    assert spoken == [f"(speak pid={pid}) {text}" for text in ("one", "two words", "three", "four")]
    # All of it is there when shutdown returns.
    assert lines[-1] == "end"


def test_stderr_goes_to_stderr(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def speak():
    print("to out")
    print("to err", file=sys.stderr)

ray.get(speak.remote())
ray.shutdown()
"""
    )
    assert re.fullmatch(r"\(speak pid=\d+\) to out\n", done.stdout)
    assert re.search(r"^\(speak pid=\d+\) to err$", done.stderr, re.M)
    assert "to err" not in done.stdout


def test_each_line_has_the_name_of_its_task(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
ray.init(num_cpus=1)

@ray.remote
def first(i):
    print("first", i)

@ray.remote
def second(i):
    print("second", i)

for i in range(20):
    ray.get([first.remote(i), second.remote(i)])
ray.get(first.options(name="renamed").remote(99))
ray.shutdown()
"""
    )
    lines = lines_of(done.stdout)
    assert len(lines) == 41
    for line in lines[:-1]:
        name, text = re.fullmatch(r"\((\w+) pid=\d+\) (\w+) \d+", line).groups()  # type: ignore
        assert name == text
    assert re.fullmatch(r"\(renamed pid=\d+\) first 99", lines[-1])


def test_unfinished_lines_are_not_lost_and_keep_their_name(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
ray.init(num_cpus=1)

@ray.remote
def unfinished():
    sys.stdout.write("no newline")

@ray.remote
def finished():
    print("whole line")

ray.get(unfinished.remote())
ray.get(finished.remote())
ray.get(unfinished.remote())
ray.shutdown()
"""
    )
    lines = [re.sub(r" pid=\d+", "", line) for line in lines_of(done.stdout)]
    assert lines == ["(unfinished) no newline", "(finished) whole line", "(unfinished) no newline"]


def test_output_below_python_appears_too(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
import subprocess
from pathlib import Path

@ray.remote
def speak():
    print("python")
    os.write(1, b"descriptor\\n")
    sys.stdout.buffer.write(b"buffer\\n")
    sys.stdout.buffer.flush()
    subprocess.run(["echo", "child"], check=True)

ray.get(speak.remote())
ray.shutdown()
"""
    )
    lines = [re.sub(r" pid=\d+", "", line) for line in lines_of(done.stdout)]
    assert lines == ["(speak) python", "(speak) descriptor", "(speak) buffer", "(speak) child"]


def test_long_lines_many_lines_and_odd_characters(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def speak():
    print("x" * 100_000)
    for i in range(5000):
        print(i)
    print("\\N{SNOWMAN} ä")
    print("\\udc80")
    os.write(1, b"\\xff\\xfe\\n")

ray.get(speak.remote())
ray.shutdown()
"""
    )
    text = re.sub(r"\(speak pid=\d+\) ", "", done.stdout)
    assert text.count("x") >= 100_000
    numbers = [line for line in lines_of(text) if line.isdigit()]
    assert numbers == [str(i) for i in range(5000)]
    assert "\N{SNOWMAN} ä" in text
    assert "\\udc80" in text


def test_prints_of_tasks_that_crash(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote(max_retries=0)
def die():
    print("last words")
    os.kill(os.getpid(), 9)

try:
    ray.get(die.remote())
except ray.exceptions.WorkerCrashedError:
    print("crashed")
ray.shutdown()
"""
    )
    assert "crashed" in lines_of(done.stdout)
    assert re.search(r"^\(die pid=\d+\) last words$", done.stdout, re.M)


def test_nothing_is_printed_if_so_wished(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
ray.init(num_cpus=1, log_to_driver=False)

@ray.remote
def speak():
    print("unheard")
    print("unheard", file=sys.stderr)

ray.get(speak.remote())
ray.shutdown()
print("end")
"""
    )
    assert done.stdout == "end\n"
    assert "unheard" not in done.stderr


def test_a_program_that_just_ends_prints_everything(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def speak(i):
    print("line", i)

ray.get([speak.remote(i) for i in range(100)])
"""
    )
    assert sorted(int(line.split()[-1]) for line in lines_of(done.stdout)) == list(range(100))


def test_a_quiet_program_prints_nothing(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def quiet(x):
    return x

with ray.init(num_cpus=2, logging_level="error"):
    assert ray.get([quiet.remote(i) for i in range(10)]) == list(range(10))
"""
    )
    assert done.stdout == ""
    assert done.stderr == ""


def test_colours_only_on_a_terminal(run_script: RunScript) -> None:
    text = (
        HEAD
        + """
import io

class Terminal(io.StringIO):
    def isatty(self):
        return True

@ray.remote
def speak():
    print("hello")

real, sys.stdout = sys.stdout, Terminal()
ray.get(speak.remote())
ray.shutdown()
print(repr(sys.stdout.getvalue()), file=real)
"""
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    coloured = run_script(text, env=environment).stdout
    assert "\\x1b[" in coloured
    assert "hello" in coloured
    assert "\\x1b[" not in run_script(text, env={**environment, "NO_COLOR": "1"}).stdout


def test_threads_and_forks_of_a_task_can_print(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
import threading

@ray.remote
def speak():
    print("task")
    thread = threading.Thread(target=print, args=("thread",))
    thread.start()
    thread.join()
    child = os.fork()
    if child == 0:
        print("fork", flush=True)
        os._exit(0)
    os.waitpid(child, 0)

ray.get(speak.remote())
ray.shutdown()
"""
    )
    lines = [re.sub(r" pid=\d+", "", line) for line in lines_of(done.stdout)]
    assert lines == ["(speak) task", "(speak) thread", "(speak) fork"]


def test_files_of_a_worker_that_prints_much_are_bounded(no_session: None) -> None:
    import mobula as ray
    from conftest import start

    directory = start(log_to_driver=False).address_info["session_dir"]

    @ray.remote
    def speak() -> int:
        for _ in range(400):
            os.write(1, b"x" * 99_999 + b"\n")
        os.write(1, b"last words\n")
        return os.getpid()

    pid = ray.get(speak.remote())

    def files() -> dict[str, int]:
        return {
            name: os.path.getsize(os.path.join(directory, name))
            for name in os.listdir(directory)
            if f"-{pid}.out" in name
        }

    def last_words() -> bool:
        return any(Path(directory, name).read_bytes().endswith(b"last words\n") for name in files())

    wait_until(last_words, "everything was written")
    assert len(files()) == 2
    assert 8 << 20 <= sum(files().values()) <= 17 << 20


def test_what_a_program_prints_that_a_task_starts_is_labelled(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
import subprocess, time

@ray.remote
def starts_a_program(gate):
    subprocess.run(["echo", "from a program"])
    os.write(1, b"from a library\\n")
    while not os.path.exists(gate):
        time.sleep(0.005)

class Seen:  # The lines are read while the task runs: it ends when they are here.
    def __init__(self, to):
        self.to = to
        self.text = ""
    def write(self, text):
        self.text += text
        if "from a library" in self.text:
            open("gate", "w").close()
        return self.to.write(text)
    def flush(self):
        self.to.flush()
    def isatty(self):
        return False

sys.stdout = Seen(sys.stdout)
ray.get(starts_a_program.remote(os.path.abspath("gate")))
ray.shutdown()
"""
    )
    spoken = [line for line in lines_of(done.stdout) if line.startswith("(")]
    assert [re.sub(r"pid=\d+", "pid=", line) for line in spoken] == [
        "(starts_a_program pid=) from a program",
        "(starts_a_program pid=) from a library",
    ]
