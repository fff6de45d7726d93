"""Runtime environments with files: working_dir, py_modules, and packages that are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from conftest import start

pytestmark = pytest.mark.mobula_only  # Ray takes local directories in init only.


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBULA_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A program's directory."""
    folder = tmp_path / "program"
    (folder / "sub").mkdir(parents=True)
    (folder / "my_module.py").write_text("VALUE = 1\n")
    (folder / "sub" / "data.txt").write_text("data")
    (folder / "sub" / "x.log").write_text("log")
    (folder / ".gitignore").write_text("sub/*.log\n")
    return folder


@ray.remote
def where() -> tuple[str, list[str]]:
    found = [os.path.join(folder, name) for folder, _, names in os.walk(".") for name in names]
    return os.getcwd(), sorted(os.path.relpath(path) for path in found)


@ray.remote
def value_of(module: str) -> Any:
    import importlib

    return importlib.import_module(module).VALUE  # type: ignore[attr-defined]


@pytest.mark.usefixtures("no_session")
def test_tasks_of_a_job_run_in_a_copy_of_its_working_dir(tree: Path) -> None:
    start(runtime_env={"working_dir": str(tree)})
    folder, files = ray.get(where.remote())
    assert files == [".gitignore", "my_module.py", "sub/data.txt"]
    assert folder != str(tree)
    assert ray.get(value_of.remote("my_module")) == 1
    assert ray.get_runtime_context().runtime_env["working_dir"].startswith("file://")

    @ray.remote
    def child() -> Any:
        out = subprocess.run(
            [sys.executable, "-c", "import my_module; print(my_module.VALUE)"],
            capture_output=True,
            text=True,
            check=True,
        )
        return out.stdout.strip(), ray.get(where.remote())[0]

    assert ray.get(child.remote()) == ("1", folder)
    assert os.getcwd() != folder


@pytest.mark.usefixtures("no_session")
def test_what_is_excluded_is_not_there(tree: Path) -> None:
    start(runtime_env={"working_dir": str(tree), "excludes": ["sub/data.txt", "*.gitignore"]})
    assert ray.get(where.remote())[1] == ["my_module.py"]


@pytest.mark.usefixtures("no_session")
def test_the_package_is_what_was_there_when_it_was_submitted(tree: Path) -> None:
    start()
    first = value_of.options(runtime_env={"working_dir": str(tree)})
    assert ray.get(first.remote("my_module")) == 1
    (tree / "my_module.py").write_text("VALUE = 2\n")
    second = value_of.options(runtime_env={"working_dir": str(tree)})
    assert ray.get(second.remote("my_module")) == 2
    assert ray.get(first.remote("my_module")) == 1


@pytest.mark.usefixtures("no_session")
def test_tasks_that_write_do_not_change_the_package(tree: Path) -> None:
    @ray.remote
    def write() -> None:
        Path("my_module.py").write_text("VALUE = 'broken'\n")

    for _ in range(2):
        start(runtime_env={"working_dir": str(tree)})
        assert ray.get(value_of.remote("my_module")) == 1
        ray.get(write.remote())
        ray.shutdown()


@pytest.mark.usefixtures("no_session")
@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
def test_archives_are_unpacked(tree: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"archive{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tree / "my_module.py", "my_module.py")
    else:
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tree / "my_module.py", "my_module.py")
    start(runtime_env={"working_dir": str(path)})
    assert ray.get(where.remote())[1] == ["my_module.py"]
    assert ray.get(value_of.remote("my_module")) == 1


def test_an_archive_that_reaches_outside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside.py", "VALUE = 1")
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="outside"):
        ray.init(num_cpus=1, runtime_env={"working_dir": str(path)})
    assert not ray.is_initialized()
    assert not list((tmp_path / "cache").rglob("outside.py"))


def test_a_directory_that_is_too_large_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBULA_PACKAGE_MB_MAX", "0.00001")
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="excludes"):
        ray.init(num_cpus=1, runtime_env={"working_dir": str(tree)})
    assert not ray.is_initialized()


@pytest.mark.usefixtures("no_session")
def test_py_modules_can_be_imported(tree: Path, tmp_path: Path) -> None:
    package = tmp_path / "elsewhere" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from my_package.inner import VALUE\n")
    (package / "inner.py").write_text("VALUE = 'package'\n")
    wheel = tmp_path / "my_wheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("my_wheel.py", "VALUE = 'wheel'\n")
    start()
    environment = {"py_modules": [str(package), str(tree / "my_module.py"), str(wheel)]}
    task = value_of.options(runtime_env=environment)
    assert ray.get([task.remote(name) for name in ("my_package", "my_module", "my_wheel")]) == [
        "package",
        1,
        "wheel",
    ]
    with pytest.raises(ModuleNotFoundError):
        ray.get(value_of.remote("my_package"))


# ---- packages that are installed -----------------------------------------------------------------


def make_wheel(folder: Path, name: str, version: str, value: str) -> Path:
    """A wheel with one module, whose VALUE is `value`."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VALUE = {value!r}\n")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    return path


OFFLINE = ["--no-index", "--no-warn-script-location"]


@pytest.mark.usefixtures("no_session")
def test_pip_installs_what_its_tasks_need_and_no_others(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "mobula_probe", "1.0", "one")
    two = make_wheel(tmp_path, "mobula_probe", "2.0", "two")
    start()
    tasks = [
        value_of.options(
            runtime_env={
                "pip": {
                    "packages": [str(wheel)],
                    "pip_check": False,
                    "pip_install_options": OFFLINE,
                }
            }
        )
        for wheel in (one, two)
    ]
    assert ray.get([task.remote("mobula_probe") for task in tasks]) == ["one", "two"]
    with pytest.raises(ModuleNotFoundError):
        ray.get(value_of.remote("mobula_probe"))

    @ray.remote
    def program() -> str:
        import cloudpickle  # Of the driver's own packages.

        assert cloudpickle
        code = "import mobula_probe; print(mobula_probe.VALUE)"
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return out.stdout.strip()

    environment = {"pip": {"packages": [str(two)], "pip_install_options": OFFLINE}}
    assert ray.get(program.options(runtime_env=environment).remote()) == "two"


@pytest.mark.usefixtures("no_session")
def test_only_packages_that_workers_see_count_as_installed(tmp_path: Path) -> None:
    """pip must not find what the interpreter below a virtual environment has, if tasks do not."""
    wheel = make_wheel(tmp_path, "mobula_probe", "1.0", "one")
    start()

    @ray.remote
    def paths() -> tuple[list[str], list[str]]:
        code = "import json, sys; print(json.dumps(sys.path))"
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean
        )
        return sys.path, json.loads(out.stdout)

    environment = {"pip": {"packages": [str(wheel)], "pip_install_options": OFFLINE}}
    own, of_pip = ray.get(paths.options(runtime_env=environment).remote())
    assert any("mobula_probe.py" in os.listdir(entry) for entry in own if os.path.isdir(entry))
    packages = [entry for entry in of_pip if entry.endswith("-packages")]
    assert packages
    assert set(packages) <= set(own)


@pytest.mark.usefixtures("no_session")
def test_pip_that_fails_says_what_pip_said_and_a_corrected_one_works(tmp_path: Path) -> None:
    start()

    def environment(*packages: str) -> dict[str, Any]:
        return {"pip": {"packages": list(packages), "pip_install_options": OFFLINE}}

    missing = value_of.options(runtime_env=environment("mobula-no-such-package==1.0"))
    for _ in range(2):
        with pytest.raises(ray.exceptions.RuntimeEnvSetupError) as caught:
            ray.get(missing.remote("mobula_probe"), timeout=120)
        assert "No matching distribution found for mobula-no-such-package==1.0" in str(caught.value)
        assert "pip install failed" in str(caught.value)
    wheel = make_wheel(tmp_path, "mobula_probe", "1.0", "good")
    good = value_of.options(runtime_env=environment(str(wheel)))
    assert ray.get(good.remote("mobula_probe")) == "good"


@pytest.mark.usefixtures("no_session")
def test_an_installed_environment_is_made_once_for_all_sessions(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    wheel = make_wheel(tmp_path, "mobula_probe", "1.0", "kept")
    requirements.write_text(f"--no-index\n{wheel}\n")
    for _ in range(2):
        start(runtime_env={"pip": str(requirements)})
        assert ray.get(value_of.remote("mobula_probe"), timeout=120) == "kept"
        ray.shutdown()
    venvs = [path for path in (tmp_path / "cache" / "venvs").iterdir() if path.is_dir()]
    assert len(venvs) == 1


# ---- the cache -----------------------------------------------------------------------------------


def test_a_folder_is_made_once_and_a_half_made_one_is_made_anew(tmp_path: Path) -> None:
    from mobula import _cache

    made = []

    def make(folder: Path) -> None:
        assert not list(folder.iterdir())
        made.append(folder)
        (folder / "file").write_text("x")

    folder = _cache.get_or_make("things", "key", make)
    assert _cache.get_or_make("things", "key", make) == folder
    assert len(made) == 1
    (folder / ".complete").unlink()  # As a process leaves it that dies in the middle.
    assert _cache.get_or_make("things", "key", make) == folder
    assert len(made) == 2

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        _cache.get_or_make("things", "other", fail)
    assert not (folder.parent / "other").exists()


def test_processes_that_want_the_same_folder_make_it_once(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from mobula import _cache
        def make(folder):
            with open(sys.argv[1], "a") as log:
                log.write("made\\n")
            (folder / "file").write_text("x" * 100)
        folder = _cache.get_or_make("things", "key", make)
        assert (folder / "file").read_text() == "x" * 100
    """)
    log = tmp_path / "log"
    processes = [subprocess.Popen([sys.executable, "-c", program, str(log)]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert log.read_text() == "made\n"


def test_what_was_not_used_for_longest_is_removed_unless_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mobula import _cache

    monkeypatch.setenv("MOBULA_CACHE_GB", str(250 / (1 << 30)))

    def make(folder: Path) -> None:
        (folder / "file").write_text("x" * 100)

    old = _cache.get_or_make("things", "old", make)
    held = _cache.get_or_make("things", "held", make)
    for folder in (old, held):
        os.utime(folder / ".complete", (0, 0))
    descriptor = _cache.hold(held)
    new = _cache.get_or_make("things", "new", make)
    assert not old.exists()
    assert held.exists()
    assert new.exists()
    os.close(descriptor)
