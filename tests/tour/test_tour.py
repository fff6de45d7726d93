"""The programs of examples/tour, run as a user runs them, with small inputs."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOUR = Path(__file__).resolve().parents[2] / "examples" / "tour"
PROGRAMS = ["fibonacci", "monte_carlo_pi", "images", "batch_inference"]
# The clocks of two processes and of the trace are read at slightly different moments.
CLOCK_SLACK_S = 0.05


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Runs a program once: its name, what it printed, its report and its trace."""

    @functools.cache
    def once(name: str) -> Any:
        folder = tmp_path_factory.mktemp(name)
        report, trace = folder / "report.json", folder / "trace.json"
        done = run(TOUR / f"{name}.py", "--quick", "--json", report, "--trace", trace, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return name, done, json.loads(report.read_text()), json.loads(trace.read_text())

    return once


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest, quick_run: Callable[[str], Any]) -> Any:
    return quick_run(request.param)


def test_the_results_of_both_runs_agree(program: Any) -> None:
    name, done, report, _ = program
    assert report["program"] == name
    assert report["results_agree"] is True
    assert "the results agree" in done.stdout


def test_times_and_speed_up_belong_together(program: Any) -> None:
    _, _, report, _ = program
    assert report["serial_s"] > 0
    assert report["parallel_s"] > 0
    assert report["speedup"] == pytest.approx(report["serial_s"] / report["parallel_s"])
    speedups = report["speedup_of_each_round"]
    assert len(speedups) >= 3
    assert report["speedup"] == sorted(speedups)[len(speedups) // 2]
    assert 0 <= report["others_share"] <= 1
    assert report["init_s"] > 0
    assert report["warm_up_s"] > 0


def test_the_serial_run_is_one_task_after_another(program: Any) -> None:
    _, _, report, _ = program
    spans = report["serial"]
    assert len(spans) == report["tasks"]
    assert spans[-1]["end_s"] <= report["serial_s"]
    assert all(span["start_s"] < span["end_s"] for span in spans)
    assert all(one["end_s"] <= following["start_s"] for one, following in itertools.pairwise(spans))


def test_the_timeline_shows_every_task_within_the_parallel_run(program: Any) -> None:
    _, _, report, trace = program
    spans = report["parallel"]
    assert len(spans) == report["tasks"]
    assert all(span["start_s"] >= -CLOCK_SLACK_S for span in spans)
    assert all(span["end_s"] <= report["parallel_s"] + CLOCK_SLACK_S for span in spans)
    assert all(span["start_s"] < span["end_s"] for span in spans)
    complete = [event for event in trace if event["ph"] == "X"]
    assert len(complete) >= report["tasks"]
    assert all({"pid", "tid", "ts", "dur", "name"} <= set(event) for event in complete)


def test_a_worker_runs_one_task_at_a_time(program: Any) -> None:
    _, _, report, _ = program
    by_worker: dict[str, list[Any]] = {}
    for span in report["parallel"]:
        by_worker.setdefault(span["worker"], []).append(span)
    assert len(by_worker) <= report["cpus"]
    for spans in by_worker.values():
        spans.sort(key=lambda span: span["start_s"])
        assert all(
            one["end_s"] <= following["start_s"] + 1e-6
            for one, following in itertools.pairwise(spans)
        )


def test_the_runs_take_turns(program: Any) -> None:
    _, done, report, _ = program
    shown = [line.split()[0] for line in done.stderr.replace("\r", "\n").split("\n") if "%" in line]
    turns = [part for part, _ in itertools.groupby(shown)]
    assert turns == ["serial", "parallel"] * len(report["speedup_of_each_round"])


def test_progress_is_shown_for_both_runs(program: Any) -> None:
    _, done, report, _ = program
    for part in ("serial", "parallel"):
        last = [line for line in done.stderr.replace("\r", "\n").split("\n") if part in line][-1]
        assert f"{report['tasks']}/{report['tasks']}" in last


def test_only_the_import_line_differs_from_a_ray_program(program: Any) -> None:
    name = program[0]
    lines = (TOUR / f"{name}.py").read_text().splitlines()
    assert [line for line in lines if "mobula" in line.lower()] == ["import mobula as ray"]


def test_monte_carlo_estimates_pi_and_its_prints_name_the_task(
    quick_run: Callable[[str], Any],
) -> None:
    _, done, report, _ = quick_run("monte_carlo_pi")
    # 400,000 samples or more: the standard deviation is 1.64 / sqrt(samples), below 0.0026.
    assert report["details"]["pi"] == pytest.approx(3.14159265, abs=0.013)
    assert "(sample_task_distributed pid=" in done.stdout + done.stderr


def test_an_image_task_has_as_many_threads_as_the_loop(quick_run: Callable[[str], Any]) -> None:
    _, _, report, _ = quick_run("images")
    details = report["details"]
    assert details["threads_in_the_loop"] == 1
    assert details["threads_in_a_task"] == 1


def test_the_model_beats_a_constant_and_every_month_is_there(
    quick_run: Callable[[str], Any],
) -> None:
    _, _, report, _ = quick_run("batch_inference")
    summaries = report["details"]["summaries"]
    assert [summary["month"] for summary in summaries] == list(range(1, 13))
    assert all(summary["flights"] == 500 for summary in summaries)
    found = sum(summary["late_and_predicted_late"] for summary in summaries)
    assert found > 0.5 * sum(summary["late_flights"] for summary in summaries)


def test_a_program_whose_results_differ_fails(tmp_path: Path) -> None:
    source = (TOUR / "fibonacci.py").read_text()
    right = "    return generate_fibonacci(sequence_size)\n"
    assert source.count(right) == 1
    (tmp_path / "wrong.py").write_text(
        source.replace(right, "    return generate_fibonacci(sequence_size + 1)\n")
    )
    for name in ("measure.py", "cpus.py"):
        (tmp_path / name).write_text((TOUR / name).read_text())
    done = run("wrong.py", "--quick", "--json", "report.json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "DIFFER" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["results_agree"] is False
