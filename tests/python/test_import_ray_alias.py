"""python -m mobula.ray: programs that say `import ray`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    "ray ['a', 'b'] __main__",
    "('ray', True, True)",
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
    assert result.stdout.split() == ["[1]", "ray", "ray"]


def said(code: str, cwd: Path, *before: str) -> list[Any]:
    """What a program prints, line by line, as values."""
    (cwd / "program.py").write_text(code)
    done = run(*(before or ("program.py",)), cwd=cwd)
    assert done.returncode == 0, done.stderr
    return [ast.literal_eval(line) for line in done.stdout.splitlines()]


HINTS = """
import dataclasses, inspect, typing
def scale(x: int) -> int: return x
@dataclasses.dataclass
class Point:
    x: float
    def move(self, by: "Point") -> float: ...
class Row(typing.TypedDict):
    name: str
async def later(x: list[int]): ...
late: int = 1
print([
    scale.__annotations__["x"] is int,
    inspect.signature(scale).return_annotation is int,
    dataclasses.fields(Point)[0].type is float,
    Point.move.__annotations__ == {"by": "Point", "return": float},
    later.__annotations__["x"] == list[int],
    __annotations__["late"] is int,
])
"""


def test_annotations_of_a_program_are_values(tmp_path: Path) -> None:
    assert said(HINTS, tmp_path) == [[True] * 6]
    assert said(HINTS, tmp_path, "-c", HINTS) == [[True] * 6]
    assert said(HINTS, tmp_path, "-m", "program") == [[True] * 6]


def test_a_program_may_ask_for_annotations_as_texts(tmp_path: Path) -> None:
    code = "from __future__ import annotations\nx: int = 1\nprint(repr(__annotations__['x']))\n"
    assert said(code, tmp_path) == ["int"]
    assert said(code, tmp_path, "-c", code) == ["int"]


NAMES = """
import importlib.metadata, sys
print([importlib.metadata.version("ray")])
import ray
import mobula
print([ray.__name__, ray.__version__, str(ray)[:13], str(mobula)[:16], type(ray) is type(sys)])
print(mobula.__name__ == "mobula" and mobula.__version__ != ray.__version__)
import ray.util.state as state, mobula.util.state
print([
    ray is not mobula,
    ray.util is mobula.util and ray.util.state is state is mobula.util.state,
    state.__name__ == "mobula.util.state",
    all(getattr(ray, name) is getattr(mobula, name) for name in mobula.__all__ if name[0] != "_"),
    ray.__all__ == mobula.__all__,
    ray.experimental is mobula.experimental,
])
@ray.remote
def names():
    import importlib.metadata, sys, mobula
    import ray as inside
    version = importlib.metadata.version("ray")
    return [ray.__name__, inside is ray, ray is sys.modules["ray"], ray is not mobula, version]
context = ray.init(num_cpus=1)
print(context.ray_version == ray.__version__ != mobula.__version__)
print(ray.get(names.remote()))
print(ray.get(ray.put([ray, ray.util, ray.exceptions.RayError, ray.get_actor])) == [
    ray, ray.util, ray.exceptions.RayError, ray.get_actor
])
"""


def test_ray_has_a_name_and_a_version_of_its_own(tmp_path: Path) -> None:
    assert said(NAMES, tmp_path) == [
        ["2.60.0"],
        ["ray", "2.60.0", "<module 'ray'", "<module 'mobula'", True],
        True,
        [True] * 6,
        True,
        ["ray", True, True, True, "2.60.0"],
        True,
    ]


LOOKS = """
import importlib, importlib.util, pickle, unittest.mock
PICKLED = b"cray.exceptions\\nRayError\\n."
import ray
print([importlib.util.find_spec(name) is not None for name in ("ray", "ray.util", "ray.none")])
try:
    ray.none
except AttributeError as error:
    print([str(error), error.name, error.obj is ray])
with unittest.mock.patch("ray.get", 5):
    print(ray.get)
with unittest.mock.patch("ray.util.get_node_ip_address", 6):
    from ray.util import get_node_ip_address
    print(get_node_ip_address)
print([callable(ray.get), importlib.reload(ray) is ray, pickle.loads(PICKLED).__name__])
found = {}
exec("from ray import *", found)
print(found["get"] is ray.get)
"""


def test_programs_look_at_ray_as_at_any_module(tmp_path: Path) -> None:
    assert said(LOOKS, tmp_path) == [
        [True, True, False],
        ["module 'ray' has no attribute 'none'", "none", True],
        5,
        6,
        [True, True, "RayError"],
        True,
    ]


def test_the_metadata_of_ray_says_the_version_that_the_module_says() -> None:
    from mobula import _alias, _version

    (found,) = Path(_alias.FOLDER).glob("ray-*")
    assert found.name == f"ray-{_version.RAY_VERSION}.egg-info"
    assert f"\nVersion: {_version.RAY_VERSION}\n" in found.read_text()
