"""Data of pandas may be written by whoever gets it, as everywhere else: its arrays are loaded into
memory that is the loader's alone (`_core.private_buffer`: pages are copied when they are written). All
other arrays stay read-only views of the store.

The pickler cannot tell whose an array is. So what belongs to pandas is put between two marks, which it
passes in order.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from mobula import _core
from mobula._serialization import PrivateBegin, PrivateEnd

if TYPE_CHECKING:
    from collections.abc import Callable

_PROTOCOL = 5
# Kinds of numpy types whose `str` says all about them.
_PLAIN_KINDS = frozenset("biufcmM")


def reduce_data(value: Any) -> Any:
    """Reduces blocks of a frame or series, or an array of pandas' own types, between marks."""
    reduced = value.__reduce_ex__(_PROTOCOL)
    if not isinstance(reduced, tuple):
        return reduced
    make, arguments, state, *more = (*reduced, None)[: max(3, len(reduced))]
    if any(part is not None for part in more):
        return reduced
    made = (_make, (PrivateBegin(), make, arguments, PrivateEnd()))
    if state is None:
        return made
    return (*made, (PrivateBegin(), state, PrivateEnd()), None, None, _set_state)


def _make(_begin: Any, make: Callable[..., Any], arguments: tuple[Any, ...], _end: Any) -> Any:
    return make(*arguments)


def _set_state(value: Any, marked: tuple[Any, Any, Any]) -> None:
    """As pickle does it."""
    state = marked[1]
    set_state = getattr(value, "__setstate__", None)
    if set_state is not None:
        set_state(state)
        return
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        value.__dict__.update(state)
    for name, part in (slots or {}).items():
        setattr(value, name, part)


def reduce_array(array: Any) -> tuple[Any, ...]:
    """Of a thing of pandas, exactly of type numpy.ndarray."""
    order = "C" if array.flags.c_contiguous else "F"
    plain = array.nbytes and not array.dtype.hasobject and array.flags.forc
    if not plain:
        return array.__reduce_ex__(_PROTOCOL)  # type: ignore[no-any-return]
    # Times are no type of the buffer protocol.
    numbers = array.view("i8") if array.dtype.kind in "mM" else array
    # A type's text is pickled faster than the type.
    simple = array.dtype.kind in _PLAIN_KINDS and array.dtype.metadata is None
    dtype = array.dtype.str if simple else array.dtype
    return load_array, (pickle.PickleBuffer(numbers), dtype, array.shape, order)


def load_array(buffer: Any, dtype: Any, shape: tuple[int, ...], order: str) -> Any:
    import numpy

    array = numpy.frombuffer(_core.private_buffer(buffer), dtype)
    return array if len(shape) == 1 else array.reshape(shape, order=order)  # type: ignore[call-overload]
