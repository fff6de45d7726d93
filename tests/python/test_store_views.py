"""What looks at bytes in the store keeps them there, whatever library it is of; and very large objects.

A view is alive as long as any object that was made of it: then its place must not be used again.
"""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import conftest
import leftovers
import mobula as ray
import numpy as np
import pytest
from mobula._testing import object_exists, object_location

pytestmark = pytest.mark.mobula_only

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture
def session(no_session: None) -> Iterator[None]:
    conftest.start(num_cpus=2, object_store_memory=100 * MIB)
    yield
    gc.collect()


def numbers(seed: int = 1, size: int = 4 * MIB) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, size, dtype="u1")


def expect_kept_while_viewed(
    value: Any, derive: Callable[[Any], Any], read: Callable[[Any], bytes]
) -> None:
    """`derive` makes something small of the value that still looks at its bytes, `read` reads these."""
    expected = read(derive(value))
    ref = ray.put(value)
    location, text = object_location(ref), ref.hex()
    assert location is not None, "it is in the store"
    view = derive(ray.get(ref))
    del ref
    gc.collect()
    # What is put now would take the place if it were free. 80 MiB pass through the store of 100.
    for seed in range(20):
        other = ray.put(numbers(seed))
        other_location = object_location(other)
        assert other_location is not None
        assert not _overlap(location, other_location), "the place was used again under a view"
        del other
    assert read(view) == expected
    del view
    gc.collect()
    leftovers.wait_until(lambda: not object_exists(text), "it went with its last view")
    held = []
    for seed in range(16):
        held.append(ray.put(numbers(seed)))
    assert any(_overlap(location, place) for place in map(object_location, held) if place), (
        "the place is used again"
    )


def _overlap(one: tuple[int, int, int, int, int], other: tuple[int, int, int, int, int]) -> bool:
    start, size = one[3], one[4]
    return one[0] == other[0] and other[3] < start + size and start < other[3] + other[4]


def test_a_slice_of_an_array_keeps_the_bytes(session: None) -> None:
    expect_kept_while_viewed(
        numbers(), lambda array: array[100:200][::2].reshape(5, 10), lambda array: array.tobytes()
    )


def test_a_view_of_another_type_keeps_the_bytes(session: None) -> None:
    expect_kept_while_viewed(
        numbers(), lambda array: array.view("i8")[10:20].T, lambda array: array.tobytes()
    )


def test_a_memoryview_keeps_the_bytes(session: None) -> None:
    expect_kept_while_viewed(numbers(), lambda array: memoryview(array)[5:50], bytes)


def test_an_array_of_a_buffer_of_an_array_keeps_the_bytes(session: None) -> None:
    expect_kept_while_viewed(
        numbers(),
        lambda array: np.frombuffer(memoryview(array)[64:], dtype="u4", count=8),
        lambda array: array.tobytes(),
    )


def test_one_array_of_many_in_a_value_keeps_the_bytes(session: None) -> None:
    value = {"a": numbers(1, MIB), "b": [numbers(2, MIB), numbers(3, MIB)]}
    expect_kept_while_viewed(value, lambda got: got["b"][1][-7:], lambda array: array.tobytes())


def test_a_pickle_buffer_keeps_the_bytes(session: None) -> None:
    expect_kept_while_viewed(
        numbers(), lambda array: pickle.PickleBuffer(array[:64]), lambda buffer: bytes(buffer.raw())
    )


def test_an_arrow_buffer_keeps_the_bytes(session: None) -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"x": arrow.array(numbers().view("i8"))})
    expect_kept_while_viewed(
        table,
        lambda got: got.column("x").chunk(0).slice(3, 4),
        lambda array: array.to_numpy().tobytes(),
    )


def test_an_arrow_table_is_not_copied_by_get(session: None) -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"x": arrow.array(numbers().view("i8")), "y": ["text"] * (MIB // 2)})
    ref = ray.put(table)
    before = arrow.total_allocated_bytes()
    got = ray.get(ref)
    assert got.equals(table)
    assert arrow.total_allocated_bytes() - before < 64 * 1024
    assert ray.get(ref).column("x").chunk(0).buffers()[1].address == (
        got.column("x").chunk(0).buffers()[1].address
    )


def test_a_column_of_a_data_frame_keeps_the_bytes(session: None) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": numbers().view("i8"), "y": numbers(2).view("f8")})
    expect_kept_while_viewed(
        frame, lambda got: got["x"].iloc[5:9].to_numpy(), lambda array: array.tobytes()
    )


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_a_tensor_keeps_the_bytes(session: None) -> None:
    torch = pytest.importorskip("torch")
    # By way of an array: what is put as a tensor is copied by get.
    expect_kept_while_viewed(
        numbers(),
        lambda array: torch.from_numpy(array)[8:16],
        lambda tensor: tensor.numpy().tobytes(),
    )
    tensor = torch.arange(MIB)
    assert bool((ray.get(ray.put(tensor)) == tensor).all())


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_are_copied_and_keep_nothing(session: None, kind: type) -> None:
    value = kind(numbers().tobytes())
    ref = ray.put(value)
    text = ref.hex()
    got = ray.get(ref)
    assert type(got) is kind and got == value
    del ref
    leftovers.wait_until(lambda: not object_exists(text), "bytes of their own need no pin")
    assert got == value


def test_a_worker_that_looks_keeps_the_bytes_until_it_ends(session: None) -> None:
    @ray.remote
    class Looker:
        def look(self, refs: list[Any]) -> int:
            self.view = ray.get(refs[0])[10:20]
            return os.getpid()

        def read(self) -> bytes:
            return self.view.tobytes()

    looker = Looker.remote()
    value = numbers(5)
    ref = ray.put(value)
    location = object_location(ref)
    assert location is not None
    ray.get(looker.look.remote([ref]))
    del ref
    gc.collect()
    for seed in range(20):
        place = object_location(ray.put(numbers(seed)))
        assert place is not None and not _overlap(location, place)
    assert ray.get(looker.read.remote()) == value[10:20].tobytes()
    ray.kill(looker)
    held: list[Any] = []

    def used_again() -> bool:
        held[:] = [ray.put(numbers(seed)) for seed in range(16)]
        places = [object_location(ref) for ref in held]
        return any(place is not None and _overlap(location, place) for place in places)

    leftovers.wait_until(used_again, "the pins of the dead do not count")


# ---- larger than 4 GiB ------------------------------------------------------------------------


def _memory_for(needed: int) -> str:
    """Why there is too little memory; "" if there is enough."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.path.exists(limit):
            text = Path(limit).read_text().strip()
            available = min(available, int(text) if text != "max" else available)
    if available >= needed:
        return ""
    return f"{available / GIB:.1f} GiB of memory are free, and {needed / GIB:.0f} are needed"


def _mapped_store_bytes() -> int:
    """Bytes of store segments that this process has touched, or had populated."""
    bytes_mapped, is_segment = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            is_segment = "memfd:mobula-segment" in line
        elif name == "Rss:" and is_segment:
            bytes_mapped += int(rest[0]) * 1024
    return bytes_mapped


def test_memory_for_the_next_large_value_is_mapped_ahead(no_session: None) -> None:
    conftest.start(num_cpus=1, object_store_memory=400 * MIB)
    refs = [ray.put(numbers(0, 40 * MIB))]
    for seed in (1, 2):
        leftovers.wait_until(
            lambda: _mapped_store_bytes() >= (len(refs) + 1) * 40 * MIB,
            "there is mapped memory for one value more",
        )
        refs.append(ray.put(numbers(seed, 40 * MIB)))
    for seed, ref in enumerate(refs):
        assert np.array_equal(ray.get(ref), numbers(seed, 40 * MIB))


def test_an_object_of_5_gib_is_read_without_a_copy(no_session: None) -> None:
    # The object, the array that it is made of, and something for everybody else.
    missing = _memory_for(13 * GIB)
    if missing:
        pytest.skip(missing)
    size = 5 * GIB
    conftest.start(num_cpus=1, object_store_memory=size + 128 * MIB)
    value = np.zeros(size, dtype="u1")  # Pages of zeros take no memory until they are written.
    marks = [0, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 4097, size - 1]
    for mark in marks:
        value[mark] = mark % 251 + 1
    ref = ray.put(value)
    del value
    location = object_location(ref)
    assert location is not None and location[4] > 2**32
    got = ray.get(ref)
    assert got.nbytes == size and not got.flags.writeable
    assert [int(got[mark]) for mark in marks] == [mark % 251 + 1 for mark in marks]
    assert got.__array_interface__["data"][0] == ray.get(ref).__array_interface__["data"][0]

    @ray.remote
    def look(array: np.ndarray[Any, Any], at: list[int]) -> tuple[list[int], int]:
        return [int(array[mark]) for mark in at], int(np.count_nonzero(array[2**32 :]))

    found, nonzero = ray.get(look.remote(ref, marks), timeout=300)
    assert found == [mark % 251 + 1 for mark in marks]
    assert nonzero == sum(mark >= 2**32 for mark in marks), "nothing else is past 4 GiB"
    text = ref.hex()
    del got, ref
    gc.collect()
    leftovers.wait_until(lambda: not object_exists(text), "it is gone")


def test_thousands_of_stored_objects_are_looked_at_at_once(no_session: None) -> None:
    conftest.start(num_cpus=1, object_store_memory=900 * MIB)
    refs = [ray.put(np.full(110_000, seed % 251, dtype="u1")) for seed in range(6000)]
    views = ray.get(refs)
    del refs
    gc.collect()
    assert all(int(view[-1]) == seed % 251 for seed, view in enumerate(views))
