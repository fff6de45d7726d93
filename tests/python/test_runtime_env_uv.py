"""Runtime environments whose packages uv installs. Skipped where uv cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import mobula as ray
import pytest
from conftest import start
from test_runtime_env_packages import make_wheel, value_of

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("no_session")]

OFFLINE = ["--no-cache", "--no-index"]


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an executable uv."""
    found = shutil.which("uv")
    if found:
        return Path(found).parent
    target = tmp_path_factory.mktemp("uv")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), "uv"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("pip took too long to install uv")
    if said.returncode != 0:
        pytest.skip(f"uv cannot be installed here: {said.stderr[-300:]}")
    return target / "bin"


@pytest.fixture(autouse=True)
def _session(uv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBULA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{uv}{os.pathsep}{os.environ['PATH']}")
    start()


def environment(*packages: object, **more: Any) -> dict[str, Any]:
    listed = [str(package) for package in packages]
    return {"uv": {"packages": listed, "uv_pip_install_options": OFFLINE, **more}}


def test_uv_installs_what_its_tasks_need_and_no_others(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "mobula_probe", "1.0", "one")
    two = make_wheel(tmp_path, "mobula_probe", "2.0", "two")
    tasks = [value_of.options(runtime_env=environment(wheel)) for wheel in (one, two)]
    assert ray.get([task.remote("mobula_probe") for task in tasks]) == ["one", "two"]
    with pytest.raises(ModuleNotFoundError):
        ray.get(value_of.remote("mobula_probe"))


def test_the_packages_of_the_driver_are_there_too(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "mobula_probe", "1.0", "one")

    @ray.remote(runtime_env=environment(wheel))
    def program() -> str:
        import cloudpickle  # Of the driver's own packages.

        assert cloudpickle
        code = "import mobula_probe; print(mobula_probe.VALUE)"
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return out.stdout.strip()

    assert ray.get(program.remote()) == "one"


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "mobula_probe", "1.0", "one")
    task = value_of.options(runtime_env=environment(wheel))
    assert ray.get(task.remote("mobula_probe")) == "one"
    made = list((tmp_path / "cache" / "venvs").iterdir())
    ray.shutdown()
    start()
    assert ray.get(task.remote("mobula_probe")) == "one"
    assert list((tmp_path / "cache" / "venvs").iterdir()) == made


def test_uv_that_fails_says_what_uv_said_and_a_corrected_one_works(tmp_path: Path) -> None:
    missing = value_of.options(runtime_env=environment("mobula-no-such-package==1.0"))
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError) as caught:
        ray.get(missing.remote("mobula_probe"), timeout=120)
    assert "mobula-no-such-package" in str(caught.value)
    assert "uv pip install failed" in str(caught.value)
    wheel = make_wheel(tmp_path, "mobula_probe", "1.0", "good")
    good = value_of.options(runtime_env=environment(wheel))
    assert ray.get(good.remote("mobula_probe")) == "good"


def test_uv_check_finds_packages_that_do_not_fit_together(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "mobula_probe", "1.0", "one")
    needy = tmp_path / "mobula_needy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(needy, "w") as made:
        for name in good.namelist():
            text = good.read(name).decode().replace("mobula_probe", "mobula_needy")
            if name.endswith("METADATA"):
                text += "Requires-Dist: mobula-no-such-package\n"
            made.writestr(name.replace("mobula_probe", "mobula_needy"), text)
    options = [*OFFLINE, "--no-deps"]
    wanted = {"packages": [str(needy)], "uv_pip_install_options": options, "uv_check": True}
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="uv pip check failed"):
        ray.get(value_of.options(runtime_env={"uv": wanted}).remote("mobula_needy"), timeout=120)
