"""What the table says of kept results, and what the runner complains about."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from libraries import table  # noqa: E402
from libraries.case_files import Case, Run  # noqa: E402
from libraries.runs import FAILED, PASSED, SKIPPED, Result  # noqa: E402


def case_of(library: str = "thing", version: str = "1.2", **not_ours: str) -> Case:
    return Case(
        library=library,
        version=version,
        kind="test",
        environment="small",
        what="does things",
        runs=(Run("program", program="thing.py"),),
        seconds_max=10.0,
        not_ours=not_ours,
        variables={},
        quick=False,
        unfinished="",
    )


def result_of(seconds: float = 1.0, *troubles: str, **statuses: str) -> Result:
    return Result({name: (status, "") for name, status in statuses.items()}, seconds, [*troubles])


def page(*rows: str) -> str:
    return "\n".join(["before", table.BEGIN, "", *table.HEAD, *rows, "", table.END, "after"])


def test_a_test_that_is_missing_in_one_way_has_not_passed_there() -> None:
    ways = {
        "ray": result_of(a=PASSED, b=PASSED, c=SKIPPED, d=FAILED),
        "mobula": result_of(a=PASSED, c=SKIPPED, d=FAILED),
    }
    case = case_of(d="fails under Ray too")
    assert table.counted(case, ways) == ["a", "b"]
    assert table.complaints(case, ways) == ["mobula: b: it did not run"]


def test_what_fails_under_ray_alone_has_to_be_told_in_the_case() -> None:
    ways = {"ray": result_of(a=FAILED), "mobula": result_of(a=FAILED)}
    assert len(table.complaints(case_of(), ways)) == 2
    assert table.complaints(case_of(a="why"), ways) == ["nothing was counted"]


def test_troubles_are_complaints_and_marked() -> None:
    ways = {"mobula": result_of(1.0, "died", a=PASSED)}
    assert table.complaints(case_of(), ways) == ["mobula: died"]
    assert "| 1/1 (!) |" in table.row(case_of(), ways)


def test_remarks_tell_what_is_slower_and_what_need_not_be_excused() -> None:
    ways = {"ray": result_of(10.0, a=PASSED, b=FAILED), "shim": result_of(12.0, a=PASSED, b=FAILED)}
    assert table.remarks(case_of(a="why", b="why", c="why"), ways) == [
        "shim: slower than under Ray: 12.0 s, 10.0 s",
        "not_ours: a passes everywhere",
        "not_ours: c did not run",
    ]


def test_results_are_kept_by_way_and_dropped_with_the_version(tmp_path: Path) -> None:
    table.keep(case_of(), "ray", result_of(2.0, a=PASSED), tmp_path)
    table.keep(case_of(), "mobula", result_of(1.0, "died", a=FAILED), tmp_path)
    kept = table.load(case_of(), tmp_path)
    assert list(kept.ways) == ["ray", "mobula"]
    assert kept.ways["mobula"] == result_of(1.0, "died", a=FAILED)
    assert table.load(case_of(version="1.3"), tmp_path).ways == {}


def test_the_page_keeps_rows_of_libraries_that_were_not_run(tmp_path: Path) -> None:
    one, other, third = case_of(), case_of("other", x="needs a GPU"), case_of("third")
    for way in ("ray", "mobula", "shim"):
        table.keep(one, way, result_of(1.25, a=PASSED), tmp_path)
    old = "| other 1.2 | test | old | 1/1 | 1/1 | 1/1 | 1.0 | 1.0 | 1.0 |"
    gone = old.replace("other", "gone")
    made = table.render([one, other, third], page(old, gone), tmp_path)
    row = "| thing 1.2 | test | does things (written anew) | 1/1 | 1/1 | 1/1 | 1.2 | 1.2 | 1.2 |"
    assert row in made and old in made
    assert "gone" not in made and "third" not in made
    assert "- other: `x`: needs a GPU" in made
    assert made.startswith("before") and made.endswith("after")
    assert table.render([one, other, third], made, tmp_path) == made
