"""The helper that looks for what is left behind sees what there is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import leftovers
import mobula as ray
import pytest
from conftest import start


@pytest.mark.mobula_only
def test_a_session_is_seen_in_full(no_session: None) -> None:
    before = leftovers.take_picture()
    assert before.new_since(before) == {}
    start()
    ref = ray.put(bytes(1_000_000))
    assert ray.get(ray.remote(lambda value: len(value)).remote(ref)) == 1_000_000
    found = leftovers.take_picture().new_since(before)
    assert len(found["processes"]) >= 3  # Daemon, zygote, worker.
    assert any("mobula node" in name for name in found["processes"])
    assert any("socket" in name for name in found["descriptors"])
    assert any(name.startswith("mapping") for name in found["memfds"])
    assert len(found["files"]) == 1
    del ref
    ray.shutdown()
    leftovers.expect_nothing_new(before)


def test_a_grandchild_a_file_and_a_descriptor_are_seen() -> None:
    before = leftovers.take_picture()
    text = """
import os, time
pid = os.fork()
if pid == 0:
    time.sleep(1000)
print(pid, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    child.wait()
    file = Path("/dev/shm", f"mobula-test-{os.getpid()}")
    file.touch()
    memory = os.memfd_create("mobula-test")
    try:
        found = leftovers.take_picture().new_since(before)
        assert [name.split()[0] for name in found["processes"]] == [str(grandchild)]
        assert found["files"] == [str(file)]
        assert [name for name in found["memfds"] if "mobula-test" in name]
        assert [name for name in found["descriptors"] if "mobula-test" in name]
    finally:
        file.unlink()
        os.close(memory)
        child.stdout.close()
        os.kill(grandchild, signal.SIGKILL)
    leftovers.expect_nothing_new(before)


def test_programs_of_a_run_in_the_background_heed_interrupts() -> None:
    inner = "import signal; print([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGQUIT)])"
    text = f"""
import leftovers, subprocess, sys
leftovers.heed_interrupts()
subprocess.run([sys.executable, "-c", {inner!r}], check=True)
"""
    background = "trap '' INT QUIT; exec \"$@\""  # What a shell does to them.
    done = subprocess.run(
        ["sh", "-c", background, "sh", sys.executable, "-c", text],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == f"[{signal.default_int_handler}, {signal.SIG_DFL!r}]\n", done.stderr
