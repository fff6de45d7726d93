"""Programs that fork, daemonise, close their descriptors, or end in ways nobody planned: they work,
they end, and nothing of them is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import leftovers
import mobula as ray
import pytest

pytestmark = pytest.mark.mobula_only

StartScript = Callable[..., "subprocess.Popen[str]"]

HEAD = """
import atexit, multiprocessing, os, subprocess, sys, threading, time
import mobula as ray

@ray.remote
def double(x):
    return 2 * x

@ray.remote
def forever():
    time.sleep(1000)
"""


@pytest.fixture
def before() -> Iterator[leftovers.Picture]:
    ray.shutdown()
    yield leftovers.take_picture()


def run(
    start_script: StartScript, before: leftovers.Picture, text: str, status: int = 0
) -> tuple[str, str]:
    """The program as a script that child processes may import, too."""
    body = "".join(f"    {line}\n" for line in text.splitlines())
    process = start_script(f"{HEAD}\nif __name__ == '__main__':\n{body}")
    out, error = process.communicate(timeout=120)
    assert process.returncode == status, f"{process.returncode}\n{out}\n{error}"
    leftovers.expect_nothing_new(before)
    return out, error


def test_a_daemonised_driver(
    start_script: StartScript, before: leftovers.Picture, tmp_path: Path
) -> None:
    """Double fork, own session, no terminal, no standard descriptors, then init."""
    note = tmp_path / "note"
    run(
        start_script,
        before,
        f"""
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for number in (0, 1, 2):
    os.close(number)
os.chdir("/")
ray.init(num_cpus=2)
result = ray.get([double.remote(i) for i in range(100)])
assert result == [2 * i for i in range(100)]
ray.shutdown()
with open({str(note)!r} + ".new", "w") as file:
    file.write("done")
os.rename({str(note)!r} + ".new", {str(note)!r})
""",
    )
    leftovers.wait_until(note.exists, "the daemonised driver is done", 120)
    leftovers.expect_nothing_new(before)


@pytest.mark.parametrize("closed", ["0", "1", "2", "0, 1, 2"])
def test_a_driver_without_standard_descriptors(
    start_script: StartScript, before: leftovers.Picture, tmp_path: Path, closed: str
) -> None:
    note = tmp_path / "note"
    run(
        start_script,
        before,
        f"""
for number in ({closed},):
    os.close(number)
ray.init(num_cpus=2)
@ray.remote
def speaks():
    print("hello")
    print("hello", file=sys.stderr)
    return sys.stdin.read()
assert ray.get([double.remote(i) for i in range(10)]) == [2 * i for i in range(10)]
assert ray.get(speaks.remote()) == ""
ray.shutdown()
open({str(note)!r}, "w").close()
os._exit(0)
""",
    )
    assert note.exists()


def test_a_fork_before_init_makes_two_drivers(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    out, _ = run(
        start_script,
        before,
        """
child = os.fork()
ray.init(num_cpus=1)
print(ray.get(double.remote(21)), flush=True)
ray.shutdown()
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""",
    )
    assert out.split() == ["42", "42"]


def test_a_forked_child_may_not_use_the_session_but_start_its_own_after_exec(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    run(
        start_script,
        before,
        """
ray.init(num_cpus=1)
ref = double.remote(1)
child = os.fork()
if child == 0:
    try:
        ray.get(ref)
    except RuntimeError as error:
        assert "fork" in str(error), error
        os.execv(sys.executable, [sys.executable, "-c",
            "import mobula as ray; ray.init(num_cpus=1); "
            "assert ray.get(ray.remote(lambda: 5).remote()) == 5"])
    os._exit(9)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert ray.get(ref) == 2
""",
    )


def test_multiprocessing_of_every_kind_beside_a_session(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    run(
        start_script,
        before,
        """
ray.init(num_cpus=2)
refs = [double.remote(i) for i in range(100)]
for method in ("fork", "spawn", "forkserver"):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    child = context.Process(target=time.sleep, args=(0.01,))
    child.start()
    child.join()
    assert child.exitcode == 0
assert ray.get(refs) == [2 * i for i in range(100)]
""",
    )


def test_multiprocessing_of_every_kind_in_a_task(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    run(
        start_script,
        before,
        """
@ray.remote
def pools():
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
    assert subprocess.run(["true"]).returncode == 0
    return ray.get(double.remote(4))

ray.init(num_cpus=2)
assert ray.get([pools.remote() for _ in range(2)]) == [8, 8]
""",
    )


def test_children_of_a_task_that_outlive_it_end_with_the_session(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    run(
        start_script,
        before,
        """
@ray.remote
def leaves_one(method):
    child = multiprocessing.get_context(method).Process(target=time.sleep, args=(1000,))
    child.start()
    return child.pid

ray.init(num_cpus=2)
pids = ray.get([leaves_one.remote(method) for method in ("fork", "spawn")])
for pid in pids:
    os.kill(pid, 0)
""",
    )


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        # A thread that is no daemon keeps the program alive until it ends.
        ("threading.Thread(target=lambda: ray.get(double.remote(1))).start()", 0),
        (
            "threading.Thread(target=lambda: [ray.get(double.remote(i)) for i in range(500)]).start()",
            0,
        ),
        ("threading.Thread(target=ray.get, args=(refs,), daemon=True).start()", 0),
        ("threading.Thread(target=ray.wait, args=(refs,), daemon=True).start(); os._exit(5)", 5),
        ("atexit.register(lambda: 1 / 0)", 0),
        ("atexit.register(lambda: print(ray.get(double.remote(1)), flush=True))", 0),
        ("atexit.register(os._exit, 6)", 6),
        ("refs[0].future(); sys.exit('a message')", 1),
        ("sys.stdout = None; sys.stderr = None", 0),
        ("del ray, refs", 0),
        ("sys.modules.clear()", 0),
    ],
)
def test_a_program_ends_and_leaves_nothing(
    start_script: StartScript, before: leftovers.Picture, ending: str, status: int
) -> None:
    text = f"""
ray.init(num_cpus=1)
refs = [forever.remote()]
ray.get(double.options(num_cpus=0).remote(1))
{ending}
"""
    if "double.remote" in ending:
        text = text.replace("forever.remote()", "double.remote(3)")
    run(start_script, before, text, status)


def test_many_workers_under_a_small_limit_of_descriptors(
    start_script: StartScript, before: leftovers.Picture
) -> None:
    out, _ = run(
        start_script,
        before,
        """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

@ray.remote(num_cpus=1)
def leaf(i):
    return i

@ray.remote(num_cpus=1)
def tree(depth):
    if depth == 0:
        return ray.get(leaf.remote(1))
    return sum(ray.get([tree.remote(depth - 1) for _ in range(2)]))

ray.init(num_cpus=40, object_store_memory=100 << 20)
assert ray.get(tree.remote(5)) == 32
print(len(os.listdir("/proc/self/fd")))
""",
    )
    assert int(out.split()[-1]) < 900


def test_a_program_whose_standard_output_is_a_closed_pipe(before: leftovers.Picture) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HEAD
            + "ray.init(num_cpus=1)\n"
            + "for i in range(100): print(ray.get(double.remote(i)), flush=True)\n",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.communicate(timeout=60)
    assert process.returncode != 0
    leftovers.expect_nothing_new(before)
