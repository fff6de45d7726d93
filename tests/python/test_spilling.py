"""Objects that do not fit into the store: they go to disk and come back, or an error says why not."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mobula as ray
import numpy as np
import pytest
from conftest import start
from mobula import exceptions

pytestmark = [pytest.mark.usefixtures("no_session"), pytest.mark.mobula_only]

MIB = 1 << 20
STORE = 80 * MIB


def start_small(directory: Path | None = None, **options: Any) -> Any:
    return start(object_store_memory=STORE, object_spilling_directory=directory, **options)


def numbers(seed: int, size: int = 4 * MIB) -> np.ndarray[Any, Any]:
    """`size` bytes, others for each seed."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype="u1")


def spilled_files(directory: Path) -> list[Path]:
    """Those that have bytes already."""

    def size_of(file: Path) -> int:
        try:
            return file.stat().st_size
        except FileNotFoundError:
            return 0

    return sorted(filter(size_of, directory.glob("mobula-spill-*/*.values")))


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@ray.remote
def make(seed: int, size: int = 4 * MIB) -> Any:
    return numbers(seed, size)


@ray.remote
def is_made_of(values: Any, seed: int) -> bool:
    return bool((values == numbers(seed, values.size)).all())


def test_ten_times_the_store_flows_through_put(tmp_path: Path) -> None:
    start_small(tmp_path)
    count = 10 * STORE // (4 * MIB)
    refs = [ray.put(numbers(seed)) for seed in range(count)]
    assert spilled_files(tmp_path)
    for seed in reversed(range(count)):
        assert (ray.get(refs[seed]) == numbers(seed)).all()


def test_ten_times_the_store_flows_through_tasks(tmp_path: Path) -> None:
    start_small(tmp_path)
    count = 10 * STORE // (4 * MIB)
    refs = [make.remote(seed) for seed in range(count)]
    checks = [is_made_of.remote(ref, seed) for seed, ref in enumerate(refs)]
    assert all(ray.get(checks, timeout=300))
    assert spilled_files(tmp_path)


def test_objects_of_all_sizes_come_back(tmp_path: Path) -> None:
    start_small(tmp_path)
    sizes = [1, 1000, 99_000, 103_000, 300_001, 2 * MIB, 20 * MIB + 7, 50 * MIB]
    made = [(ray.put(numbers(seed, size)), seed, size) for seed, size in enumerate(sizes * 3)]
    for ref, seed, size in made:
        assert (ray.get(ref) == numbers(seed, size)).all()


def test_a_list_of_spilled_objects_inside_of_an_object(tmp_path: Path) -> None:
    start_small(tmp_path)
    outer = ray.put([ray.put(numbers(seed)) for seed in range(40)])

    @ray.remote
    def look(refs: list[Any]) -> list[bool]:
        return [bool((ray.get(ref) == numbers(seed)).all()) for seed, ref in enumerate(refs)]

    inner = ray.get(outer)
    assert ray.get(look.remote(inner), timeout=120) == [True] * 40
    assert (ray.get(inner[3]) == numbers(3)).all()


def test_objects_outlive_the_worker_that_made_them_on_disk(tmp_path: Path) -> None:
    start_small(tmp_path)

    @ray.remote(max_calls=1)
    def make_many(first: int) -> Any:
        return [ray.put(numbers(first + i)) for i in range(10)]

    lists = [make_many.remote(first) for first in range(0, 60, 10)]
    for first, refs in zip(range(0, 60, 10), ray.get(lists, timeout=120), strict=True):
        for i, ref in enumerate(refs):
            assert (ray.get(ref) == numbers(first + i)).all()


def test_several_processes_put_at_once(tmp_path: Path) -> None:
    start_small(tmp_path)

    @ray.remote
    def put_many(first: int) -> Any:
        return [ray.put(numbers(first + i, MIB)) for i in range(40)]

    firsts = range(0, 400, 100)
    lists = ray.get([put_many.remote(first) for first in firsts], timeout=300)
    for first, refs in zip(firsts, lists, strict=True):
        for i, ref in enumerate(refs):
            assert (ray.get(ref) == numbers(first + i, MIB)).all()


def test_several_threads_put_at_once(tmp_path: Path) -> None:
    start_small(tmp_path)
    made: dict[int, Any] = {}

    def put_many(first: int) -> None:
        for seed in range(first, first + 20):
            made[seed] = ray.put(numbers(seed))

    threads = [threading.Thread(target=put_many, args=(first,)) for first in range(0, 80, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 80
    for seed, ref in made.items():
        assert (ray.get(ref) == numbers(seed)).all()


def test_an_object_larger_than_what_is_free_makes_others_go(tmp_path: Path) -> None:
    start_small(tmp_path)
    small = [ray.put(numbers(seed)) for seed in range(16)]
    large = ray.put(numbers(99, 60 * MIB))
    assert (ray.get(large) == numbers(99, 60 * MIB)).all()
    for seed, ref in enumerate(small):
        assert (ray.get(ref) == numbers(seed)).all()


def test_an_object_larger_than_the_store_and_the_disk_is_refused_at_once(small_disk: Path) -> None:
    start_small(small_disk)
    with pytest.raises(exceptions.OutOfDiskError, match="object_store_memory"):
        ray.put(np.zeros(2 * STORE, dtype="u1"))


def test_what_somebody_looks_at_stays_and_the_error_says_who(small_disk: Path) -> None:
    start_small(small_disk)
    views = []
    with pytest.raises(exceptions.OutOfDiskError) as caught:
        for seed in range(40):
            views.append(ray.get(ray.put(numbers(seed))))
    assert 15 <= len(views) < 32  # The store and the disk.
    assert f"pid {os.getpid()} looks at" in str(caught.value)
    assert all((view == numbers(seed)).all() for seed, view in enumerate(views))
    del views[:10], caught
    gc.collect()
    assert (ray.get(ray.put(numbers(77))) == numbers(77)).all()


def test_files_go_with_the_objects(tmp_path: Path) -> None:
    start_small(tmp_path)
    refs = [ray.put(numbers(seed)) for seed in range(60)]
    assert spilled_files(tmp_path)
    refs.clear()
    gc.collect()
    wait_until(lambda: not spilled_files(tmp_path))
    assert (ray.get(ray.put(numbers(1))) == numbers(1)).all()


def test_nothing_is_left_in_the_directory_after_shutdown(tmp_path: Path) -> None:
    start_small(tmp_path)
    refs = [ray.put(numbers(seed)) for seed in range(40)]
    assert spilled_files(tmp_path)
    ray.shutdown()
    del refs
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import os, signal, sys
import mobula as ray
import numpy as np

ray.init(num_cpus=1, object_store_memory=80 << 20, object_spilling_directory=sys.argv[1])
refs = [ray.put(np.full(4 << 20, i, dtype="u1")) for i in range(40)]
print("ready", flush=True)
daemon = next(int(p) for p in os.listdir("/proc") if p.isdigit() and is_daemon(p))
os.kill(daemon, signal.SIGKILL)
os.waitpid(daemon, 0)  # The kernel has taken it apart: its lock is free.
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_files_of_a_dead_session_are_removed_by_the_next(tmp_path: Path) -> None:
    program = PROGRAM.replace(
        "is_daemon(p)",
        "open(f'/proc/{p}/stat').read().split(') ')[1].split()[1] == str(os.getpid())",
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, timeout=120
    )
    assert b"ready" in ended.stdout
    assert spilled_files(tmp_path), "the session was killed: its files are still there"
    start_small(tmp_path)
    assert spilled_files(tmp_path) == []
    assert len(list(tmp_path.glob("mobula-spill-*"))) == 1  # Our own.


def flip_a_bit(file: Path, offset: int) -> None:
    with open(file, "r+b") as opened:
        opened.seek(offset)
        byte = opened.read(1)[0]
        opened.seek(offset)
        opened.write(bytes([byte ^ 4]))


def test_a_flipped_bit_is_an_error_and_never_wrong_bytes(tmp_path: Path) -> None:
    start_small(tmp_path)
    refs = [ray.put(numbers(seed)) for seed in range(60)]
    for file in spilled_files(tmp_path)[:3]:
        flip_a_bit(file, 1000)  # In the first value of each.
    lost = 0
    for seed, ref in enumerate(refs):
        try:
            assert (ray.get(ref) == numbers(seed)).all()
        except exceptions.ObjectLostError as error:
            lost += 1
            assert "checksum" in str(error)
            assert str(tmp_path) in str(error)
    assert 1 <= lost <= 3
    assert (ray.get(ray.put(numbers(77))) == numbers(77)).all()


def test_a_result_whose_file_has_a_flipped_bit_is_made_again(tmp_path: Path) -> None:
    start_small(tmp_path / "spill")
    runs = tmp_path / "runs"
    runs.mkdir()

    @ray.remote
    def result(seed: int) -> Any:
        with open(runs / str(seed), "a") as file:
            file.write("x")
        return numbers(seed)

    refs = [result.remote(seed) for seed in range(60)]
    ray.wait(refs, num_returns=len(refs))
    wait_until(lambda: spilled_files(tmp_path / "spill"))
    for file in spilled_files(tmp_path / "spill"):
        flip_a_bit(file, 1000)
    for seed, ref in enumerate(refs):
        assert (ray.get(ref, timeout=60) == numbers(seed)).all()
    assert any(file.read_text() != "x" for file in runs.iterdir()), "at least one ran again"


def test_a_truncated_or_missing_file_is_an_error(tmp_path: Path) -> None:
    start_small(tmp_path)
    refs = [ray.put(numbers(seed)) for seed in range(60)]
    files = spilled_files(tmp_path)
    os.truncate(files[0], 10)
    files[1].unlink()
    lost = 0
    for seed, ref in enumerate(refs):
        with contextlib.suppress(exceptions.ObjectLostError):
            assert (ray.get(ref) == numbers(seed)).all()
            continue
        lost += 1
    assert 2 <= lost < 40


# ---- directories and disks --------------------------------------------------------------------


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=48m", "none", str(place))
    yield place
    ray.shutdown()
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_an_error_that_says_so_and_passes(small_disk: Path) -> None:
    start_small(small_disk)
    refs = []
    with pytest.raises(exceptions.OutOfDiskError, match=str(small_disk)):
        for seed in range(60):
            refs.append(ray.put(numbers(seed)))
    assert 20 <= len(refs) < 35  # The store and the disk.
    # What is in memory can be had, what is on disk needs room that nobody can make.
    for seed in (len(refs) - 1, 0):
        with contextlib.suppress(exceptions.ObjectStoreFullError, exceptions.OutOfDiskError):
            assert (ray.get(refs[seed]) == numbers(seed)).all()
    del refs[:15]
    gc.collect()
    again = ray.put(numbers(99))
    assert (ray.get(again) == numbers(99)).all()


def test_a_disk_that_turns_read_only_is_named_in_the_error(small_disk: Path) -> None:
    start_small(small_disk)
    mount("-o", "remount,ro", str(small_disk))
    refs = []
    with pytest.raises(exceptions.ObjectStoreFullError, match="Read-only file system"):
        for seed in range(60):
            refs.append(ray.put(numbers(seed)))
    for seed, ref in enumerate(refs):
        assert (ray.get(ref) == numbers(seed)).all()
    mount("-o", "remount,rw", str(small_disk))
    refs.append(ray.put(numbers(99)))
    assert (ray.get(refs[-1]) == numbers(99)).all()


@pytest.mark.parametrize("name", ["object_spilling_directory", "_object_spilling_directory"])
def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="object_spilling_directory"):
        start(**{name: str(file / "below")})
    with pytest.raises(TypeError, match="object_spilling_directory"):
        start(**{name: 3})
    assert not ray.is_initialized()


def test_a_read_only_directory_is_refused(small_disk: Path) -> None:
    mount("-o", "remount,ro", str(small_disk))
    with pytest.raises(ValueError, match="cannot be written to"):
        start_small(small_disk)
    with pytest.raises(ValueError, match="cannot be made"):
        start_small(small_disk / "below")


def test_a_directory_is_made_if_it_is_not_there(tmp_path: Path) -> None:
    start_small(tmp_path / "not" / "there")
    refs = [ray.put(numbers(seed)) for seed in range(40)]
    assert spilled_files(tmp_path / "not" / "there")
    assert (ray.get(refs[0]) == numbers(0)).all()


def test_by_default_objects_are_spilled_into_the_session_directory() -> None:
    context = start_small()
    refs = [ray.put(numbers(seed)) for seed in range(40)]
    assert spilled_files(Path(context["session_dir"]) / "spill")
    assert (ray.get(refs[0]) == numbers(0)).all()


def test_the_directory_as_programs_for_ray_say_it(tmp_path: Path) -> None:
    import json

    config = {"type": "filesystem", "params": {"directory_path": str(tmp_path)}}
    start(
        object_store_memory=STORE,
        _system_config={"object_spilling_config": json.dumps(config)},
    )
    refs = [ray.put(numbers(seed)) for seed in range(40)]
    assert spilled_files(tmp_path)
    assert (ray.get(refs[0]) == numbers(0)).all()
