"""A session that cannot work says why, and soon: no daemon, no interpreter, no workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from leftovers import nothing_left_behind

pytestmark = pytest.mark.mobula_only

# Most fail in a second, on a busy machine in some. Errors tell of timeouts of ours, but not of the wait
# for a daemon that ends: that is long here.
SECONDS_MAX = 60.0

PROGRAM = """
import os, resource, sys, time
import mobula as ray

OPTIONS = {}
def limit(which, number):
    resource.setrlimit(which, (number, resource.getrlimit(which)[1]))

@ray.remote
def one():
    return 1

@ray.remote
class Actor:
    def one(self):
        return 1

%s
began = time.monotonic()
try:
    ray.init(num_cpus=1, log_to_driver=False, **OPTIONS)
    print(ray.get(one.remote(), timeout=60))
except Exception as error:
    print(type(error).__name__, error)
if "actor" in sys.argv:
    try:
        print(ray.get(Actor.remote().one.remote(), timeout=60))
    except Exception as error:
        print(type(error).__name__, error)
ray.shutdown()
print(time.monotonic() - began)
"""

WAITS_LONG = "from mobula import _daemon; _daemon._END_SECONDS = 90.0"

Fails = Callable[..., str]


@pytest.fixture
def fails(tmp_path: Path) -> Fails:
    """What a program says that prepares so and cannot have a session. Nothing of it is left."""

    def run(prepare: str = "", *arguments: str, **variables: str) -> str:
        script = tmp_path / "script.py"
        script.write_text(PROGRAM % f"{WAITS_LONG}\n{prepare}")
        with nothing_left_behind():
            ended = subprocess.run(
                [sys.executable, str(script), *arguments],
                env={**os.environ, **variables},
                capture_output=True,
                text=True,
                timeout=120,
            )
        *said, took = ended.stdout.splitlines()
        assert ended.returncode == 0, ended.stderr
        assert float(took) < SECONDS_MAX, ended.stdout
        return "\n".join(said)

    return run


# ---- the interpreter of workers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("executable", "why"),
    [
        ("''", "names no program"),
        ("None", "names no program"),
        ("'/no/such/python'", "no such program"),
        ("'no-such-python'", "no such program"),
        ("'/etc/passwd'", "cannot be executed"),
        ("'/etc'", "cannot be executed"),
    ],
)
def test_an_interpreter_that_cannot_be_started(fails: Fails, executable: str, why: str) -> None:
    said = fails(f"sys.executable = {executable}")
    assert said.startswith("ConnectionError")
    assert why in said
    assert "sys.executable" in said


def test_a_program_that_the_kernel_refuses(fails: Fails, tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    strange.write_bytes(b"\x7fELF and no more")
    strange.chmod(0o755)
    said = fails(f"sys.executable = {str(strange)!r}")
    assert "no worker of this program can be started" in said or "Exec format" in said
    assert str(strange) in said


def test_a_program_that_is_no_python(fails: Fails) -> None:
    said = fails("sys.executable = '/bin/false'", "actor")
    assert "no worker of this program can be started" in said
    assert "/bin/false" in said
    assert "exited with code 1" in said


# ---- a zygote that dies -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("os._exit(4)", "exited with code 4"),
    ],
)
def test_a_broken_sitecustomize(fails: Fails, tmp_path: Path, text: str, expected: str) -> None:
    """Where only workers are concerned: the program itself has started."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"import os\nif 'BROKEN' in os.environ: {text}\n"
    )
    said = fails("os.environ['BROKEN'] = '1'", PYTHONPATH=str(tmp_path / "site"))
    assert "no worker of this program can be started" in said
    assert expected in said


def test_a_wrong_pythonhome(fails: Fails) -> None:
    said = fails("os.environ['PYTHONHOME'] = '/no/such'")
    assert "no worker of this program can be started" in said
    assert "No module named 'encodings'" in said


def test_a_package_that_workers_do_not_find(fails: Fails) -> None:
    said = fails("sys.path[:] = [entry for entry in sys.path if 'site-packages' not in entry]")
    assert "no worker of this program can be started" in said
    assert "No module named" in said


def test_actors_are_told_too(fails: Fails) -> None:
    said = fails("os.environ['PYTHONHOME'] = '/no/such'", "actor")
    assert said.count("No module named 'encodings'") >= 2


def test_a_program_of_a_standing_session_fails_alone(tmp_path: Path) -> None:
    """Others go on."""
    broken = PROGRAM % "os.environ['PYTHONHOME'] = '/no/such'"
    with nothing_left_behind():
        first = subprocess.Popen(
            [sys.executable, "-c", FIRST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert first.stdout is not None and first.stdin is not None
        address = first.stdout.readline().strip()
        for program in (broken, broken.replace("'/no/such'", "''"), UNSTARTABLE):
            ended = subprocess.run(
                [sys.executable, "-c", program.replace("num_cpus=1", f"address={address!r}")],
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert ended.returncode == 0, ended.stderr
            expected = "\n1\n" if program == broken.replace("'/no/such'", "''") else "Error "
            assert expected in "\n" + ended.stdout
        out, _ = first.communicate("go on\n", timeout=60)
        assert out == "2\n"


FIRST = """
import sys
import mobula as ray
context = ray.init("local", num_cpus=2)
print(context.address_info["address"], flush=True)
sys.stdin.readline()
print(ray.get(ray.remote(lambda: 2).remote()))
"""

UNSTARTABLE = PROGRAM % "sys.executable = '/etc/passwd'"


# ---- limits and places --------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 4096, 1 << 16, 1 << 20])
def test_a_small_limit_for_files(fails: Fails, limit: int) -> None:
    said = fails(f"limit(resource.RLIMIT_FSIZE, {limit})")
    assert said.startswith("ConnectionError")
    assert f"{limit} bytes, by RLIMIT_FSIZE" in said


@pytest.mark.parametrize("limit", [8, 12, 16, 20, 24])
def test_a_tiny_limit_for_descriptors(fails: Fails, limit: int) -> None:
    said = fails(f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))")
    assert "Too many open files" in said or "ulimit -n" in said


@pytest.mark.parametrize("megabytes", [60, 100])
def test_a_small_limit_for_memory(fails: Fails, megabytes: int) -> None:
    """It is enough, or an error says what happened."""
    said = fails(f"size = {megabytes} << 20; resource.setrlimit(resource.RLIMIT_AS, (size, size))")
    assert said == "1" or "memory" in said.lower() or "no worker" in said


@pytest.mark.parametrize("name", ["TMPDIR", "XDG_RUNTIME_DIR"])
def test_a_place_that_is_not_there_is_passed_over(fails: Fails, name: str) -> None:
    assert fails(**{"XDG_RUNTIME_DIR": "", name: "/no/such"}) == "1"


@pytest.mark.parametrize("place", ["/proc/x", "/etc/passwd/x", "/dev/null"])
def test_a_place_where_nothing_can_be_made(fails: Fails, place: str) -> None:
    said = fails(f"OPTIONS['_temp_dir'] = {place!r}")
    assert said.startswith("ConnectionError cannot make a directory for the session")
    assert place in said


def test_a_path_that_is_too_long_for_a_socket(fails: Fails, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 80) / ("y" * 80)
    folder.mkdir(parents=True)
    assert fails(TMPDIR=str(folder), XDG_RUNTIME_DIR="") == "1"


def test_a_daemon_that_is_no_program(fails: Fails) -> None:
    said = fails(
        "import pathlib, mobula._daemon\nmobula._daemon.EXECUTABLE = pathlib.Path('/etc/passwd')"
    )
    assert said.startswith("ConnectionError cannot start the node daemon /etc/passwd")
    assert "Permission denied" in said


def test_a_daemon_that_ends_at_once(fails: Fails) -> None:
    said = fails(
        "import pathlib, mobula._daemon\nmobula._daemon.EXECUTABLE = pathlib.Path('/bin/false')"
    )
    assert said.startswith("ConnectionError")
    assert "It ended with exit code 1." in said
