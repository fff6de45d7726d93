"""Values in the object store: put, get, wait, refs, and arrays that are not copied."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import os
import pickle
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import meeting
import mobula as ray
import numpy as np
import pytest
from mobula import exceptions

pytestmark = pytest.mark.usefixtures("shared_session")

MIB = 1 << 20


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
def wait_for(file: str) -> bool:
    return meeting.wait_for(file)


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float


Pair = collections.namedtuple("Pair", "a b")

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**63) - 1,
    2**1000,
    0.0,
    -0.0,
    1e308,
    float("inf"),
    "",
    "text",
    "äöü \N{SNOWMAN} \N{GRINNING FACE} \0",
    "\udc80 lone surrogate",
    b"",
    b"bytes\0",
    bytearray(b"mutable"),
    (),
    (1, "two", None),
    [],
    [1, [2, [3]]],
    {},
    {"a": 1, 2: "b", (3, 4): None},
    {1, 2, 3},
    frozenset([1, 2]),
    3 + 4j,
    range(3, 9, 2),
    slice(1, 2),
    Ellipsis,
    NotImplemented,
    int,
    len,
    decimal.Decimal("1.25"),
    datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
    re.compile("a+b"),
    collections.OrderedDict(b=1, a=2),
    collections.Counter("abca"),
    array.array("d", [1.5, 2.5]),
    Colour.RED,
    Point(1, 2.5),
    Pair(1, 2),
    "x" * 99_000,
    "x" * 200_000,
    b"x" * 3_000_000,
    list(range(50_000)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_values_come_back_as_they_were(value: Any) -> None:
    for result in (ray.get(ray.put(value)), ray.get(echo.remote(value))):
        assert type(result) is type(value)
        assert result == value


def test_values_that_are_not_equal_to_themselves() -> None:
    result = ray.get(echo.remote(float("nan")))
    assert result != result
    assert str(ray.get(echo.remote(-0.0))) == "-0.0"


def test_subclasses_keep_their_class() -> None:
    class Text(str):
        pass

    class Number(int):
        pass

    for value in (Text("a"), Number(3)):
        assert type(ray.get(echo.remote(value))).__name__ == type(value).__name__
        assert ray.get(echo.remote(value)) == value


def test_get_of_one_and_of_a_list() -> None:
    refs = [ray.put(i) for i in range(5)]
    assert ray.get(refs[3]) == 3
    assert ray.get(refs) == [0, 1, 2, 3, 4]
    assert ray.get([refs[1], refs[1]]) == [1, 1]
    assert ray.get([]) == []


def test_get_again_and_again() -> None:
    ref = ray.put({"a": [1]})
    first = ray.get(ref)
    first["a"].append(2)
    assert ray.get(ref) == {"a": [1]}


@pytest.mark.parametrize("wrong", [3, "text", None, {1: 2}, (1,)])
def test_get_of_something_else_is_a_value_error(wrong: Any) -> None:
    with pytest.raises(ValueError, match="ObjectRef"):
        ray.get(wrong)


def test_get_of_a_tuple_a_set_or_a_generator_of_refs() -> None:
    ref = ray.put(1)
    for wrong in ((ref, ref), {ref}, (r for r in [ref])):
        with pytest.raises(ValueError, match="ObjectRef"):
            ray.get(wrong)


def test_get_of_a_list_with_something_else() -> None:
    with pytest.raises((TypeError, ValueError)):
        ray.get([ray.put(1), 3])


def test_get_times_out(tmp_path: Path) -> None:
    file = str(tmp_path / "go")
    ref = wait_for.remote(file)
    for timeout in (0, 0.01, 0.05):
        with pytest.raises(exceptions.GetTimeoutError) as caught:
            ray.get(ref, timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
    Path(file).touch()
    assert ray.get(ref, timeout=60) is True
    assert ray.get(ref, timeout=0) is True


def test_the_timeout_is_a_keyword() -> None:
    with pytest.raises(TypeError):
        ray.get(ray.put(1), 1)  # type: ignore[misc]


def test_where_a_ref_was_made_is_not_recorded_by_default() -> None:
    assert ray.put(1).call_site() == ""


def test_an_id_has_as_many_bytes_as_its_class_says() -> None:
    assert len(ray.put(1).binary()) == ray.ObjectRef.size() == 28


def test_put_of_a_ref_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(TypeError, match="list"):
        ray.put(ray.put(1))
    assert ray.get(ray.get(ray.put([ray.put(1)]))) == [1]


# ---- refs -----------------------------------------------------------------------------------


def test_refs_are_compared_and_hashed_by_what_they_name() -> None:
    one, other = ray.put(1), ray.put(1)
    assert one == one
    assert one != other
    assert one != 1
    again = ray.get(ray.put([one]))[0]
    assert again == one
    assert hash(again) == hash(one)
    assert len({one, again, other}) == 2


def test_refs_have_a_text() -> None:
    ref = ray.put(1)
    assert re.fullmatch("[0-9a-f]{56}", ref.hex())
    assert ref.binary().hex() == ref.hex()
    assert repr(ref) == f"ObjectRef({ref.hex()})"
    assert str(ref) == repr(ref)
    assert not ref.is_nil()


def test_returns_of_one_task_differ() -> None:
    first, second = echo.options(num_returns=2).remote((1, 2))
    assert first != second
    assert first.task_id() == second.task_id()


def test_refs_deep_inside_of_values() -> None:
    inner = ray.put("inner")
    for _ in range(10):
        inner = ray.put({"next": [inner]})
    value: Any = ray.get(inner)
    for _ in range(9):
        value = ray.get(value["next"][0])
    assert ray.get(value["next"][0]) == "inner"


def test_thousands_of_refs_in_one_value() -> None:
    refs = [ray.put(i) for i in range(5000)]
    back = ray.get(echo.remote(refs))
    assert back == refs
    del refs
    assert ray.get(back) == list(range(5000))


def test_a_pending_ref_inside_of_a_value(tmp_path: Path) -> None:
    file = str(tmp_path / "go")
    pending = wait_for.remote(file)

    @ray.remote
    def look(refs: list[Any]) -> int:
        ready, _ = ray.wait(refs, timeout=0)
        return len(ready)

    assert ray.get(look.remote([pending])) == 0
    Path(file).touch()
    assert ray.get(pending)


# ---- wait -----------------------------------------------------------------------------------


def test_wait_splits_by_readiness(tmp_path: Path) -> None:
    file = str(tmp_path / "go")
    slow = wait_for.remote(file)
    fast = [ray.put(1), ray.put(2)]
    ready, not_ready = ray.wait([slow, *fast], num_returns=2)
    assert ready == fast
    assert not_ready == [slow]
    Path(file).touch()
    assert ray.wait([slow], timeout=60) == ([slow], [])


@pytest.mark.mobula_only
def test_wait_returns_no_more_than_asked_for() -> None:
    refs = [ray.put(i) for i in range(4)]
    ready, not_ready = ray.wait(refs, num_returns=2)
    assert ready == refs[:2]
    assert not_ready == refs[2:]
    assert ray.wait(refs) == (refs[:1], refs[1:])


def test_wait_times_out_with_what_there_is(tmp_path: Path) -> None:
    file = str(tmp_path / "go")
    slow = wait_for.remote(file)
    done = ray.put(1)
    assert ray.wait([slow, done], num_returns=2, timeout=0.05) == ([done], [slow])
    assert ray.wait([slow], timeout=0) == ([], [slow])
    Path(file).touch()
    assert ray.get(slow)


def test_wait_counts_a_failed_task_as_ready() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError

    ref = fail.remote()
    assert ray.wait([ref], timeout=60) == ([ref], [])


def test_wait_for_nothing() -> None:
    assert ray.wait([]) == ([], [])


@pytest.mark.parametrize(
    ("make", "options", "error"),
    [
        (lambda ref: [ref, ref], {}, ValueError),
        (lambda ref: [ref], {"num_returns": 2}, ValueError),
        (lambda ref: [ref], {"num_returns": 0}, ValueError),
        (lambda ref: [ref], {"timeout": -1}, ValueError),
        (lambda ref: ref, {}, TypeError),
        (lambda ref: 3, {}, TypeError),
        (lambda ref: [3], {}, TypeError),
        (lambda ref: (ref,), {}, TypeError),
        (lambda ref: {ref}, {}, TypeError),
        (lambda ref: [ref], {"timeout": "x"}, TypeError),
    ],
)
def test_what_wait_refuses(make: Any, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ray.wait(make(ray.put(1)), **options)


def test_a_loop_over_wait_takes_results_as_they_come() -> None:
    pending = [echo.remote(i) for i in range(200)]
    results = []
    while pending:
        ready, pending = ray.wait(pending, num_returns=min(7, len(pending)))
        results += ray.get(ready)
    assert sorted(results) == list(range(200))


# ---- what cannot be stored ------------------------------------------------------------------


def test_what_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        ray.put(lock)
    with pytest.raises(TypeError, match="lock"):
        echo.remote(lock)
    with pytest.raises(TypeError, match="lock"):
        ray.put({"deep": [lock]})
    assert ray.get(echo.remote(1)) == 1


@pytest.mark.mobula_only
def test_the_message_says_where_the_culprit_is() -> None:
    class Holder:
        def __init__(self) -> None:
            self.fine = 1
            self.guard = threading.Lock()

    with pytest.raises(TypeError, match=r"guard"):
        ray.put([Holder()])
    with pytest.raises(TypeError, match=r"echo"):
        echo.remote(Holder())


# ---- arrays ---------------------------------------------------------------------------------


def store_mappings() -> list[tuple[int, int]]:
    """Address ranges of this process that lie in shared memory of the store."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "memfd:" in line or "/dev/shm" in line:
            low, high = line.split()[0].split("-")
            ranges.append((int(low, 16), int(high, 16)))
    return ranges


def lies_in_the_store(values: np.ndarray) -> bool:
    address = values.__array_interface__["data"][0]
    return any(low <= address and address + values.nbytes <= high for low, high in store_mappings())


@pytest.mark.parametrize(
    "dtype", ["u1", "i2", "<i4", "i8", "f2", "f4", "f8", "c16", "?", "S5", "U3", "M8[ns]"]
)
def test_arrays_come_back_as_they_were(dtype: str) -> None:
    for shape in ((0,), (3,), (2, 3), (1000, 70)):
        values = (np.arange(int(np.prod(shape))) % 100).astype("i8").astype(dtype).reshape(shape)
        for result in (ray.get(ray.put(values)), ray.get(echo.remote(values))):
            assert result.dtype == values.dtype
            assert result.shape == shape
            assert (result == values).all()


def test_unusual_arrays() -> None:
    base = np.arange(60_000.0).reshape(200, 300)
    structured = np.zeros(20_000, dtype=[("a", "i4"), ("b", "f8")])
    for values in (
        base.T,
        np.asfortranarray(base),
        base[::2, ::3],
        base[::-1],
        np.array(5.0),
        np.array([{"a": 1}, None], dtype=object),
        structured,
        np.ma.masked_array(base, base > 5),
        base.astype(">f8"),
    ):
        result = ray.get(echo.remote(values))
        assert type(result) is type(values)
        assert result.dtype == values.dtype
        assert (result == values).all()


@pytest.mark.parametrize("size", [2 * 1024 * 1024 + 5, 40 * 1024 * 1024 + 63])
def test_large_bytes_come_back_as_they_were(size: int) -> None:
    value = np.random.default_rng(size).bytes(size)
    ref = ray.put(value)
    for _ in range(2):
        got = ray.get(ref)
        assert type(got) is bytes
        assert got == value


def test_large_bytes_and_texts_inside_of_values_come_back_as_they_were() -> None:
    random = np.random.default_rng(7)
    large = [random.bytes(size) for size in (256 * 1024 - 1, 256 * 1024, 1_000_003)]
    text, accents = "abc" * 200_000, "\u00e9\u20ac" * 200_000
    changing = bytearray(large[2])
    array = random.integers(0, 256, 500_000, dtype="u1")
    inner = ray.put("inner")
    value = {
        "first": large[2],
        "rows": [(index, f"row {index}") for index in range(50_000)],
        "all": large,
        "again": large[2],
        "texts": (text, accents),
        "changing": changing,
        "array": array,
        "ref": inner,
        "last": large[1],
    }
    ref = ray.put(value)
    result = echo.remote(value)
    changing[:] = b""
    for got in (ray.get(ref), ray.get(result)):
        assert ray.get(got["ref"]) == "inner"
        assert bytes(got["changing"]) == large[2]
        assert np.array_equal(got["array"], array)
        for key in ("first", "rows", "all", "again", "texts", "last"):
            assert got[key] == value[key]


def test_large_arrays_are_not_copied_and_are_read_only() -> None:
    values = np.arange(2_000_000, dtype="f8")
    ref = ray.put(values)
    one, other = ray.get(ref), ray.get(ref)
    assert lies_in_the_store(one)
    assert one.__array_interface__["data"][0] == other.__array_interface__["data"][0]
    assert not one.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 1
    assert one.__array_interface__["data"][0] % 64 == 0


def test_large_arguments_and_results_are_not_copied() -> None:
    @ray.remote
    def look(values: np.ndarray) -> tuple[bool, bool, np.ndarray]:
        return lies_in_the_store(values), values.flags.writeable, values * 2

    values = np.ones(500_000)
    for argument in (values, ray.put(values)):
        in_store, writable, result = ray.get(look.remote(argument))
        assert in_store
        assert not writable
        assert lies_in_the_store(result)
        assert result.sum() == 1_000_000


def test_many_arrays_inside_of_one_value() -> None:
    value = {i: np.full(20_000, i) for i in range(20)}
    result = ray.get(ray.put(value))
    for i, values in result.items():
        assert (values == i).all()
        assert lies_in_the_store(values)


def test_an_array_lives_on_after_its_ref() -> None:
    values = ray.get(ray.put(np.arange(1_000_000)))
    part = values[10:20]
    del values
    gc.collect()
    for _ in range(20):  # Were its memory free, these would take it.
        ray.put(np.zeros(1_000_000, dtype="i8"))
    assert part.tolist() == list(range(10, 20))


def test_an_array_lives_on_after_its_task() -> None:
    @ray.remote
    def keep(values: np.ndarray) -> None:
        import builtins

        builtins.kept = values  # type: ignore[attr-defined]

    @ray.remote
    def kept_sum(workers: int) -> tuple[int, float | None]:
        import builtins

        kept = getattr(builtins, "kept", None)
        return os.getpid(), None if kept is None else float(kept.sum())

    ray.get(keep.remote(ray.put(np.ones(1_000_000))))
    for _ in range(20):
        ray.put(np.zeros(1_000_000))
    seen = [total for _, total in ray.get([kept_sum.remote(i) for i in range(20)])]
    assert set(seen) <= {None, 1_000_000.0}
    assert 1_000_000.0 in seen


@pytest.mark.mobula_only
def test_memory_of_dropped_values_is_used_again() -> None:
    # The store has 512 MiB; this is 4 GiB in all.
    for i in range(80):
        ref = ray.put(np.full(50 * MIB, i % 100, dtype="u1"))
        assert ray.get(ref)[-1] == i % 100


@pytest.mark.mobula_only
def test_memory_of_dropped_results_is_used_again() -> None:
    @ray.remote
    def make(i: int) -> np.ndarray:
        return np.full(50 * MIB, i, dtype="u1")

    for i in range(40):
        assert ray.get(make.remote(i))[-1] == i


@pytest.mark.mobula_only
def test_a_full_store_goes_on_in_files_and_recovers() -> None:
    # What somebody looks at cannot be spilled.
    views = [ray.get(ray.put(np.full(50 * MIB, number, dtype="u1"))) for number in range(14)]
    assert [int(view[-1]) for view in views] == list(range(14))
    views.clear()
    assert ray.get(ray.put(np.ones(100 * MIB, dtype="u1")))[-1] == 1


def test_buffers_of_other_kinds() -> None:
    data = os.urandom(500_000)
    assert bytes(ray.get(ray.put(pickle.PickleBuffer(data)))) == data
    assert ray.get(ray.put(bytearray(data))) == data


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


@pytest.mark.parametrize("of_tasks", [False, True], ids=["put", "results"])
def test_small_values_go_with_their_refs(of_tasks: bool) -> None:
    def many(count: int) -> None:
        for i in range(count):
            value = bytes([i % 100]) * 20_000
            ref = echo.remote(value) if of_tasks else ray.put(value)
            assert ray.get(ref) == value

    many(1000)
    before = resident_mib()
    many(20_000)  # 400 MB in all.
    assert resident_mib() - before < 100


def test_time_passes_while_a_get_waits(tmp_path: Path) -> None:
    """Other threads of the driver run while one waits."""
    file = str(tmp_path / "go")
    waiting = wait_for.remote(file)
    counted = []

    def count() -> None:
        for i in range(1000):
            counted.append(i)
        time.sleep(0)
        Path(file).touch()

    thread = threading.Thread(target=count)
    thread.start()
    assert ray.get(waiting, timeout=60)
    thread.join()
    assert len(counted) == 1000


def test_a_forked_child_may_read_arrays_of_the_store() -> None:
    array = ray.get(ray.put(np.arange(300_000)))
    child = os.fork()
    if child == 0:
        os._exit(7 if int(array[-1]) == 299_999 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_ids_have_bytes_and_digits(shared_session: None) -> None:
    ref = ray.put(1)
    task = ref.task_id()
    assert len(task.hex()) == 48 and bytes.fromhex(task.hex()) == task.binary()
    assert len(ref.job_id().hex()) == 8 and not ref.job_id().is_nil()
    assert task == ref.task_id() and hash(task) == hash(ref.task_id())


def test_refs_in_arguments_are_kept_over_all_retries(tmp_path: Path) -> None:
    @ray.remote(max_retries=2)
    def read(refs: list[ray.ObjectRef[Any]], runs: Path) -> int:
        with open(runs, "a") as file:
            file.write("x")
        if runs.stat().st_size < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return int(ray.get(refs[0]).sum())

    kept = ray.put(np.ones(200_000, dtype="u1"))
    result = read.remote([kept], tmp_path / "runs")
    del kept
    gc.collect()
    assert ray.get(result, timeout=60) == 200_000
