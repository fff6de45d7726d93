"""Arrow data that is a small part of what its buffers hold, such as a slice of a table: only that part
is sent. What uses its buffers well is left to Arrow, which hands them over as they are.
"""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import Any

# What the buffers hold beyond the data is worth a copy of the data.
_WASTE_MIN = 64 * 1024


def reduce_data(value: Any) -> Any:
    """Reduces what may be a table, record batch or array of Arrow. NotImplemented: by its own means."""
    pyarrow = import_module("pyarrow")

    kind = type(value)
    if kind is not pyarrow.Table and kind is not pyarrow.RecordBatch:
        if not isinstance(value, (pyarrow.Array, pyarrow.ChunkedArray)):
            return NotImplemented
        if isinstance(value, pyarrow.ExtensionArray):
            return NotImplemented
    waste = value.get_total_buffer_size() - value.nbytes
    if waste < _WASTE_MIN or waste < value.nbytes:
        return NotImplemented
    if kind is pyarrow.Table or kind is pyarrow.RecordBatch:
        return load_data, (_as_stream(value), kind.__name__)
    chunked = isinstance(value, pyarrow.ChunkedArray)
    chunks = value if chunked else pyarrow.chunked_array([value])
    return load_data, (
        _as_stream(pyarrow.table([chunks], ["data"])),
        "ChunkedArray" if chunked else "Array",
    )


def _as_stream(data: Any) -> pickle.PickleBuffer:
    pyarrow = import_module("pyarrow")

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, data.schema) as writer:
        writer.write(data)
    return pickle.PickleBuffer(sink.getvalue())


def load_data(stream: Any, kind: str) -> Any:
    pyarrow = import_module("pyarrow")

    with pyarrow.ipc.open_stream(pyarrow.py_buffer(stream)) as reader:
        if kind == "RecordBatch":
            return reader.read_next_batch()
        table = reader.read_all()
    if kind == "Table":
        return table
    data = table.column(0)
    return data if kind == "ChunkedArray" else data.chunk(0)
