"""What `ps` shows of workers: what they run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import mobula as ray
import pytest
from conftest import start
from leftovers import wait_until

pytestmark = pytest.mark.mobula_only


@pytest.fixture
def session(no_session: None) -> Iterator[None]:
    start(num_cpus=1)
    yield


def title_of(pid: int | str = "self") -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


@ray.remote
def own_title() -> tuple[str, int]:
    return title_of(), os.getpid()


@ray.remote
def other() -> str:
    return title_of()


def test_a_running_task_is_the_title(session: None) -> None:
    assert ray.get(own_title.remote())[0] == "mobula::own_title\0"
    assert ray.get(own_title.options(name="by my name").remote())[0] == "mobula::by my name\0"
    assert ray.get(other.remote()) == "mobula::other\0"
    assert ray.get(own_title.remote())[0] == "mobula::own_title\0"


def test_a_worker_without_a_task_is_idle(session: None) -> None:
    _, pid = ray.get(own_title.remote())
    wait_until(lambda: title_of(pid) == "mobula::IDLE\0", "the worker looks idle")


def test_a_task_that_waits_keeps_its_title(session: None, tmp_path: Path) -> None:
    @ray.remote
    def waits(path: Path) -> tuple[str, str]:
        before = title_of()
        ray.get(own_title.remote())
        return before, title_of()

    before, after = ray.get(waits.remote(tmp_path))
    assert before == after
    assert after.endswith("waits\0")


def test_a_long_name_is_cut_between_characters(session: None) -> None:
    title, _ = ray.get(own_title.options(name="é" * 5000).remote())
    assert title.startswith("mobula::éé")
    assert set(title.removeprefix("mobula::").rstrip("\0")) == {"é"}


def test_the_prefix_comes_from_the_environment(
    no_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBULA_PROCTITLE_PREFIX", "ray::")
    start(num_cpus=1)
    assert ray.get(own_title.remote())[0] == "ray::own_title\0"

    @ray.remote
    def fails() -> None:
        raise ValueError

    with pytest.raises(ValueError, match="ray::"):
        ray.get(fails.remote())


def test_the_drivers_own_title_stays(session: None) -> None:
    assert "mobula::" not in title_of()
