"""examples/tour/tour.ipynb, executed from top to bottom in a real kernel."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

TOUR = Path(__file__).resolve().parents[2] / "examples" / "tour"


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(
        output["text"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream"
    )


def test_the_notebook_runs_and_its_results_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBULA_TOUR_QUICK", "1")
    notebook = nbformat.read(TOUR / "tour.ipynb", as_version=4)
    # This interpreter is the kernel, whatever kernels are registered on the machine.
    kernel = AsyncKernelManager()
    kernel._kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name="this interpreter",
        language="python",
    )
    client = NotebookClient(
        notebook, km=kernel, timeout=240, resources={"metadata": {"path": str(TOUR)}}
    )
    client.execute()
    text = printed(notebook)
    for example in ("Fibonacci", "Monte Carlo", "Photographs"):
        assert f"{example}: the results agree" in text
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1


def test_only_the_import_line_differs_from_a_ray_notebook() -> None:
    notebook = nbformat.read(TOUR / "tour.ipynb", as_version=4)
    lines = [
        line
        for cell in notebook.cells
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if "mobula" in line
    ]
    assert lines == ["import mobula as ray"]


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(TOUR / "tour.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
