"""Memory of torch tensors, as pickle's out-of-band buffers. torch itself pickles it into the pickle,
by way of an archive: several copies each way.

What `get` returns is a copy, because torch has no tensors that cannot be written to. With
MOBULA_ENABLE_ZERO_COPY_TORCH_TENSORS=1 it is not: then nobody may write to such tensors.
"""

from __future__ import annotations

import os
import pickle
import warnings
from importlib import import_module
from typing import Any

_ZERO_COPY = "MOBULA_ENABLE_ZERO_COPY_TORCH_TENSORS"


class _Bytes:
    """A storage's memory, for numpy."""

    __slots__ = ("__array_interface__", "storage")

    def __init__(self, storage: Any) -> None:
        self.storage = storage  # Whose memory it is; it lives as long as the array.
        self.__array_interface__ = {
            "data": (storage.data_ptr(), False),
            "shape": (storage.nbytes(),),
            "typestr": "|u1",
            "version": 3,
        }


def reduce_storage(storage: Any) -> Any:
    """Reduces what may be a torch.storage.TypedStorage. NotImplemented: by its own means."""
    untyped = getattr(storage, "_untyped_storage", None)
    if untyped is None or untyped.device.type != "cpu" or not untyped.data_ptr():
        return NotImplemented
    try:
        import numpy
    except ImportError:
        return NotImplemented
    memory: Any = numpy.asarray(_Bytes(untyped))
    return load_storage, (pickle.PickleBuffer(memory), storage.dtype)


def load_storage(buffer: Any, dtype: Any) -> Any:
    torch: Any = import_module("torch")

    if os.environ.get(_ZERO_COPY) == "1":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # That it is not writable.
            data = torch.frombuffer(buffer, dtype=torch.uint8)
    else:
        import numpy

        source = numpy.frombuffer(buffer, dtype="u1")
        data = torch.empty(source.size, dtype=torch.uint8)
        # Not by data.numpy(): a storage that numpy has seen can never be resized.
        numpy.asarray(_Bytes(data.untyped_storage()))[:] = source
    return torch.storage.TypedStorage(
        wrap_storage=data.untyped_storage(), dtype=dtype, _internal=True
    )
