"""The wheel: built from this checkout, installed into a venv of its own, and used from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, os
import mobula as ray

@ray.remote
def where():
    return os.getpid(), ray.__file__

ray.init(num_cpus=2)
pids_and_files = ray.get([where.remote() for _ in range(4)])
ray.shutdown()
print(json.dumps({"driver": os.getpid(), "module": ray.__file__, "tasks": pids_and_files}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    # Named as in the release build, and with paths relative to the checkout, what was compiled there
    # is found in the compiler's cache.
    environment = {
        "CC": "cc",
        "CXX": "c++",
        "CCACHE_BASEDIR": str(ROOT),
        "CCACHE_NOHASHDIR": "1",
        **os.environ,
    }
    subprocess.run([*command, "-w", str(folder), str(ROOT)], check=True, env=environment)
    (made,) = folder.glob("mobula-*.whl")
    return made


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip_for_it = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python")]
    subprocess.run([*pip_for_it, "install", "-q", "--no-deps", str(wheel)], check=True)
    # The requirements of mobula come from the venv of the tests. Its own .pth files, and with them
    # the checkout, are not looked at through this.
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run_in(venv: Path, *command: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PATH"] = f"{venv / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(900)  # The first build from nothing.
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name.endswith("-linux_x86_64.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    package = [name for name in names if not name.startswith("mobula-")]
    assert "mobula/bin/mobula" in package
    assert len([name for name in package if name.startswith("mobula/_core.cpython-")]) == 1
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    expected = {
        f"mobula/{path.relative_to(ROOT / 'python/mobula')}"
        for path in (ROOT / "python/mobula").rglob("*")
        if path.suffix in (".py", ".pyi", ".typed", ".egg-info")
    }
    binaries = {name for name in package if name.startswith(("mobula/bin/", "mobula/_core.cpy"))}
    assert {name for name in package if not name.endswith("/py.typed")} - binaries == {
        name for name in expected if not name.endswith("/py.typed")
    }


def test_an_installed_wheel_runs_tasks(venv: Path, tmp_path: Path) -> None:
    said = json.loads(run_in(venv, "python", "-c", PROGRAM, cwd=tmp_path))
    assert Path(said["module"]).is_relative_to(venv)
    for pid, module in said["tasks"]:
        assert pid != said["driver"]
        assert module == said["module"]


def test_the_command_is_on_the_path(venv: Path, tmp_path: Path) -> None:
    assert "mobula" in run_in(venv, "mobula", "--help", cwd=tmp_path)
