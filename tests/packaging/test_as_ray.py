"""mobula-as-ray: the wheel, and what `import ray` finds with it, with and without a Ray."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tomllib

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "python/mobula-as-ray"
WHO = "import importlib.metadata as m, ray; print([ray.__version__, m.version('ray')])"
OURS = ["2.60.0", "2.60.0"]
THEIRS = ["9.9", "9.9"]


def quietly(*command: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["-q", "--no-deps", "--no-build-isolation", "-w", folder]
    quietly(sys.executable, "-m", "pip", "wheel", *options, SOURCE)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def real_ray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel named ray, which stands for a real one."""
    made = tmp_path_factory.mktemp("real") / "ray-9.9-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("ray/__init__.py", "__version__ = '9.9'\n")
        about = "Metadata-Version: 2.1\nName: ray\nVersion: 9.9\n"
        archive.writestr("ray-9.9.dist-info/METADATA", about)
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("ray-9.9.dist-info/WHEEL", tags)
        archive.writestr("ray-9.9.dist-info/RECORD", "")
    return made


class Environment:
    """A venv in which the checkout is on the path, as an installed Mobula would be."""

    def __init__(self, folder: Path) -> None:
        quietly(sys.executable, "-m", "venv", "--without-pip", folder)
        self.python = folder / "bin/python"
        (self.site,) = folder.glob("lib/python3*/site-packages")
        self.mobula = self.site / "mobula-of-the-checkout.pth"
        self.mobula.write_text(f"{ROOT / 'python'}\n{sysconfig.get_path('purelib')}\n")

    def pip(self, *arguments: Any) -> str:
        return quietly(sys.executable, "-m", "pip", "--python", self.python, *arguments)

    def install(self, wheel: Path) -> str:
        return self.pip("install", "--no-deps", "--no-index", wheel)

    def run(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Without the variables of this process."""
        return subprocess.run(
            [self.python, "-c", code], env=variables, capture_output=True, text=True, timeout=120
        )

    def said(self, code: str, **variables: str) -> Any:
        done = self.run(code, **variables)
        assert done.returncode == 0, done.stderr
        return ast.literal_eval(done.stdout)


@pytest.fixture
def fresh(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


@pytest.fixture(scope="module")
def ours(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Where there is no real Ray."""
    made = Environment(tmp_path_factory.mktemp("ours") / "venv")
    made.install(wheel)
    return made


def test_the_wheel_is_pure_and_owns_nothing_of_ray(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert archive.read("mobula_as_ray.pth") == b"import mobula_as_ray\n"
    assert sorted(names) == ["mobula_as_ray.pth", "mobula_as_ray/__init__.py"]


def test_it_has_the_version_of_mobula() -> None:
    versions = [
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in (ROOT, SOURCE)
    ]
    assert versions[0] == versions[1]


def test_programs_find_mobula(ours: Environment) -> None:
    assert ours.said(WHO) == OURS
    code = """
import importlib.util
before = importlib.util.find_spec("ray")
import sys
quick = "mobula" not in sys.modules
import mobula, ray.util, subprocess
from ray.exceptions import RayError
@ray.remote
def inside():
    import ray as again, importlib.metadata
    child = subprocess.run([sys.executable, "-c", "import ray; print(ray.__version__)"], env={},
        capture_output=True, text=True)
    return [again is ray, ray.__name__, importlib.metadata.version("ray"), child.stdout.strip()]
with ray.init(num_cpus=1) as context:
    version = context.ray_version
    print([before.name, quick, ray.util is mobula.util, version, ray.get(inside.remote())])
"""
    assert ours.said(code) == ["ray", True, True, "2.60.0", [True, "ray", "2.60.0", "2.60.0"]]


def test_a_child_with_an_environment_of_its_own_finds_it(ours: Environment) -> None:
    code = (
        "import subprocess, sys, ray; run = lambda *more: subprocess.run([sys.executable, *more, '-c', "
        "'import ray; print(ray.__name__)'], env={}, capture_output=True, text=True).stdout.strip(); "
        "print([run(), run('-I'), run('-E')])"
    )
    assert ours.said(code) == ["ray", "ray", "ray"]


def test_variables_count_by_the_names_of_ray(ours: Environment) -> None:
    done = ours.run("import ray; ray.init()", RAY_ADDRESS="10.0.0.1:6379")
    assert "ConnectionError" in done.stderr and "10.0.0.1:6379" in done.stderr
    done = ours.run("import mobula; mobula.init(num_cpus=1)", RAY_ADDRESS="10.0.0.1:6379")
    assert done.returncode == 0, done.stderr


def test_programs_that_say_import_mobula_see_no_difference(ours: Environment) -> None:
    code = """
import sys, mobula
@mobula.remote
def inside():
    import os
    return "ray" in sys.modules, os.environ.get("MOBULA_AS_RAY")
with mobula.init(num_cpus=1) as context:
    same = context.ray_version == mobula.__version__
    print([same, "ray" in sys.modules, mobula.get(inside.remote())])
"""
    assert ours.said(code) == [True, False, (False, None)]


def test_metadata_is_found_before_the_module_and_once(ours: Environment) -> None:
    code = """
import importlib.metadata as m, sys
names = [d.metadata["Name"] for d in m.distributions()]
print([m.version("ray"), m.version("Ray"), names.count("ray"), "mobula" in sys.modules,
    [d.metadata["Name"] for d in m.distributions(path=sys.path[1:2])].count("ray")])
"""
    assert ours.said(code) == ["2.60.0", "2.60.0", 1, False, 0]


def test_installers_see_no_ray(ours: Environment) -> None:
    assert "ray " not in [line[:4] for line in ours.pip("list").splitlines()]


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_real_ray_wins(fresh: Environment, wheel: Path, real_ray: Path, order: str) -> None:
    wheels = [wheel, real_ray] if order == "after" else [real_ray, wheel]
    for one in wheels:
        assert "Successfully installed" in fresh.install(one)
    assert fresh.said(WHO) == THEIRS
    count = "import importlib.metadata as m; print(sum(d.name == 'ray' for d in m.distributions()))"
    assert fresh.said(count) == 1
    same = "import sys, ray, mobula; print([ray is mobula, ray.__version__, 'ray.util' in sys.modules])"
    assert fresh.said(same) == [False, "9.9", False]
    fresh.pip("uninstall", "-y", "ray")
    assert fresh.said(WHO) == OURS
    fresh.pip("uninstall", "-y", "mobula-as-ray")
    assert "No module named 'ray'" in fresh.run("import ray").stderr


def test_a_ray_that_another_finder_finds_wins(
    fresh: Environment, wheel: Path, tmp_path: Path
) -> None:
    """As an editable installation has one, put behind ours."""
    fresh.install(wheel)
    (tmp_path / "real.py").write_text("__version__ = '9.9'\n")
    (fresh.site / "late.py").write_text(
        "import sys\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        from importlib.util import spec_from_file_location as spec\n"
        f"        return spec(name, {str(tmp_path / 'real.py')!r}) if name == 'ray' else None\n"
        "sys.meta_path.append(Finder)\n"
    )
    (fresh.site / "zz.pth").write_text("import late\n")
    assert fresh.said("import ray; print([ray.__version__])") == ["9.9"]


def test_without_mobula_there_is_no_ray(fresh: Environment, wheel: Path) -> None:
    fresh.install(wheel)
    fresh.mobula.unlink()
    done = fresh.run("import ray")
    assert "ModuleNotFoundError: No module named 'ray'" in done.stderr
    done = fresh.run("import importlib.metadata; importlib.metadata.version('ray')")
    assert "PackageNotFoundError" in done.stderr


def test_the_command_works_beside_it_and_beside_a_real_ray(
    fresh: Environment, wheel: Path, real_ray: Path
) -> None:
    fresh.install(wheel)
    command = [fresh.python, "-m", "mobula.ray", "-c", WHO]
    assert ast.literal_eval(quietly(*command)) == OURS
    fresh.install(real_ray)
    assert ast.literal_eval(quietly(*command)) == OURS


def test_an_interpreter_that_starts_imports_nothing_but_the_module_itself(
    ours: Environment,
) -> None:
    code = "import sys; print(sorted(sys.modules))"
    with_it = ours.said(code)
    pth = ours.site / "mobula_as_ray.pth"
    away = pth.rename(pth.with_suffix(".away"))
    try:
        without = ours.said(code)
    finally:
        away.rename(pth)
    assert set(with_it) - set(without) == {"mobula_as_ray"}
