"""Iterators in several actors, each of which makes a part of the items.

    from mobula.util.iter import from_range

    squares = from_range(1000, num_shards=4).for_each(lambda x: x * x)
    for value in squares.gather_async():
        ...

What is done with the items of a ParallelIterator (`for_each`, `filter`, ...) is done in the actors,
when somebody takes the items: `gather_sync`, in turn from each shard; `gather_async`, whichever come
first. Both give a LocalIterator, whose functions run where it is. New programs use generators.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mobula._core import get, wait
from mobula._remote import remote

_Transform = Callable[["LocalIterator"], "LocalIterator"]


class LocalIterator:
    """Items one after the other. It can be gone through once; its methods make new iterators of it."""

    def __init__(self, items: Iterable[Any], name: str = "LocalIterator") -> None:
        self._items = iter(items)
        self.name = name

    def __iter__(self) -> Iterator[Any]:
        return self._items

    def __next__(self) -> Any:
        return next(self._items)

    def __repr__(self) -> str:
        return f"LocalIterator[{self.name}]"

    def _then(self, items: Iterable[Any], name: str) -> LocalIterator:
        return LocalIterator(items, self.name + name)

    def transform(self, fn: Callable[[Iterable[Any]], Iterable[Any]]) -> LocalIterator:
        """What `fn` makes of the whole iterator."""
        return self._then(fn(self), ".transform()")

    def for_each(
        self,
        fn: Callable[[Any], Any],
        max_concurrency: int = 1,
        resources: dict[str, Any] | None = None,
    ) -> LocalIterator:
        """`fn` of each item. `max_concurrency`: that many calls at a time are tasks, with these
        options."""
        if max_concurrency == 1:
            return self._then(map(fn, self), ".for_each()")
        call = remote(**resources)(fn) if resources else remote(fn)

        def results() -> Iterator[Any]:
            running: deque[Any] = deque()
            for item in self:
                if len(running) >= max_concurrency:
                    yield get(running.popleft())
                running.append(call.remote(item))
            while running:
                yield get(running.popleft())

        return self._then(results(), ".for_each()")

    def filter(self, fn: Callable[[Any], bool]) -> LocalIterator:
        """The items of which `fn` is true."""
        return self._then(filter(fn, self), ".filter()")

    def batch(self, n: int) -> LocalIterator:
        """Lists of `n` items; the last may be shorter."""
        batches = iter(lambda: list(itertools.islice(self._items, n)), [])
        return self._then(batches, f".batch({n})")

    def flatten(self) -> LocalIterator:
        """The items of the items."""
        return self._then(itertools.chain.from_iterable(self), ".flatten()")

    def combine(self, fn: Callable[[Any], list[Any]]) -> LocalIterator:
        """The items of the lists that `fn` makes of each item."""
        return self._then(itertools.chain.from_iterable(map(fn, self)), ".combine()")

    def shuffle(self, shuffle_buffer_size: int, seed: int | None = None) -> LocalIterator:
        """Each item is taken at random from the next `shuffle_buffer_size`."""

        def shuffled() -> Iterator[Any]:
            chance = random.Random(seed)
            kept: list[Any] = []
            for item in self:
                kept.append(item)
                if len(kept) >= shuffle_buffer_size:
                    yield kept.pop(chance.randrange(len(kept)))
            chance.shuffle(kept)
            yield from kept

        return self._then(shuffled(), f".shuffle(shuffle_buffer_size={shuffle_buffer_size})")

    def take(self, n: int) -> list[Any]:
        """The next `n` items, or as many as there are."""
        return list(itertools.islice(self._items, n))

    def show(self, n: int = 20) -> None:
        """Prints the next `n` items."""
        for item in self.take(n):
            print(item)

    def duplicate(self, n: int) -> list[LocalIterator]:
        """`n` iterators over the same items."""
        copies = itertools.tee(self._items, n)
        return [self._then(one, f".duplicate[{i}]") for i, one in enumerate(copies)]

    def union(self, *others: LocalIterator, deterministic: bool = False) -> LocalIterator:
        """The items of all, in turn, in either case. TypeError: something is no LocalIterator."""
        for other in others:
            if not isinstance(other, LocalIterator):
                raise TypeError(f"other must be of type LocalIterator, got {type(other)}")
        names = ", ".join(repr(one) for one in (self, *others))
        return LocalIterator(_in_turn(list(map(iter, (self, *others)))), f"LocalUnion[{names}]")


def _in_turn(iterators: list[Iterator[Any]]) -> Iterator[Any]:
    """An item of each, until all have ended."""
    end = object()
    while iterators:
        going = []
        for one in iterators:
            item = next(one, end)
            if item is not end:
                going.append(one)
                yield item
        iterators = going


class ParallelIteratorWorker:
    """What makes the items of a shard: an actor of this class, or of one that derives from it.

    item_generator: what can be iterated over, or a function that returns such. repeat: again and again.
    """

    def __init__(self, item_generator: Any, repeat: bool) -> None:
        self._make = item_generator if callable(item_generator) else lambda: item_generator
        self._repeat = repeat
        self._iterator: Iterator[Any] = iter(())
        self._slices: dict[int, deque[Any]] = {}
        self._count = 0

    def par_iter_init(self, transforms: list[_Transform]) -> None:
        """Begins at the first item."""

        def items() -> Iterator[Any]:
            while True:
                count = 0
                for item in self._make():
                    count += 1
                    yield item
                if not self._repeat or not count:
                    return

        made = LocalIterator(items())
        for transform in transforms:
            made = transform(made)
        self._iterator = iter(made)
        self._slices.clear()
        self._count = 0

    def par_iter_next_batch(self, batch_ms: int) -> tuple[list[Any], bool]:
        """The next item, and those that are made within `batch_ms`. False: there are no more."""
        end = time.monotonic() + batch_ms / 1000
        batch = []
        for item in self._iterator:
            batch.append(item)
            if time.monotonic() >= end:
                return batch, True
        return batch, False

    def par_iter_slice_batch(self, step: int, start: int, batch_ms: int) -> tuple[list[Any], bool]:
        """As par_iter_next_batch, of every `step`th item from the one with number `start` on."""
        mine = self._slices.setdefault(start, deque())
        end = time.monotonic() + batch_ms / 1000
        is_open = True
        while not mine or time.monotonic() < end:
            batch, is_open = self.par_iter_next_batch(0)
            for item in batch:
                self._slices.setdefault(self._count % step, deque()).append(item)
                self._count += 1
            if not is_open:
                break
        items = list(mine)
        mine.clear()
        return items, is_open


class _Shard:
    """An actor, and what it does with its items."""

    def __init__(self, actor: Any, transforms: tuple[_Transform, ...] = ()) -> None:
        self.actor = actor
        self.transforms = transforms

    def then(self, transform: _Transform) -> _Shard:
        return _Shard(self.actor, (*self.transforms, transform))

    def begin(self) -> None:
        get(self.actor.par_iter_init.remote(list(self.transforms)))

    def items(self, batch_ms: int, num_async: int) -> Iterator[Any]:
        """From the first item on; the next batches are under way meanwhile."""
        self.begin()
        pending: deque[Any] = deque()
        is_open = True
        while is_open or pending:
            while is_open and len(pending) < num_async:
                pending.append(self.actor.par_iter_next_batch.remote(batch_ms))
            batch, more = get(pending.popleft())
            is_open = is_open and more
            yield from batch


def _check(batch_ms: int, num_async: int) -> None:
    if num_async < 1:
        raise ValueError("queue depth must be positive")
    if batch_ms < 0:
        raise ValueError("batch time must be positive")


class ParallelIterator:
    """Items in shards. It can be gone through several times, by one at a time."""

    def __init__(self, shards: list[_Shard], name: str) -> None:
        self._shards = shards
        self.name = name

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            "You must use it.gather_sync() or it.gather_async() to iterate over the results of a "
            "ParallelIterator."
        )

    def __repr__(self) -> str:
        return f"ParallelIterator[{self.name}]"

    def _then(self, transform: _Transform, name: str) -> ParallelIterator:
        return ParallelIterator([one.then(transform) for one in self._shards], self.name + name)

    def transform(self, fn: Callable[[Iterable[Any]], Iterable[Any]]) -> ParallelIterator:
        """What `fn` makes of the whole iterator of each shard."""
        return self._then(lambda items: items.transform(fn), ".transform()")

    def for_each(
        self,
        fn: Callable[[Any], Any],
        max_concurrency: int = 1,
        resources: dict[str, Any] | None = None,
    ) -> ParallelIterator:
        """`fn` of each item. `max_concurrency`: of each shard that many calls at a time are tasks."""
        return self._then(lambda i: i.for_each(fn, max_concurrency, resources), ".for_each()")

    def filter(self, fn: Callable[[Any], bool]) -> ParallelIterator:
        """The items of which `fn` is true."""
        return self._then(lambda items: items.filter(fn), ".filter()")

    def batch(self, n: int) -> ParallelIterator:
        """Lists of `n` items of a shard; its last may be shorter."""
        return self._then(lambda items: items.batch(n), f".batch({n})")

    def flatten(self) -> ParallelIterator:
        """The items of the items."""
        return self._then(lambda items: items.flatten(), ".flatten()")

    def combine(self, fn: Callable[[Any], list[Any]]) -> ParallelIterator:
        """The items of the lists that `fn` makes of each item."""
        return self._then(lambda items: items.combine(fn), ".combine()")

    def local_shuffle(self, shuffle_buffer_size: int, seed: int | None = None) -> ParallelIterator:
        """In each shard each item is taken at random from the next `shuffle_buffer_size`."""
        return self._then(
            lambda items: items.shuffle(shuffle_buffer_size, seed),
            f".local_shuffle(shuffle_buffer_size={shuffle_buffer_size}, seed={seed})",
        )

    def repartition(self, num_partitions: int, batch_ms: int = 0) -> ParallelIterator:
        """The same items in another number of shards."""
        parents = self._shards

        def part(index: int) -> Callable[[], Iterator[Any]]:
            def items() -> Iterator[Any]:
                going = [one.actor for one in parents]
                while going:
                    asked = [
                        a.par_iter_slice_batch.remote(num_partitions, index, batch_ms)
                        for a in going
                    ]
                    answers = get(asked)
                    yield from itertools.chain.from_iterable(batch for batch, _ in answers)
                    going = [a for a, (_, more) in zip(going, answers, strict=True) if more]

            return items

        for one in parents:
            one.begin()
        worker = remote(num_cpus=0)(ParallelIteratorWorker)
        shards = [_Shard(worker.remote(part(i), False)) for i in range(num_partitions)]
        return ParallelIterator(shards, f"{self.name}.repartition[num_partitions={num_partitions}]")

    def union(self, other: ParallelIterator) -> ParallelIterator:
        """The shards of both. TypeError: `other` is something else."""
        if not isinstance(other, ParallelIterator):
            raise TypeError(f"other must be of type ParallelIterator, got {type(other)}")
        return ParallelIterator([*self._shards, *other._shards], f"ParallelUnion[{self}, {other}]")

    def select_shards(self, shards_to_keep: list[int]) -> ParallelIterator:
        """Those shards only."""
        kept = [self._shards[index] for index in shards_to_keep]
        return ParallelIterator(kept, f"{self.name}.select_shards({len(kept)} shards)")

    def num_shards(self) -> int:
        """How many there are."""
        return len(self._shards)

    def get_shard(self, shard_index: int, batch_ms: int = 0, num_async: int = 1) -> LocalIterator:
        """The items of one shard. ValueError: there is no such shard, or a number is too small."""
        _check(batch_ms, num_async)
        if not 0 <= shard_index < len(self._shards):
            raise ValueError("Shard index out of range", shard_index, len(self._shards))
        items = self._shards[shard_index].items(batch_ms, num_async)
        return LocalIterator(items, f"{self.name}.shard[{shard_index}]")

    def shards(self) -> list[LocalIterator]:
        """The items of each shard."""
        return [self.get_shard(index) for index in range(len(self._shards))]

    def gather_sync(self) -> LocalIterator:
        """An item of each shard in turn."""
        items = itertools.chain.from_iterable(self._rounds())
        return LocalIterator(items, f"{self}.gather_sync()")

    def batch_across_shards(self) -> LocalIterator:
        """Lists of an item of each shard."""
        return LocalIterator(self._rounds(), f"{self}.batch_across_shards()")

    def gather_async(self, batch_ms: int = 0, num_async: int = 1) -> LocalIterator:
        """Items as they come, in batches of what is made within `batch_ms`; `num_async` batches of each
        shard are under way. ValueError: a number is too small."""
        _check(batch_ms, num_async)

        def items() -> Iterator[Any]:
            for one in self._shards:
                one.begin()
            shards = {}
            for one in self._shards * num_async:
                shards[one.actor.par_iter_next_batch.remote(batch_ms)] = one
            while shards:
                (ref,), _ = wait(list(shards), num_returns=1)
                one = shards.pop(ref)
                batch, more = get(ref)
                if more:
                    shards[one.actor.par_iter_next_batch.remote(batch_ms)] = one
                yield from batch

        return LocalIterator(items(), f"{self}.gather_async()")

    def _rounds(self) -> Iterator[list[Any]]:
        for one in self._shards:
            one.begin()
        asked = [(one, one.actor.par_iter_next_batch.remote(0)) for one in self._shards]
        while asked:
            answers = [(one, get(ref)) for one, ref in asked]
            # The next ones are made while these are looked at.
            asked = [
                (one, one.actor.par_iter_next_batch.remote(0)) for one, (_, more) in answers if more
            ]
            items = [item for _, (batch, _) in answers for item in batch]
            if items:
                yield items

    def take(self, n: int) -> list[Any]:
        """The first `n` items, in turn from each shard."""
        return self.gather_sync().take(n)

    def show(self, n: int = 20) -> None:
        """Prints the first `n` items, in turn from each shard."""
        self.gather_sync().show(n)


def from_items(items: list[Any], num_shards: int = 2, repeat: bool = False) -> ParallelIterator:
    """The items in so many shards: the first in the first, the second in the second, and so on."""
    _check_shards(num_shards)
    parts = [items[index::num_shards] for index in range(num_shards)]
    kind = type(items[0]).__name__ if items else "None"
    return from_iterators(parts, repeat, f"from_items[{kind}, {len(items)}, shards={num_shards}]")


def from_range(n: int, num_shards: int = 2, repeat: bool = False) -> ParallelIterator:
    """The numbers from 0 to n - 1, in as many stretches as there are shards."""
    _check_shards(num_shards)
    size = n // num_shards
    starts = [index * size for index in range(num_shards)]
    parts = [range(start, end) for start, end in zip(starts, [*starts[1:], n], strict=True)]
    return from_iterators(parts, repeat, f"from_range[{n}, shards={num_shards}]")


def _check_shards(number: int) -> None:
    if number < 1:
        raise ValueError(f"There must be one shard at least, not {number}")


def from_iterators(
    generators: list[Any], repeat: bool = False, name: str | None = None
) -> ParallelIterator:
    """A shard for each of what can be iterated over, or of functions that return such."""
    worker = remote(num_cpus=0)(ParallelIteratorWorker)
    actors = [worker.remote(one, repeat) for one in generators]
    suffix = ", repeat=True" if repeat else ""
    return from_actors(actors, name or f"from_iterators[shards={len(generators)}{suffix}]")


def from_actors(actors: list[Any], name: str | None = None) -> ParallelIterator:
    """A shard for each actor; their class derives from ParallelIteratorWorker."""
    return ParallelIterator(
        [_Shard(one) for one in actors], name or f"from_actors[shards={len(actors)}]"
    )


__all__ = [
    "LocalIterator",
    "ParallelIterator",
    "ParallelIteratorWorker",
    "from_actors",
    "from_items",
    "from_iterators",
    "from_range",
]
