"""Data of pandas can be written by whoever gets it, and nobody else sees what is written; arrays of
numpy stay read-only."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from typing import Any

import leftovers
import mobula as ray
import numpy as np
import pytest

pd = pytest.importorskip("pandas")

pytestmark = [pytest.mark.usefixtures("shared_session")]

SIZES = pytest.mark.parametrize("rows", [300, 100_000], ids=["inline", "stored"])


def frame(rows: int) -> Any:
    return pd.DataFrame(
        {
            "i": np.arange(rows),
            "j": np.arange(rows),
            "f": np.linspace(0, 1, rows),
            "b": np.arange(rows) % 2 == 0,
        }
    )


def columns(rows: int) -> dict[str, Any]:
    """Of many kinds, each with something to write."""
    numbers = np.arange(rows)
    return {
        "plain": (pd.Series(numbers * 0.5), -1.0),
        "nullable": (pd.array(numbers, dtype="Int64"), pd.NA),
        "boolean": (pd.array(numbers % 3 == 0, dtype="boolean"), pd.NA),
        "floating": (pd.array(numbers * 1.0, dtype="Float64"), 7.5),
        "categorical": (pd.Categorical(np.array(list("abc"))[numbers % 3]), "b"),
        "datetime": (
            pd.date_range("2020-01-01", periods=rows, freq="min"),
            pd.Timestamp("2021-06-01"),
        ),
        "zoned": (
            pd.date_range("2020-01-01", periods=rows, freq="min", tz="UTC"),
            pd.Timestamp("2021-06-01", tz="UTC"),
        ),
        "timedelta": (pd.to_timedelta(numbers, unit="s"), pd.Timedelta("9s")),
        "period": (pd.period_range("1700", periods=rows, freq="h"), pd.Period("1999", "h")),
        "text": (pd.Series(numbers).astype(str).astype("str"), "new"),
        "object": (pd.Series([str(number) for number in numbers], dtype=object), None),
        "complex": (pd.Series(numbers * 1j), 3 + 4j),
        "small": (pd.Series(numbers % 100, dtype="int8"), 5),
    }


KINDS = list(columns(1))


def changed(received: Any, write: Callable[[Any], None]) -> Any:
    write(received)
    return received


def set_iloc(d: Any) -> None:
    d.iloc[0, 1] = 9


def set_loc(d: Any) -> None:
    d.loc[0, "i"] = 9


def set_at(d: Any) -> None:
    d.at[1, "f"] = 3.0


def set_iat(d: Any) -> None:
    d.iat[1, 0] = 4


def set_column(d: Any) -> None:
    d["f"] = 0.5


def set_mask(d: Any) -> None:
    d.loc[d["b"], "j"] = -1


def add_in_place(d: Any) -> None:
    d["i"] += 1


def sort_in_place(d: Any) -> None:
    d.sort_values("f", ascending=False, inplace=True)


def fill_in_place(d: Any) -> None:
    d[["i", "f"]] = d[["i", "f"]].mask(d["b"], 0)
    d.replace(3, 33, inplace=True)


def update(d: Any) -> None:
    d.update(pd.DataFrame({"f": [8.0]}, index=[2]))


def set_slice(d: Any) -> None:
    part = d.iloc[10:20].copy(deep=False)
    part.iloc[0, 0] = 77
    d.iloc[10:20, 0] = part["i"]


def set_by_group(d: Any) -> None:
    for _, rows in d.groupby("b").groups.items():
        d.loc[rows[:2], "j"] = 5


def drop_in_place(d: Any) -> None:
    d.drop(index=[0, 3], inplace=True)


def rename_in_place(d: Any) -> None:
    d.rename(columns={"i": "renamed"}, inplace=True)


def set_row(d: Any) -> None:
    d.loc[5] = [1, 2, 0.5, False]


WRITES = [
    set_iloc, set_loc, set_at, set_iat, set_column, set_mask, add_in_place, sort_in_place,
    fill_in_place, update, set_slice, set_by_group, drop_in_place, rename_in_place, set_row,
]  # fmt: skip


@ray.remote
def write_all(received: Any, ref: list[Any]) -> list[str]:
    """Each of WRITES on its own view of the value; what does not come out as on one's own."""
    wrong = []
    for write in WRITES:
        again = ray.get(ref[0])
        expected = frame(len(again))
        write(expected)
        try:
            write(again)
        except ValueError as error:
            wrong.append(f"{write.__name__}: {error}")
            continue
        if not again.equals(expected):
            wrong.append(f"{write.__name__}: {again}")
    received.iloc[0, 0] = 1234  # The argument itself.
    return wrong


@SIZES
def test_a_received_frame_can_be_written_in_every_way(rows: int) -> None:
    ref = ray.put(frame(rows))
    assert ray.get(write_all.remote(ref, [ref])) == []
    assert ray.get(ref).equals(frame(rows)), "nobody else sees it"
    mine = ray.get(ref)
    mine.iloc[0, 0] = 5
    other = ray.get(ref)
    assert other.equals(frame(rows))
    assert mine.iloc[0, 0] == 5


@SIZES
@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_every_kind_can_be_written(rows: int, kind: str) -> None:
    values, new = columns(rows)[kind]
    ref = ray.put(pd.DataFrame({"c": values}))
    before = ray.get(ref)
    received = ray.get(ref)
    received.iloc[3, 0] = new
    received.loc[5, "c"] = new
    expected = pd.DataFrame({"c": values})
    expected.iloc[3, 0] = new
    expected.loc[5, "c"] = new
    pd.testing.assert_frame_equal(received, expected)
    pd.testing.assert_frame_equal(before, pd.DataFrame({"c": values}))
    pd.testing.assert_frame_equal(ray.get(ref), before)


@SIZES
@pytest.mark.parametrize("kind", ["nullable", "categorical", "floating", "boolean"])
def test_arrays_of_pandas_own_types_can_be_written(rows: int, kind: str) -> None:
    values, new = columns(rows)[kind]
    ref = ray.put({"nested": [values]})
    received = ray.get(ref)["nested"][0]
    received[0] = new
    expected = values.copy()
    expected[0] = new
    pd.testing.assert_extension_array_equal(received, expected)
    pd.testing.assert_extension_array_equal(ray.get(ref)["nested"][0], values)


@SIZES
def test_series_and_what_is_made_of_them_can_be_written(rows: int) -> None:
    ref = ray.put([pd.Series(np.arange(rows), name="s")])
    series = ray.get(ref)[0]
    series.iloc[0] = 7
    series += 1
    series[series > 10] = 0
    part = series[:5]
    part.iloc[1] = -3
    assert list(part) == [8, -3, 3, 4, 5]
    assert list(series[:3]) == [8, 2, 3]
    assert list(ray.get(ref)[0][:3]) == [0, 1, 2]


@SIZES
def test_a_frame_that_a_task_changed_and_returned(rows: int) -> None:
    @ray.remote
    def change(d: Any) -> Any:
        d.loc[0, "f"] = 44.0
        return d

    first = frame(rows)
    again = ray.get(change.remote(ray.get(change.remote(first))))
    assert again.loc[0, "f"] == 44.0
    assert first.loc[0, "f"] == 0


def test_frames_of_columns_in_either_order_and_subclasses_can_be_written() -> None:
    for order in "CF":
        whole = np.asarray(np.arange(200_000.0).reshape(1000, 200), order=order)  # type: ignore[call-overload]
        ref = ray.put(pd.DataFrame(whole))
        received = ray.get(ref)
        received.iloc[7, 3] = -1.0
        assert received.iloc[7, 3] == -1.0
        received.iloc[7, 3] = whole[7, 3]
        assert (received.to_numpy() == whole).all()


class Frame(pd.DataFrame):  # type: ignore[misc]
    @property
    def _constructor(self) -> Any:
        return Frame


def test_subclasses_can_be_written() -> None:
    received = ray.get(ray.put(Frame(frame(100_000))))
    received.iloc[0, 0] = 3
    assert type(received).__name__ == "Frame"
    assert received.iloc[0, 0] == 3


def test_indexes_of_many_levels_come_as_they_were() -> None:
    d = frame(50_000).set_index(["i", "j"])
    received = ray.get(ray.put(d))
    received.loc[(3, 3), "f"] = 9.0
    assert received.loc[(3, 3), "f"] == 9.0
    assert received.index.equals(d.index)
    received.index = pd.RangeIndex(len(received))
    received.at[0, "f"] = 1.5
    assert received.at[0, "f"] == 1.5


@SIZES
def test_arrays_of_numpy_stay_read_only_beside_those_of_pandas(rows: int) -> None:
    array = np.arange(rows)
    got = ray.get(ray.put({"frame": frame(rows), "array": array, "after": array * 2}))
    got["frame"].iloc[0, 0] = 3
    for name in ("array", "after"):
        assert not got[name].flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            got[name][0] = 1


def memory_of_mappings() -> tuple[int, int]:
    """(mappings, KiB that are this process's alone)."""
    with open("/proc/self/smaps") as file:
        text = file.read()
    private = sum(int(line.split()[1]) for line in text.splitlines() if "Private_Dirty" in line)
    return text.count("VmFlags"), private


@pytest.mark.mobula_only
def test_a_frame_of_thousands_of_columns_has_one_mapping_and_no_copy() -> None:
    rows = 2000
    d = pd.concat(
        [pd.DataFrame({str(c): pd.array(np.arange(rows) + c, dtype="Int64")}) for c in range(800)],
        axis=1,
    )
    ref = ray.put(d)  # 14 MiB.
    del d
    ray.get(ref)
    gc.collect()
    mappings, private = memory_of_mappings()
    received = ray.get(ref)
    more, after = memory_of_mappings()
    assert more - mappings < 20, "one for the value, not one a column"
    assert after - private < 8 * 1024, "pages are copied when they are written"
    received.iloc[:, 0] = 1
    assert received["0"].sum() == rows
    assert ray.get(ref)["0"].sum() == sum(range(rows))


@pytest.mark.mobula_only
def test_the_value_stays_as_long_as_its_mapping() -> None:
    received = ray.get(ray.put(frame(500_000)))
    column = received["f"]
    del received
    gc.collect()
    others = [ray.put(np.full(2_000_000, 7.0)) for _ in range(40)]  # More than the store.
    column.iloc[0] = 5.0
    assert column.iloc[0] == 5.0
    assert (column[1:].to_numpy() == np.linspace(0, 1, 500_000)[1:]).all()
    del others


@pytest.mark.mobula_only
def test_mappings_go_with_the_frames() -> None:
    ref = ray.put(frame(200_000))
    ray.get(ref)
    gc.collect()
    before, _ = memory_of_mappings()
    for _ in range(200):
        received = ray.get(ref)
        received.iloc[0, 0] = 1
    del received
    gc.collect()
    leftovers.wait_until(lambda: memory_of_mappings()[0] < before + 20, "they are unmapped")


@pytest.mark.mobula_only
def test_the_pickle_of_a_received_frame_is_that_of_any_other() -> None:
    d = frame(100_000)
    received = ray.get(ray.put(d))
    received.iloc[0, 0] = 3
    assert pickle.loads(pickle.dumps(received)).iloc[0, 0] == 3
    assert ray.get(ray.put(received)).equals(received)


@pytest.mark.mobula_only
@pytest.mark.parametrize("size", [1, 7, 64, 1000, 5_000, 99_000, 200_000])
def test_arrays_start_at_a_multiple_of_64(size: int) -> None:
    @ray.remote
    def addresses(*values: Any) -> list[int]:
        return [value.ctypes.data % 64 for value in values]

    array = np.ones(size, "u1")
    nested = {"a": array, "b": [np.arange(size), (np.ones(size, "f4"),)]}
    got = ray.get(ray.put(nested))
    assert [a.ctypes.data % 64 for a in (got["a"], got["b"][0], got["b"][1][0])] == [0, 0, 0]
    assert ray.get(ray.put(array)).ctypes.data % 64 == 0
    assert ray.get(addresses.remote(array, np.ones(size))) == [0, 0]

    @ray.remote
    def make() -> Any:
        return np.ones(size, "u1"), np.ones(size)

    assert [a.ctypes.data % 64 for a in ray.get(make.remote())] == [0, 0]


@pytest.mark.mobula_only
def test_data_of_arrow_and_of_pandas_starts_at_a_multiple_of_64() -> None:
    arrow = pytest.importorskip("pyarrow")
    for size in (10, 100_000):
        table = ray.get(ray.put(arrow.table({"i": np.arange(size)})))
        assert table.column(0).chunk(0).buffers()[1].address % 64 == 0
        series = ray.get(ray.put(pd.Series(np.arange(size))))
        assert series.to_numpy().ctypes.data % 64 == 0
