"""Fixtures for the tests of the Python API.

MOBULA_TEST_RAY=1 runs what can be run against Ray itself, where that is installed, to check what the
tests expect; tests of Mobula's own behaviour are skipped then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import leftovers
import pytest

leftovers.mark_this_process()
leftovers.heed_interrupts()

AGAINST_RAY = os.environ.get("MOBULA_TEST_RAY") == "1"
if AGAINST_RAY:
    # For this process, and for the programs and workers that it starts.
    _alias = tempfile.TemporaryDirectory()
    Path(_alias.name, "mobula.py").write_text(
        "import sys, ray, ray.exceptions, ray.job_config\n"
        "import ray.util.check_serialize, ray.util.scheduling_strategies\n"
        "import ray.util.multiprocessing, ray.util.queue\n"
        "for name in [name for name in sys.modules if name.partition('.')[0] == 'ray']:\n"
        "    sys.modules['mobula' + name[3:]] = sys.modules[name]\n"
    )
    sys.path.insert(0, _alias.name)
    os.environ["PYTHONPATH"] = _alias.name

import mobula as ray  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "mobula_only: says what Mobula does where Ray does otherwise"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if AGAINST_RAY:
        for item in items:
            if item.get_closest_marker("mobula_only"):
                item.add_marker(pytest.mark.skip(reason="not what Ray does"))


def start(**options: Any) -> Any:
    """`init` with what every test wants."""
    if AGAINST_RAY:
        options = {"include_dashboard": False, "logging_level": "error", **options}
    return ray.init(**{"num_cpus": 2, **options})


@pytest.fixture(scope="module")
def shared_session() -> Iterator[None]:
    """One session for the tests of a module. Ends without leaving anything behind."""
    ray.shutdown()
    before = leftovers.take_picture()
    start(num_gpus=4, resources={"slot": 1, "token": 2}, object_store_memory=512 << 20)
    yield
    ray.shutdown()
    if not AGAINST_RAY:
        leftovers.expect_nothing_new(before)


@pytest.fixture
def no_session() -> Iterator[None]:
    """For a test that starts its own. Nothing of it may be left afterwards."""
    ray.shutdown()
    before = leftovers.take_picture()
    yield
    ray.shutdown()
    if not AGAINST_RAY:
        leftovers.expect_nothing_new(before)


@pytest.fixture
def start_script(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a program of its own (its text) as a script; killed at the end if it still runs."""
    started: list[subprocess.Popen[str]] = []

    def start_it(text: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        script = tmp_path / f"script{len(started)}.py"
        script.write_text(text)
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **{"cwd": tmp_path, **options},
        )
        started.append(process)
        return process

    yield start_it
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def run_script(
    start_script: Callable[..., subprocess.Popen[str]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program to its end and returns what it printed. Fails if it fails, unless told what
    exit status to expect."""

    def run(
        text: str, *arguments: str, status: int = 0, timeout: float = 120, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        process = start_script(text, *arguments, **options)
        out, error = process.communicate(timeout=timeout)
        assert process.returncode == status, f"exit status {process.returncode}\n{out}\n{error}"
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    return run
