"""Resources: tasks wait until they fit, and see what they were given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import leftovers
import meeting
import mobula as ray
import pytest

# The shared session has 2 CPUs, 4 GPUs, 1 slot and 2 tokens.
pytestmark = pytest.mark.usefixtures("shared_session")


def run_in_turn(folder: str, me: int, key: str) -> bool:
    """True if nobody else was between its own enter and leave."""
    path = Path(folder, key)
    try:
        path.mkdir()
    except FileExistsError:
        return False
    for _ in range(3):
        os.sched_yield()
    path.rmdir()
    return True


def all_free() -> bool:
    return bool(ray.available_resources() == ray.cluster_resources())


@pytest.mark.parametrize(
    "options",
    [
        {"resources": {"slot": 1}},
        {"resources": {"slot": 0.6}},
        {"resources": {"token": 1.5}},
        {"num_cpus": 2},
        {"num_cpus": 1.5},
        {"num_gpus": 4},
        {"num_gpus": 3, "num_cpus": 0},
    ],
    ids=str,
)
def test_tasks_that_do_not_fit_together_take_turns(tmp_path: Path, options: dict[str, Any]) -> None:
    @ray.remote(**options)
    def alone(me: int) -> bool:
        return run_in_turn(str(tmp_path), me, "one")

    assert ray.get([alone.remote(i) for i in range(50)]) == [True] * 50


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (2, {"resources": {"slot": 0.5}, "num_cpus": 0}),
        (2, {"resources": {"token": 1}}),
        (4, {"num_cpus": 0.5}),
        (4, {"num_gpus": 1, "num_cpus": 0}),
        (8, {"num_gpus": 0.5, "num_cpus": 0}),
        (6, {"num_cpus": 0}),
    ],
    ids=str,
)
def test_tasks_that_fit_together_run_together(
    tmp_path: Path, count: int, options: dict[str, Any]
) -> None:
    names = [f"t{i}" for i in range(count)]
    task = ray.remote(**options)(meeting.meet)
    assert ray.get([task.remote(tmp_path, name, names) for name in names]) == [True] * count


def test_ten_thousandths_add_up(tmp_path: Path) -> None:
    # 0.1 + 0.2 is more than 0.3 in floating point, and not here.
    first = ray.remote(num_cpus=0, resources={"slot": 0.1})(meeting.meet)
    second = ray.remote(num_cpus=0, resources={"slot": 0.2})(meeting.meet)
    third = ray.remote(num_cpus=0, resources={"slot": 0.7})(meeting.meet)
    names = ["a", "b", "c"]
    refs = [
        f.remote(tmp_path, n, names) for f, n in zip((first, second, third), names, strict=True)
    ]
    assert ray.get(refs) == [True] * 3


def test_a_task_that_never_fits_waits_and_disturbs_nobody() -> None:
    @ray.remote
    def one() -> int:
        return 1

    hopeless = [
        one.options(num_cpus=1000).remote(),
        one.options(resources={"nowhere": 1}).remote(),
        one.options(num_gpus=5).remote(),
    ]
    assert ray.get([one.remote() for _ in range(200)]) == [1] * 200
    assert ray.wait(hopeless, num_returns=3, timeout=0.2) == ([], hopeless)


def test_available_resources_follow_what_runs(tmp_path: Path) -> None:
    leftovers.wait_until(all_free, "all resources are free")

    @ray.remote(num_cpus=1, num_gpus=0.5, resources={"token": 0.5})
    def hold() -> bool:
        Path(tmp_path, "here").touch()
        return meeting.wait_for(tmp_path / "go")

    ref = hold.remote()
    assert meeting.wait_for(tmp_path / "here")
    free = ray.available_resources()
    assert free["CPU"] == 1
    assert free["GPU"] == 3.5
    assert free["token"] == 1.5
    assert free["slot"] == 1
    Path(tmp_path, "go").touch()
    assert ray.get(ref)
    leftovers.wait_until(all_free, "all resources are free again")


def test_a_worker_that_waits_in_get_gives_its_cpus_to_others() -> None:
    @ray.remote(num_cpus=2)
    def inner() -> int:
        return 1

    @ray.remote(num_cpus=2)
    def outer() -> int:
        return 1 + int(ray.get(inner.remote()))

    assert ray.get([outer.remote() for _ in range(3)]) == [2, 2, 2]


# ---- GPUs -----------------------------------------------------------------------------------


@ray.remote(num_cpus=0)
def gpus() -> tuple[list[Any], str | None]:
    return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_task_sees_its_gpus(count: int) -> None:
    ids, visible = ray.get(gpus.options(num_gpus=count).remote())
    assert len(set(ids)) == count
    assert set(ids) <= {0, 1, 2, 3}
    assert visible == ",".join(str(i) for i in ids)


def test_tasks_at_the_same_time_have_different_gpus(tmp_path: Path) -> None:
    names = [f"t{i}" for i in range(4)]

    @ray.remote(num_gpus=1, num_cpus=0)
    def mine(name: str) -> list[Any]:
        assert meeting.meet(tmp_path, name, names)
        return list(ray.get_gpu_ids())

    assert sorted(ray.get([mine.remote(name) for name in names])) == [[0], [1], [2], [3]]


def test_fractions_share_a_gpu(tmp_path: Path) -> None:
    names = [f"t{i}" for i in range(8)]

    @ray.remote(num_gpus=0.5, num_cpus=0)
    def mine(name: str) -> list[Any]:
        assert meeting.meet(tmp_path, name, names)
        return list(ray.get_gpu_ids())

    ids = sorted(ray.get([mine.remote(name) for name in names]))
    assert ids == [[0], [0], [1], [1], [2], [2], [3], [3]]


def test_without_gpus_there_are_no_ids() -> None:
    assert ray.get_gpu_ids() == []
    # Also in a worker that had some.
    ray.get([gpus.options(num_gpus=1).remote() for _ in range(8)])
    for ids, visible in ray.get([gpus.remote() for _ in range(8)]):
        assert ids == []
        assert visible == os.environ.get("CUDA_VISIBLE_DEVICES")


def test_gpus_that_the_driver_sees_keep_their_names(run_script: Callable[..., Any]) -> None:
    text = """
import os
import mobula as ray
ray.init(num_cpus=1, num_gpus=2)

@ray.remote(num_gpus=2)
def both():
    return sorted(ray.get_gpu_ids()), os.environ["CUDA_VISIBLE_DEVICES"]

ids, visible = ray.get(both.remote())
print(ids, sorted(visible.split(",")))
"""
    done = run_script(text, env={**os.environ, "CUDA_VISIBLE_DEVICES": "5,7"})
    assert done.stdout == "['5', '7'] ['5', '7']\n"


# ---- threads --------------------------------------------------------------------------------


THREADS = "OMP_NUM_THREADS"


@ray.remote
def threads() -> str | None:
    return os.environ.get(THREADS)


@pytest.mark.skipif(THREADS in os.environ, reason=f"{THREADS} is set here")
@pytest.mark.parametrize(
    ("cpus", "expected"), [(0, "1"), (0.5, "1"), (1, "1"), (1.5, "1"), (2, "2")]
)
def test_thread_pools_are_as_large_as_num_cpus(cpus: float, expected: str) -> None:
    assert ray.get(threads.options(num_cpus=cpus).remote()) == expected


def test_what_the_user_set_stays(run_script: Callable[..., Any]) -> None:
    text = """
import os
import mobula as ray
ray.init(num_cpus=2)

@ray.remote(num_cpus=2)
def look():
    return os.environ["OMP_NUM_THREADS"], os.environ.get("MKL_NUM_THREADS")

print(*ray.get(look.remote()))
"""
    environment = {key: value for key, value in os.environ.items() if "_NUM_THREADS" not in key}
    done = run_script(text, env={**environment, THREADS: "7"})
    assert done.stdout == "7 None\n"
