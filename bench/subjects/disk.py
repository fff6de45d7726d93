"""Values that go to disk and come back, and what the disk can do at best.

The floor writes and reads files of the size that values are spilled in, as `dd` with `oflag=direct`
would: one request after the other, nothing in the page cache, nothing kept in books.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.settings import Settings
from bench.subjects import Subject

# On the disk that the project is on: /tmp may be memory.
PLACE = Path(__file__).resolve().parents[2] / "build" / "bench"
BLOCK = 4 << 20
FILE = 32 << 20
VALUE = 8 << 20
MIB = 1 << 20


def folder() -> Path:
    PLACE.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=PLACE, prefix="spill-"))


def files_of(directory: Path, size: int) -> list[Path]:
    return [directory / str(number) for number in range(size // FILE)]


def write_files(directory: Path, size: int, block: mmap.mmap) -> float:
    start = time.perf_counter()
    for path in files_of(directory, size):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT)
        for _ in range(FILE // BLOCK):
            assert os.write(fd, block) == BLOCK
        os.close(fd)
    return size / MIB / (time.perf_counter() - start)


def read_files(directory: Path, size: int, block: mmap.mmap) -> float:
    start = time.perf_counter()
    for path in files_of(directory, size):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        for _ in range(FILE // BLOCK):
            assert os.readv(fd, [block]) == BLOCK
        os.close(fd)
    return size / MIB / (time.perf_counter() - start)


def plain_files(settings: Settings) -> Iterator[dict[str, Any]]:
    directory = folder()
    size = settings.spilled_mib * MIB
    block = mmap.mmap(-1, BLOCK)  # Aligned to pages, as direct transfers have to be.
    block.write(np.random.default_rng(0).bytes(BLOCK))
    try:
        yield {}
        while True:
            written = write_files(directory, size, block)
            yield {"value": written, "read": read_files(directory, size, block)}
            for path in files_of(directory, size):
                path.unlink()
    finally:
        shutil.rmtree(directory)


def through_the_store(settings: Settings) -> Iterator[dict[str, Any]]:
    import mobula as ray

    directory = folder()
    store = settings.spill_store_mib * MIB
    count = (settings.spilled_mib * MIB + store) // VALUE
    value = np.random.default_rng(0).integers(0, 256, VALUE, dtype=np.uint8)
    try:
        with ray.init(
            num_cpus=1, object_store_memory=store, object_spilling_directory=str(directory)
        ):
            yield {}
            while True:
                start = time.perf_counter()
                refs = [ray.put(value) for _ in range(count)]
                put_s = time.perf_counter() - start
                spilled = count * VALUE - store  # At least: the rest need not be written.
                start = time.perf_counter()
                for ref in refs:
                    assert ray.get(ref)[-1] == value[-1]
                got_s = time.perf_counter() - start
                yield {
                    "value": spilled / MIB / put_s,
                    "read": count * VALUE / MIB / got_s,
                }
                del refs, ref
    finally:
        shutil.rmtree(directory, ignore_errors=True)


OURS: dict[str, Subject] = {"spill": through_the_store}
FLOOR: dict[str, Subject] = {"spill": plain_files}
