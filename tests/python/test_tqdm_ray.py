"""Progress bars of loops."""

from __future__ import annotations

import mobula as ray
import pytest
from mobula.experimental import tqdm_ray

pytestmark = pytest.mark.mobula_only


def test_a_loop_is_told_at_its_begin_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tqdm_ray.tqdm(range(20), desc="work")) == list(range(20))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("work: 0/20 it (0 %)")
    assert lines[-1].startswith("work: 20/20 it (100 %)")
    assert len(lines) == 2


def test_a_bar_is_moved_by_hand_and_shown_when_it_is_due(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with tqdm_ray.tqdm(desc="a", unit="file", flush_interval_s=0) as bar:
        bar.update(3)
        bar.set_description("b")
        bar.update(2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" [")[0] for line in lines] == ["a: 0 file", "a: 3 file", "b: 5 file"]
    bar.close()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("shared_session")
def test_a_task_can_have_one() -> None:
    @ray.remote
    def work() -> int:
        return sum(tqdm_ray.tqdm(range(5), desc="in a task"))

    assert ray.get(work.remote()) == 10
