#pragma once
// Wire values (encode.h) to Python values. What lies in the object store is not copied: arrays and
// other users of pickle's out-of-band buffers look at it through read-only StoreViews. Buffers of
// inline values are copied into bytes objects, so that they are read-only too.
//
// The bytes come from other processes: every offset is checked, and what does not fit is a ValueError.
// What is inside a pickle is trusted, as it must be: it comes from processes of the same user.
//
// Threads: with the GIL only.

#include <optional>
#include <span>

#include "process/runtime.h"
#include "python/owned.h"
#include "python/session.h"
#include "wire/frame_reader.h"

namespace mobula::python {

// Each returns nullptr with an exception set if it fails, or if the value is an error.

// The value of a ready object that the caller holds. If its bytes are lost this waits until they were
// made again, with GetTimeoutError after `deadline`.
PyObject* decode_object(Session& session, process::Object* object,
                        const std::optional<Instant>& deadline = std::nullopt);
// An argument or function in private memory. `refs` are those that the value names.
PyObject* decode_value(Session& session, const wire::ValueView& value,
                       std::span<process::Object* const> refs);

// _core.load_ref: ref number `index` of the value that this thread is decoding.
PyObject* load_ref(PyObject* index);

// _core._decode_for_test
PyObject* decode_for_test(std::span<const std::byte> bytes, PyObject* refs);

}  // namespace mobula::python
