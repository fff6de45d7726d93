"""Results in the order in which they come."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from mobula import _core

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_WAIT_KEYWORDS = {"timeout", "fetch_local"}


def _check(chunk_size: int, keywords: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    unknown = set(keywords) - _WAIT_KEYWORDS
    if unknown:
        raise TypeError(f"unexpected keyword argument(s): {', '.join(sorted(unknown))}")


def as_completed(
    refs: Sequence[_core.ObjectRef[Any]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """The values of `refs` as they become ready, or the refs themselves (`yield_obj_refs`).

    chunk_size: how many are fetched at a time; those that are ready are given without waiting for a
    chunk to be full. kwargs: those of `wait`; after its timeout the wait begins anew. Raises what a
    task raised, at its turn.
    """
    _check(chunk_size, kwargs)
    return _completed(list(refs), chunk_size, yield_obj_refs, kwargs)


def _completed(
    pending: list[_core.ObjectRef[Any]], chunk_size: int, as_refs: bool, keywords: dict[str, Any]
) -> Iterator[Any]:
    while pending:
        # One first; then what else is there already.
        ready, pending = _core.wait(pending, num_returns=1, **keywords)
        if pending and ready and chunk_size > 1:
            more, pending = _core.wait(
                pending, num_returns=min(chunk_size - 1, len(pending)), timeout=0
            )
            ready += more
        yield from _values(ready, as_refs)


def _values(ready: list[_core.ObjectRef[Any]], as_refs: bool) -> Iterator[Any]:
    for ref in ready:
        yield ref if as_refs else _core.get(ref)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """`fn.remote(item)` for each of `items`; the values, or refs, as they become ready.

    backpressure_size: at most so many tasks are under way at a time (None: all at once).
    `items` may be endless: it is read as tasks end. kwargs: those of `wait`.
    ValueError: a size below 1. TypeError: `fn` is no remote function.
    """
    _check(chunk_size, kwargs)
    if not hasattr(fn, "remote"):
        raise TypeError(f"map_unordered() takes a remote function, not {fn!r}")
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be at least 1, not {backpressure_size}")
    return _mapped(fn, iter(items), (backpressure_size, chunk_size), yield_obj_refs, kwargs)


def _mapped(
    fn: Any,
    items: Iterator[Any],
    sizes: tuple[int | None, int],
    as_refs: bool,
    keywords: dict[str, Any],
) -> Iterator[Any]:
    most, chunk_size = sizes
    pending = [fn.remote(item) for item in islice(items, most)]
    while pending:
        ready, pending = _core.wait(pending, num_returns=1, **keywords)
        if pending and ready and chunk_size > 1:
            more, pending = _core.wait(
                pending, num_returns=min(chunk_size - 1, len(pending)), timeout=0
            )
            ready += more
        pending += [fn.remote(item) for item in islice(items, len(ready))]
        yield from _values(ready, as_refs)
