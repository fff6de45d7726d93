"""mobula.util.iter: iterators whose items are made in several actors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import mobula as ray
import pytest
from mobula.util import iter as iterators
from mobula.util.iter import from_actors, from_items, from_iterators, from_range

pytestmark = pytest.mark.usefixtures("shared_session")


def double(x: int) -> int:
    return 2 * x


def above_4(x: int) -> bool:
    return x > 4


@pytest.mark.parametrize(
    ("count", "shards", "expected"),
    [
        (6, 2, [0, 3, 1, 4, 2, 5]),
        (7, 3, [0, 2, 4, 1, 3, 5, 6]),
        (5, 1, [0, 1, 2, 3, 4]),
        (1, 2, [0]),
        (0, 2, []),
    ],
)
def test_gather_sync_takes_turns(count: int, shards: int, expected: list[int]) -> None:
    assert list(from_range(count, num_shards=shards).gather_sync()) == expected


def test_items_and_numbers_are_spread_over_shards() -> None:
    assert [list(one) for one in from_range(6).shards()] == [[0, 1, 2], [3, 4, 5]]
    assert [list(one) for one in from_items([1, 2, 3, 4, 5], 3).shards()] == [[1, 4], [2, 5], [3]]
    made = from_iterators([range(3), lambda: iter([5, 6])])
    assert list(made.gather_sync()) == [0, 5, 1, 6, 2]
    assert (made.num_shards(), list(made.get_shard(1))) == (2, [5, 6])
    with pytest.raises(ValueError, match="out of range"):
        made.get_shard(2)
    with pytest.raises(ValueError, match="positive"):
        made.get_shard(1, num_async=0)


def test_each_shard_is_a_process_of_its_own() -> None:
    pids = list(from_range(4, num_shards=2).for_each(lambda _: os.getpid()).gather_sync())
    assert len(set(pids)) == 2 and os.getpid() not in pids
    assert pids[0] == pids[2] and pids[1] == pids[3]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda i: i.for_each(double), [0, 6, 2, 8, 4, 10]),
        (lambda i: i.for_each(double, max_concurrency=2), [0, 6, 2, 8, 4, 10]),
        (lambda i: i.filter(lambda x: x % 2 == 0), [0, 4, 2]),
        (lambda i: i.batch(2), [[0, 1], [3, 4], [2], [5]]),
        (lambda i: i.batch(2).flatten(), [0, 3, 1, 4, 2, 5]),
        (lambda i: i.combine(lambda x: [x] * (x % 3)), [1, 4, 2, 5, 2, 5]),
        (lambda i: i.transform(lambda items: (x + 1 for x in items)), [1, 4, 2, 5, 3, 6]),
        (lambda i: i.union(from_items(["a"], num_shards=1)), [0, 3, "a", 1, 4, 2, 5]),
        (lambda i: i.for_each(double).union(from_range(6)).filter(above_4), [6, 5, 8, 10]),
        (lambda i: i.select_shards([1]), [3, 4, 5]),
    ],
)
def test_what_is_done_in_the_shards(change: Any, expected: list[Any]) -> None:
    assert list(change(from_range(6)).gather_sync()) == expected


def test_gather_async_gives_each_item_once() -> None:
    for options in ({}, {"batch_ms": 5}, {"num_async": 3}, {"batch_ms": 5, "num_async": 3}):
        assert sorted(from_range(50, num_shards=3).gather_async(**options)) == list(range(50))
    for wrong in ({"num_async": 0}, {"batch_ms": -1}):
        with pytest.raises(ValueError, match="must be positive"):
            from_range(1).gather_async(**wrong)


def test_a_slow_shard_does_not_hold_up_the_others_in_gather_async() -> None:
    def slow() -> Iterator[str]:
        yield "first"
        import time

        time.sleep(600)

    items = from_iterators([slow, range(20)]).gather_async()
    assert sorted(map(str, items.take(21))) == sorted(["first", *map(str, range(20))])


@pytest.mark.mobula_only  # Ray 2.60 does not come to an end.
def test_repartition_gives_the_same_items_in_other_shards() -> None:
    made = from_range(10, num_shards=2).for_each(double).repartition(3)
    assert made.num_shards() == 3
    assert sorted(made.gather_sync()) == [2 * x for x in range(10)]
    parts = [list(one) for one in from_range(10).repartition(3, batch_ms=5).shards()]
    assert sorted(x for part in parts for x in part) == list(range(10)) and all(parts)


def test_local_shuffle_loses_nothing() -> None:
    def shuffled(seed: int) -> list[int]:
        return list(from_range(40, num_shards=1).local_shuffle(10, seed=seed).gather_sync())

    assert sorted(shuffled(1)) == list(range(40)) != shuffled(1)
    assert shuffled(1) == shuffled(1) != shuffled(2)


def test_lists_across_shards() -> None:
    assert list(from_range(5).batch_across_shards()) == [[0, 2], [1, 3], [4]]


def test_items_again_and_again() -> None:
    assert from_range(2, num_shards=1, repeat=True).take(5) == [0, 1, 0, 1, 0]


@pytest.mark.mobula_only
def test_nothing_again_and_again_is_nothing() -> None:
    assert from_items([], num_shards=2, repeat=True).take(5) == []


def test_take_begins_anew_each_time_and_show_prints(capsys: pytest.CaptureFixture[str]) -> None:
    made = from_range(6)
    assert [made.take(2), made.take(2), made.take(9)] == [[0, 3], [0, 3], [0, 3, 1, 4, 2, 5]]
    made.show(2)
    assert capsys.readouterr().out.split() == ["0", "3"]


def test_a_parallel_iterator_is_not_gone_through_by_itself() -> None:
    with pytest.raises(TypeError, match="gather_sync"):
        iter(from_range(2))
    with pytest.raises(TypeError, match="ParallelIterator"):
        from_range(2).union([1])  # type: ignore[arg-type]


def test_actors_of_ones_own_are_shards() -> None:
    class Countdown(iterators.ParallelIteratorWorker):
        def __init__(self, start: int) -> None:
            super().__init__(range(start, 0, -1), False)

    actors = [ray.remote(Countdown).remote(2), ray.remote(Countdown).remote(3)]
    made = from_actors(actors, name="down")
    assert repr(made) == "ParallelIterator[down]"
    assert list(made.for_each(double).gather_sync()) == [4, 6, 2, 4, 2]


def test_local_iterators_are_changed_here() -> None:
    def local() -> Any:
        return from_range(6).gather_sync()

    changed = local().for_each(double).filter(lambda x: x > 2).batch(2)
    assert list(changed) == [[6, 8], [4, 10]]
    assert next(local()) == 0 and local().take(2) == [0, 3]
    assert [list(one) for one in local().duplicate(2)] == [[0, 3, 1, 4, 2, 5]] * 2
    assert sorted(local().shuffle(3)) == list(range(6))
    assert sorted(local().union(from_range(2).gather_sync())) == [0, 0, 1, 1, 2, 3, 4, 5]
    pid = os.getpid()
    assert set(local().for_each(lambda _: os.getpid())) == {pid}
    assert pid not in set(local().for_each(lambda _: os.getpid(), max_concurrency=2))


def test_what_a_function_raises_arrives() -> None:
    def fails(x: int) -> int:
        raise ValueError(f"not {x}")

    with pytest.raises(ValueError, match="not 0"):
        from_range(2, num_shards=1).for_each(fails).take(1)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: from_range(6), "ParallelIterator[from_range[6, shards=2]]"),
        (lambda: from_items([1, 2]), "ParallelIterator[from_items[int, 2, shards=2]]"),
        (lambda: from_iterators([[1]]), "ParallelIterator[from_iterators[shards=1]]"),
        (
            lambda: from_range(6).for_each(double).filter(bool).batch(2),
            "ParallelIterator[from_range[6, shards=2].for_each().filter().batch(2)]",
        ),
        (lambda: from_range(6).shards()[0], "LocalIterator[from_range[6, shards=2].shard[0]]"),
        (
            lambda: from_range(6).union(from_range(6)),
            "ParallelIterator[ParallelUnion[ParallelIterator[from_range[6, shards=2]], "
            "ParallelIterator[from_range[6, shards=2]]]]",
        ),
    ],
)
def test_texts_say_what_an_iterator_is_made_of(make: Any, text: str) -> None:
    assert repr(make()) == text


@pytest.mark.mobula_only
def test_no_shards_at_all_are_refused() -> None:
    for make in (lambda: from_range(3, num_shards=0), lambda: from_items([1], num_shards=0)):
        with pytest.raises(ValueError, match="one shard at least"):
            make()
