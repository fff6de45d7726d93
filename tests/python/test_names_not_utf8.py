"""Names that the system has and that are not UTF-8 reach workers as they are: bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from conftest import start
from mobula import exceptions

pytestmark = pytest.mark.mobula_only

ODD = b"caf\xe9"
ODD_TEXT = os.fsdecode(ODD)

PROGRAM = """
import os, sys
import mobula as ray

NAMES = ("U", "NL", "E", "N\\udce9", "HOME", "TMPDIR", "LATE")

@ray.remote
def seen():
    return {name: os.environ.get(name) for name in NAMES}, os.getcwd(), sys.path

mine = {name: os.environ.get(name) for name in NAMES}, os.getcwd()

def check():
    variables, directory, path = ray.get(seen.remote(), timeout=60)
    assert (variables, directory) == mine, (variables, mine)
    return path

if __name__ == "__main__":
    ray.init(num_cpus=1)
    path = check()
    assert all(os.path.abspath(entry or os.getcwd()) in path for entry in sys.path), path
    print("fine")
"""

Run = Callable[..., None]


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    folder = tmp_path / ODD_TEXT
    folder.mkdir()
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Run:
    """A program whose workers see what it sees, started so."""

    def run(script: Path | None = None, *arguments: bytes, **options: Any) -> None:
        script = tmp_path / "script.py" if script is None else script
        script.write_text(PROGRAM)
        variables = {**os.environb, **options.pop("variables", {})}
        ended = subprocess.run(
            [sys.executable, os.fsencode(script), *arguments],
            env=variables,
            capture_output=True,
            timeout=120,
            **options,
        )
        assert ended.stdout == b"fine\n", ended.stderr.decode(errors="backslashreplace")

    return run


@pytest.mark.parametrize(
    "variables",
    [
        {b"U": b"caf\xe9"},
        {b"N\xe9": b"1"},
        {b"U": b"\xff\xfe\x80"},
        {b"U": "caf\u00e9 \U0001f600".encode()},
        {b"U": b"\xed\xb3\xa9"},  # As a surrogate would be written.
        {b"NL": b"a\nb"},
        {b"E": b""},
    ],
)
def test_environment_variables(runs: Run, variables: dict[bytes, bytes]) -> None:
    runs(variables=variables)


def test_the_working_directory(runs: Run, odd_folder: Path) -> None:
    runs(cwd=odd_folder)


def test_the_folder_of_the_script(runs: Run, odd_folder: Path) -> None:
    runs(odd_folder / "script.py")


def test_the_name_of_the_script_and_arguments(runs: Run, tmp_path: Path) -> None:
    runs(tmp_path / f"{ODD_TEXT}.py", ODD, b"\xff")


@pytest.mark.parametrize("name", [b"HOME", b"TMPDIR", b"XDG_RUNTIME_DIR", b"MOBULA_CACHE_DIR"])
def test_folders_of_the_user(runs: Run, odd_folder: Path, name: bytes) -> None:
    runs(variables={b"XDG_RUNTIME_DIR": b"", name: os.fsencode(odd_folder)})


def test_pythonpath(runs: Run, odd_folder: Path) -> None:
    runs(variables={b"PYTHONPATH": os.fsencode(odd_folder)})


def test_a_variable_that_is_set_late(run_script: Callable[..., Any]) -> None:
    late = PROGRAM.replace("mine = ", "os.environb[b'LATE'] = b'\\xff'\nmine = ")
    assert run_script(late).stdout == "fine\n"


JOINS = """
import os, sys
import mobula as ray
from mobula import _sessions_here
(record,) = _sessions_here.sessions()
ray.init(record.address)
assert ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid()
print("joined")
"""


@pytest.mark.usefixtures("no_session")
def test_a_session_in_such_a_folder_is_joined(odd_folder: Path) -> None:
    start(_temp_dir=odd_folder)
    directory = ray.get_runtime_context().get_node_id() and ray.nodes()[0]["alive"]
    assert directory
    out = subprocess.check_output([sys.executable, "-c", JOINS], timeout=60)
    assert out == b"joined\n"
    ray.shutdown()
    assert list(odd_folder.iterdir()) == []


@pytest.mark.usefixtures("no_session")
def test_values_are_spilled_to_such_a_folder(odd_folder: Path) -> None:
    start(object_store_memory=80 << 20, object_spilling_directory=odd_folder)
    refs = [ray.put(bytes([number]) * (8 << 20)) for number in range(14)]
    assert list(odd_folder.glob("mobula-spill-*"))
    for number, ref in enumerate(refs):
        assert ray.get(ref)[:3] == bytes([number]) * 3


def test_env_vars_of_an_environment(shared_session: None) -> None:
    @ray.remote(runtime_env={"env_vars": {"U": ODD_TEXT, "V": "${U}/x"}})
    def see() -> Any:
        return os.environb[b"U"]

    assert ray.get(see.remote()) == ODD


def test_a_working_dir_of_such_a_name_with_such_files(
    shared_session: None, odd_folder: Path
) -> None:
    (odd_folder / f"file-{ODD_TEXT}").write_text("content")

    @ray.remote(runtime_env={"working_dir": str(odd_folder)})
    def see() -> Any:
        return os.listdir(b"."), Path(f"file-{ODD_TEXT}").read_text()

    assert ray.get(see.remote()) == ([b"file-" + ODD], "content")


def test_a_traceback_names_such_a_file(shared_session: None, odd_folder: Path) -> None:
    file = odd_folder / "broken.py"
    file.write_text("def fail():\n    raise ValueError('in the file')\n")
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(file.read_text(), str(file), "exec"), made)
    with pytest.raises(ValueError, match="in the file") as raised:
        ray.get(ray.remote(made["fail"]).remote())
    assert "broken.py" in str(raised.value)


@pytest.mark.parametrize("text", [ODD_TEXT, "\ud800", "a\udcffb"])
def test_texts_that_no_encoding_has(shared_session: None, text: str) -> None:
    """As values, names, messages and output."""

    @ray.remote
    def echo(value: str) -> str:
        print(value)
        print(value, file=sys.stderr)
        return value

    assert ray.get(echo.remote(text)) == text
    assert ray.get(echo.remote(ray.put([text]))) == [text]
    assert ray.get(echo.remote(value=text)) == text

    @ray.remote
    def fail() -> None:
        raise ValueError(text)

    with pytest.raises(ValueError):
        ray.get(fail.remote())
    with pytest.raises(exceptions.RayTaskError):
        ray.get(fail.remote())


def test_functions_and_actors_with_such_names(shared_session: None) -> None:
    @ray.remote
    def one() -> int:
        return 1

    assert ray.get(one.options(name=ODD_TEXT).remote()) == 1

    def named() -> int:
        return 2

    named.__name__ = named.__qualname__ = ODD_TEXT
    assert ray.get(ray.remote(named).remote()) == 2
