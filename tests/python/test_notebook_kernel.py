"""Mobula in a notebook: a real IPython kernel, cell by cell."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

pytestmark = pytest.mark.mobula_only

SECONDS = 60.0


class Kernel:
    """A kernel of this interpreter."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager()
        self.manager._kernel_spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="this interpreter",
            language="python",
            env={"IPYTHONDIR": str(folder)},
        )
        self.manager.start_kernel(cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)

    def start_cell(self, code: str) -> str:
        return str(self.client.execute(code))

    def finish_cell(self, cell: str) -> dict[str, Any]:
        """What came out: "value" (of the last expression), "printed", and "error" with "traceback"."""
        out: dict[str, Any] = {"value": None, "printed": "", "error": None, "traceback": ""}
        deadline = time.monotonic() + SECONDS
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                out["printed"] += content["text"]
            elif kind == "execute_result":
                out["value"] = content["data"]["text/plain"]
            elif kind == "error":
                out["error"] = content["ename"]
                out["traceback"] = "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return out

    def run(self, code: str) -> dict[str, Any]:
        return self.finish_cell(self.start_cell(code))

    def value(self, code: str) -> Any:
        out = self.run(code)
        assert out["error"] is None, out["traceback"]
        return out["value"]

    def wait_for_print(self, cell: str, text: str) -> str:
        """Returns what was printed below the cell, once this is among it."""
        seen = ""
        while text not in seen:
            message = self.client.get_iopub_msg(timeout=SECONDS)
            if message["msg_type"] == "stream" and message["parent_header"].get("msg_id") == cell:
                seen += message["content"]["text"]
        return seen

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    one = Kernel(tmp_path)
    try:
        one.run("import mobula as ray, os, time, asyncio\nray.init(num_cpus=2)")
        yield one
    finally:
        one.stop()


def test_a_cell_that_defines_again_what_a_task_uses(kernel: Kernel) -> None:
    kernel.run("def helper(): return 'old'")
    kernel.run("@ray.remote\ndef task(): return helper()")
    assert kernel.value("ray.get(task.remote())") == "'old'"
    # A function takes its globals along when it is first called, as in Ray: define both again.
    kernel.run("def helper(): return 'new'\n@ray.remote\ndef task(): return helper()")
    assert kernel.value("ray.get(task.remote())") == "'new'"
    kernel.run("class Point:\n    size = 1")
    kernel.run("@ray.remote\ndef look(p): return p.size, type(p).__name__")
    assert kernel.value("ray.get(look.remote(Point()))") == "(1, 'Point')"
    kernel.run("class Point:\n    size = 2")
    assert kernel.value("ray.get(look.remote(Point()))") == "(2, 'Point')"
    kernel.run("@ray.remote\ndef give(): return Point()")
    assert kernel.value("isinstance(ray.get(give.remote()), Point)") == "True"


# IPython does not end a cell that awaits, whatever it awaits, before its loop wakes by itself.
@pytest.mark.parametrize("waiting", ["ray.get(slow.remote())", "ray.wait([slow.remote()])"])
def test_interrupting_a_cell_ends_the_cell_and_keeps_the_session(
    kernel: Kernel, waiting: str
) -> None:
    kernel.run("@ray.remote\ndef slow(): time.sleep(1000)\n@ray.remote\ndef quick(): return 1")
    cell = kernel.start_cell(f"print('waits', flush=True)\n{waiting}")
    kernel.wait_for_print(cell, "waits")
    kernel.manager.interrupt_kernel()
    assert kernel.finish_cell(cell)["error"] == "KeyboardInterrupt"
    assert kernel.value("ray.get(quick.remote())") == "1"


def test_restarting_the_kernel_leaves_nothing_of_the_old_session(kernel: Kernel) -> None:
    before = kernel.value(
        "@ray.remote\ndef pid(): return os.getpid()\n(os.getpid(), ray.get(pid.remote()))"
    )
    driver, worker = eval(before)
    kernel.run("@ray.remote\ndef slow(): time.sleep(1000)\nref = slow.remote()")
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=SECONDS)
    for process in (driver, worker):
        has_ended(process)
    assert kernel.value("import mobula as ray\nray.is_initialized()") == "False"
    assert kernel.value("ray.get(ray.put(5))") == "5"


def has_ended(pid: int) -> None:
    deadline = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_the_loop_of_the_notebook_runs_while_a_cell_gets_and_awaits(kernel: Kernel) -> None:
    kernel.run("@ray.remote\ndef double(x): return 2 * x")
    assert kernel.value("await double.remote(2)") == "4"
    assert (
        kernel.value("await asyncio.gather(*[double.remote(i) for i in range(3)])") == "[0, 2, 4]"
    )
    kernel.run("async def inside(): return ray.get(double.remote(5))")
    assert kernel.value("await inside()") == "10"
    assert kernel.value("ray.get([double.remote(i) for i in range(3)])") == "[0, 2, 4]"
    assert (
        kernel.value("done, _ = await asyncio.wait([double.remote(1).as_future()])\nlen(done)")
        == "1"
    )


def test_what_tasks_print_comes_out_below_a_cell(kernel: Kernel, tmp_path: Path) -> None:
    kernel.run("@ray.remote\ndef talk(): print('from a task')")
    seen = tmp_path / "seen"
    cell = kernel.start_cell(
        f"ray.get(talk.remote())\nwhile not os.path.exists({str(seen)!r}): time.sleep(0.01)"
    )
    assert "(talk pid=" in kernel.wait_for_print(cell, "from a task")
    seen.touch()
    assert kernel.finish_cell(cell)["error"] is None


def test_the_error_of_a_task_shows_the_lines_of_its_cell(kernel: Kernel) -> None:
    kernel.run("@ray.remote\ndef divide(x):\n    return 1 / x  # here it goes wrong")
    out = kernel.run("ray.get(divide.remote(0))")
    assert out["error"] == "RayTaskError(ZeroDivisionError)"
    assert "here it goes wrong" in out["traceback"]
    assert kernel.value("ray.get(divide.remote(1))") == "1.0"
