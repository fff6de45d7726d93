"""The table and the picture, from measurements whose times are known."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

TOUR = Path(__file__).resolve().parents[2] / "examples" / "tour"
PROGRAMS = ["fibonacci", "monte_carlo_pi", "images", "batch_inference"]
SVG = "{http://www.w3.org/2000/svg}"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"tour_{name}", TOUR / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(TOUR))  # The folder imports from itself, as a program does.
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOUR))
    return module


picture = load("picture")
runner = load("__main__")


def record(**changes: Any) -> dict[str, Any]:
    """Three tasks of a second each: three seconds serially, two on two workers."""
    made = {
        "program": "sample",
        "tasks": 3,
        "serial_s": 3.0,
        "parallel_s": 2.0,
        "speedup": 1.5,
        "speedup_of_each_round": [1.4, 1.5, 1.7],
        "others_share": 0.02,
        "results_agree": True,
        "cpus": 2,
        "init_s": 0.1,
        "warm_up_s": 0.2,
        "serial": [{"start_s": float(at), "end_s": at + 1.0} for at in range(3)],
        "parallel": [
            {"worker": "b", "start_s": 0.0, "end_s": 1.0},
            {"worker": "a", "start_s": 0.0, "end_s": 1.0},
            {"worker": "b", "start_s": 1.0, "end_s": 2.0},
        ],
    }
    return {**made, **changes}


def svg_of(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + len("</svg>")])


def blocks(svg: ElementTree.Element, kind: str) -> list[dict[str, float]]:
    return [
        {name: float(rect.attrib[name]) for name in ("x", "y", "width", "height")}
        for rect in svg.iter(f"{SVG}rect")
        if rect.attrib["class"] == kind
    ]


def test_blocks_lie_where_the_times_say() -> None:
    svg = svg_of(picture.to_svg(picture.draw([record()], "a heading")))
    serial, parallel = blocks(svg, "serial"), blocks(svg, "parallel")
    second = (picture.LANES_RIGHT - picture.LANES_LEFT) / 3
    assert [block["x"] for block in serial] == pytest.approx(
        [picture.LANES_LEFT + second * at for at in range(3)], abs=0.01
    )
    assert len({block["y"] for block in serial}) == 1
    # Drawn worker by worker: two blocks of the first, one of the second.
    assert [block["x"] for block in parallel] == pytest.approx(
        [picture.LANES_LEFT + second * at for at in (0, 1, 0)], abs=0.01
    )
    assert parallel[0]["y"] == parallel[1]["y"] < parallel[2]["y"]
    assert max(block["y"] for block in serial) < min(block["y"] for block in parallel)
    assert all(block["width"] == pytest.approx(second - 1, abs=0.01) for block in serial + parallel)


def test_text_is_escaped_and_differing_results_are_shouted() -> None:
    text = picture.to_svg(picture.draw([record(program="<b>", results_agree=False)], "a & b"))
    words = [element.text for element in svg_of(text).iter(f"{SVG}text")]
    assert "<b>" in words
    assert "a & b" in words
    assert any("RESULTS DIFFER" in (word or "") for word in words)


def test_many_workers_get_thin_lanes_of_their_own() -> None:
    spans = [{"worker": str(worker), "start_s": 0.0, "end_s": 1.0} for worker in range(64)]
    svg = svg_of(picture.to_svg(picture.draw([record(parallel=spans)], "a heading")))
    assert len({block["y"] for block in blocks(svg, "parallel")}) == 64


@pytest.mark.parametrize("seconds", [0.003, 0.07, 1.0, 9.9, 76.4, 4000.0])
def test_ticks_are_round_and_few(seconds: float) -> None:
    step = picture.tick_step(seconds)
    assert seconds / step <= picture.TICKS_MAX
    assert seconds / step > picture.TICKS_MAX / 2.6
    assert f"{step:e}"[0] in "125"


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    long = {"program": "batch_inference", "tasks": 512, "serial_s": 123.456, "parallel_s": 61.5}
    lines = runner.table([record(), record(**long, others_share=1.0)]).splitlines()
    assert {len(line) for line in lines} == {max(map(len, lines))}
    assert len(lines[0]) <= 80
    cells = ["sample", "3", "3.00 s", "2.00 s", "1.50 x", "1.40-1.70", "agree", "2%"]
    assert re.split(" {2,}", lines[2]) == cells


def test_results_that_differ_are_shouted_in_the_table() -> None:
    text = runner.table([record(), record(results_agree=False)])
    assert text.count("DIFFER") == 1
    assert text.count("agree") == 1


def test_the_notes_warn_where_others_use_the_cpus_and_only_there() -> None:
    quiet = runner.notes([record(), record(others_share=0.09)], quick=False)
    busy = runner.notes([record(), record(program="late", others_share=0.62)], quick=False)
    assert "OTHERS USE" not in quiet
    assert "OTHERS USE THE CPUS: up to 62% (late)" in busy
    assert all(len(line) <= 80 for line in [*quiet.splitlines(), *busy.splitlines()])


def test_the_notes_tell_what_is_paid_once_and_that_small_inputs_are_small() -> None:
    slow = record(init_s=0.3, warm_up_s=6.1)
    assert "init 0.1 to 0.3 s, workers 0.2 to 6.1 s" in runner.notes([record(), slow], quick=False)
    assert "inputs are the small ones" not in runner.notes([record()], quick=False)
    assert "inputs are the small ones" in runner.notes([record()], quick=True)


def test_the_runner_leaves_a_table_and_a_picture(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.tour", "--quick", "--out", str(tmp_path)],
        cwd=TOUR.parents[1],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    rows = json.loads((tmp_path / "tour.json").read_text())
    assert [row["program"] for row in rows] == PROGRAMS
    assert all(row["results_agree"] for row in rows)
    for row in rows:
        (line,) = [
            line for line in done.stdout.splitlines() if line.startswith(f"{row['program']}  ")
        ]
        speedups = row["speedup_of_each_round"]
        assert re.split(" {2,}", line) == [
            row["program"],
            str(row["tasks"]),
            f"{row['serial_s']:.2f} s",
            f"{row['parallel_s']:.2f} s",
            f"{row['speedup']:.2f} x",
            f"{min(speedups):.2f}-{max(speedups):.2f}",
            "agree",
            f"{row['others_share']:.0%}",
        ]

    page = (tmp_path / "timeline.html").read_text()
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    svg = svg_of(page)
    tasks = sum(row["tasks"] for row in rows)
    assert len(blocks(svg, "serial")) == tasks
    assert len(blocks(svg, "parallel")) == tasks
    with Image.open(tmp_path / "timeline.png") as image:
        assert image.width == 2 * picture.WIDTH
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20


def test_the_runner_also_starts_as_a_folder() -> None:
    done = subprocess.run(
        [sys.executable, TOUR, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
