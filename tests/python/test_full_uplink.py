"""Refs are safe also when there are more of them than a process can tell the daemon of at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mobula as ray
import pytest

pytestmark = [pytest.mark.mobula_only, pytest.mark.usefixtures("shared_session")]

# The records of so many refs fill the ring to the daemon; the list itself is too small for the store.
MANY = 1500


@contextmanager
def stopped_daemon() -> Iterator[None]:
    pid = daemon()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def daemon() -> int:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                arguments = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if int(stat[1]) == os.getpid() and b"node" in arguments:
                return int(name)
    raise AssertionError("this process has no daemon")


@ray.remote
def total(refs: list[Any]) -> int:
    return sum(ray.get(refs))


@ray.remote
def total_of(refs: list[Any]) -> int:
    return sum(ray.get(ray.get(refs[0])))


@ray.remote
def make(count: int) -> list[Any]:
    return [ray.put(i) for i in range(count)]


@ray.remote
def one() -> int:
    return 1


@pytest.mark.parametrize("function", [total, total_of], ids=["the list", "a ref to the list"])
def test_a_task_does_not_start_before_the_daemon_knows_its_refs(function: Any) -> None:
    for _ in range(3):
        assert ray.get(one.remote()) == 1  # There is a lease now, so the daemon is not needed.
        with stopped_daemon():
            refs = [ray.put(i) for i in range(MANY)]
            whole = ray.put(refs)
            del refs
            answer = function.remote(whole if function is total else [whole])
            del whole
            # Nothing that is running could answer before the daemon goes on.
            assert ray.wait([answer], timeout=0.2)[0] == []
        assert ray.get(answer, timeout=60) == sum(range(MANY))


def test_a_function_does_not_arrive_before_the_refs_in_its_closure() -> None:
    for _ in range(3):
        refs = [ray.put(i) for i in range(MANY)]

        @ray.remote
        def closes_over() -> int:
            return sum(ray.get(refs))  # noqa: B023

        assert ray.get(closes_over.remote(), timeout=60) == sum(range(MANY))


def test_results_do_not_overtake_the_refs_in_an_earlier_one() -> None:
    for _ in range(3):
        assert ray.get(one.remote()) == 1
        with stopped_daemon():
            answers = []
            for _ in range(4):
                answers.append(make.remote(MANY))
                answers.append(one.remote())
            ray.wait(answers, num_returns=len(answers), timeout=0.2)
        for answer in answers[1::2]:
            assert ray.get(answer, timeout=60) == 1
        for answer in answers[::2]:
            refs = ray.get(answer, timeout=60)
            assert sum(ray.get(refs, timeout=60)) == sum(range(MANY))
