#pragma once
// StoreView: bytes of the object store as Python's buffer protocol gives them out, read-only. It holds
// the store's pin and a count of the object until nothing looks at the bytes any more.
//
// The view of a whole value is made once; its slices (one for each array in the value) hold it. So does
// the one private mapping of the value, for what its user may write: that user alone sees what is written.
//
// A value that travelled inline lies nowhere else: its buffers are copies of their own, of the same type.
//
// Threads: with the GIL only. Deallocation may happen anywhere, also after the session and in a
//          forked child, where it does nothing.

#include <span>

#include "process/object.h"
#include "python/owned.h"
#include "python/session.h"

namespace mobula::python {

// Takes over `pin` and one count of `object` (which may be nullptr), also when it fails.
PyObject* make_store_view(Session& session, const process::Runtime::Pinned& pinned,
                          process::Object* object);
// `bytes` lie within those of `view`.
PyObject* make_store_slice(PyObject* view, std::span<const std::byte> bytes);

// A copy of `bytes`, read-only, at an address that is a multiple of 64.
PyObject* make_aligned_copy(std::span<const std::byte> bytes);
// _core.private_buffer: the bytes of `buffer` in memory that may be written, without a copy of those
// of a StoreView.
PyObject* private_buffer(PyObject* buffer);

bool init_store_view_type();

}  // namespace mobula::python
