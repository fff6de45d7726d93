"""python -m mobula.ray: programs that say `import ray`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.mobula_only

STARTS_OTHERS = """
import multiprocessing, subprocess, sys
import ray

if __name__ == "__main__":
    ray.init(num_cpus=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(abs, [-1]))
    code = "import ray, ray.util.state; from ray.exceptions import RayError; print(ray.__name__)"
    for start in (subprocess.check_output, lambda command: ray.get(look_at.remote(command))):
        @ray.remote
        def look_at(command):
            return subprocess.check_output(command)
        print(start([sys.executable, "-c", code]).decode().strip())
"""

PROGRAM = """
import sys
import ray
import ray.util
from ray.exceptions import RayTaskError
import ray.util.scheduling_strategies as strategies

@ray.remote
def inside():
    import ray
    from ray import exceptions
    return ray.__name__, exceptions.RayTaskError is RayTaskError, ray.is_initialized()

@ray.remote
def fails():
    raise ValueError("x")

if __name__ == "__main__":
    ray.init(num_cpus=1)
    print(ray.__name__, sys.argv[1:], __name__)
    print(ray.get(inside.remote()))
    try:
        ray.get(fails.remote())
    except RayTaskError as error:
        print(type(error).__name__)
    try:
        import ray.no_such_part
    except ModuleNotFoundError as error:
        print(error.name)
"""
EXPECTED = [
    "mobula ['a', 'b'] __main__",
    "('mobula', True, True)",
    "RayTaskError(ValueError)",
    "ray.no_such_part",
]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mobula.ray", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_script(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "program.py").write_text("import beside\n" + PROGRAM)
    (tmp_path / "deep" / "beside.py").write_text("")
    done = run("deep/program.py", "a", "b", cwd=tmp_path)
    assert done.stdout.splitlines() == EXPECTED, done.stderr


def test_a_module(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run("-m", "program", "a", "b", cwd=tmp_path)
    assert done.stdout.splitlines() == EXPECTED, done.stderr


def test_code(tmp_path: Path) -> None:
    done = run("-c", PROGRAM, "a", "b", cwd=tmp_path)
    assert done.stdout.splitlines() == EXPECTED, done.stderr


def test_the_exit_code_is_the_programs(tmp_path: Path) -> None:
    assert run("-c", "import sys; sys.exit(3)", cwd=tmp_path).returncode == 3
    failed = run("-c", "1/0", cwd=tmp_path)
    assert failed.returncode == 1 and "ZeroDivisionError" in failed.stderr


@pytest.mark.parametrize("wrong", [[], ["-c"], ["-m"], ["--what"], ["no_such_file.py"]])
def test_wrong_usage_is_told(wrong: list[str], tmp_path: Path) -> None:
    done = run(*wrong, cwd=tmp_path)
    assert done.returncode == 2
    assert "mobula.ray" in done.stderr + done.stdout


def test_help(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0 and "script.py" in done.stdout


def test_programs_that_it_starts_find_it_too(tmp_path: Path) -> None:
    script = tmp_path / "starts_others.py"
    script.write_text(STARTS_OTHERS)
    result = subprocess.run(
        [sys.executable, "-m", "mobula.ray", str(script)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["[1]", "mobula", "mobula"]
