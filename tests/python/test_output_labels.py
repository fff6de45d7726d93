"""Output has the name of the task that wrote it, however it was written."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.mobula_only

RunScript = Callable[..., subprocess.CompletedProcess[str]]

HEAD = """
import ctypes, faulthandler, os, subprocess, sys, time
import mobula as ray

ray.init(num_cpus=1)
"""


def lines_of(text: str) -> list[str]:
    return [re.sub(r" pid=\d+\)", ")", line) for line in text.splitlines()]


def test_what_is_written_below_python_has_the_name_of_its_own_task(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def prints():
    print("of prints")

@ray.remote
def starts_a_child():
    os.system("echo of starts_a_child")

@ray.remote
def writes():
    os.write(1, b"of writes\\n")
    os.write(2, b"of writes\\n")

@ray.remote
def is_quiet():
    pass

@ray.remote
def does_both():
    print("of does_both")
    os.system("echo of does_both")
    print("of does_both")
    subprocess.run(["sh", "-c", "echo of does_both; echo of does_both >&2"], check=True)

@ray.remote
def uses_c():
    libc = ctypes.CDLL(None)
    libc.puts(b"of uses_c")
    libc.fflush(None)
    libc.dprintf(2, b"of uses_c\\n")

@ray.remote
def writes_in_pieces():
    for byte in b"of writes_in_pieces\\n":
        os.write(1, bytes([byte]))

@ray.remote
def begins_a_line():
    os.write(1, b"of begins_a_line")

@ray.remote
def writes_by_a_file():
    with open("/dev/stdout", "w") as file:
        file.write("of writes_by_a_file\\n")
    sys.stdout.buffer.write(b"of writes_by_a_file\\n")

functions = [prints, starts_a_child, writes, is_quiet, does_both, uses_c, writes_in_pieces,
             begins_a_line, writes_by_a_file]
for f in functions:
    ray.get(f.remote())
ray.get([f.remote() for f in functions + functions[::-1]])
ray.shutdown()
"""
    )
    for text, times in ((done.stdout, 36), (done.stderr, 9)):
        lines = lines_of(text)
        assert len(lines) == times
        for line in lines:
            name, said = re.fullmatch(r"\((\w+)\) of (\w+)", line).groups()  # type: ignore
            assert name == said


def test_no_line_has_the_name_of_the_task_after_it(run_script: RunScript) -> None:
    """Short tasks of two functions in turn, which end at once after they have written."""
    done = run_script(
        HEAD
        + """
@ray.remote
def one():
    os.write(1, b"one\\n")

@ray.remote
def two():
    os.write(1, b"two\\n")

for _ in range(20):
    ray.get([f.remote() for _ in range(20) for f in (one, two)])
for _ in range(100):
    ray.get(one.remote())
    ray.get(two.remote())
ray.shutdown()
"""
    )
    lines = lines_of(done.stdout)
    assert sorted(lines) == ["(one) one"] * 500 + ["(two) two"] * 500


def test_much_output_below_python(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def one():
    for i in range(20):
        os.write(1, (b"one" * 1000 + b"\\n") * 20)

@ray.remote
def two():
    os.write(1, b"two\\n")

ray.get([f.remote() for _ in range(3) for f in (one, two)])
ray.shutdown()
"""
    )
    names = [line.split()[0] + line.split()[1][:3] for line in lines_of(done.stdout)]
    assert names == (["(one)one"] * 400 + ["(two)two"]) * 3


def test_a_line_without_its_end_is_seen_within_a_second(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def prints():
    for i in range(3):
        print(i, end=" ")
        print(100 + i, end=" ", file=sys.stderr)

@ray.remote
def writes():
    os.write(1, b"below")

class Seen:
    def __init__(self, to):
        self.to = to
        self.text = ""
    def write(self, text):
        self.text += text
        return self.to.write(text)
    def flush(self):
        self.to.flush()

sys.stdout, sys.stderr = Seen(sys.stdout), Seen(sys.stderr)

def wait(stream, text):
    begun = time.monotonic()
    while text not in stream.text:
        assert time.monotonic() - begun < 5  # One, on a machine that has time.
        time.sleep(0.005)

for _ in range(2):
    ray.get(prints.remote())
    wait(sys.stdout, "0 1 2 \\n")
    wait(sys.stderr, "100 101 102 \\n")
ray.get(writes.remote())
wait(sys.stdout, "below\\n")
ray.get([prints.remote(), prints.remote()])
ray.shutdown()
"""
    )
    assert (
        lines_of(done.stdout)
        == ["(prints) 0 1 2 "] * 2 + ["(writes) below"] + ["(prints) 0 1 2 "] * 2
    )
    assert lines_of(done.stderr) == ["(prints) 100 101 102 "] * 4


def test_a_trace_of_a_crash_and_a_last_word_have_the_name(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def before():
    print("of before")

@ray.remote(max_retries=0)
def crashes():
    os.write(2, b"last word")
    faulthandler._sigsegv()

ray.get(before.remote())
try:
    ray.get(crashes.remote())
except ray.exceptions.WorkerCrashedError:
    pass
ray.shutdown()
"""
    )
    assert "(crashes) last wordFatal Python error: Segmentation fault" in lines_of(done.stderr)
    assert not any(line.startswith("(before)") for line in lines_of(done.stderr))


def test_output_of_actors_has_their_name_from_the_constructor_on(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote(num_cpus=0)
class Plain:
    def __init__(self):
        os.write(1, b"of Plain\\n")
    def say(self):
        os.system("echo of Plain")
        print("of Plain", end="")

@ray.remote(num_cpus=0)
class Named:
    def __repr__(self):
        return "Named-7"
    async def say(self):
        os.write(1, b"of Named-7\\n")
        print("of Named-7", end="")

@ray.remote
def task():
    os.write(1, b"of task\\n")

actors = [Plain.remote(), Named.remote()]
ray.get([actor.say.remote() for actor in actors] + [task.remote()])
ray.get([actor.say.remote() for actor in actors])
ray.shutdown()
"""
    )
    lines = lines_of(done.stdout)
    assert sorted(lines) == sorted(
        ["(Plain) of Plain"] * 5 + ["(Named-7) of Named-7"] * 4 + ["(task) of task"]
    )


def test_a_child_that_goes_on_writes_under_the_name_of_what_runs(run_script: RunScript) -> None:
    """It is nobody's any more; nothing of it is lost."""
    done = run_script(
        HEAD
        + """
@ray.remote
def starts(gate):
    subprocess.Popen(["sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.01; done; echo late"])

@ray.remote
def waits(gate):
    print("of waits")
    open(gate, "w").close()
    os.waitpid(-1, 0)

gate = os.path.abspath("gate")
ray.get(starts.remote(gate))
ray.get(waits.remote(gate))
ray.shutdown()
"""
    )
    assert lines_of(done.stdout) == ["(waits) of waits", "(waits) late"]


def test_names_of_any_kind(run_script: RunScript) -> None:
    done = run_script(
        HEAD
        + """
@ray.remote
def f():
    os.write(1, b"said\\n")
    print("said")

for name in ["two\\nlines", "\\N{SNOWMAN}", "n" * 3000, "a.b", "f"]:
    ray.get(f.options(name=name).remote())
ray.shutdown()
"""
    )
    names = [line.partition(") ")[0] for line in lines_of(done.stdout)]
    assert names[::2] == names[1::2]
    assert names[2:4] == ["(\N{SNOWMAN}"] * 2
    assert names[4].startswith("(" + "n" * 1000)
    assert names[6:] == ["(a.b"] * 2 + ["(f"] * 2
