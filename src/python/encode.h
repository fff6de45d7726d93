#pragma once
// Encoder: Python values to wire values (wire/frames.h), gathered in a PackedValues.
//
// None, bool, int64, float, str and bytes of exactly these types are written as they are; everything
// else is pickled. What is larger than wire::kInlineValueBytesMax is written into the object store,
// without the GIL if it is long, and a reference or location takes its place.
//
// Layout of a kPickleWithBuffers payload: uint64 count, count x (uint64 offset, uint64 size) of which
// the last is the pickle and the others the buffers in order, the pickle, the buffers. Offsets count
// from the payload's start; a buffer's distance from the start of the *value* is a multiple of 64, and
// so its address is one in the store.
//
// Threads: with the GIL only.

#include <span>
#include <string_view>
#include <vector>

#include "process/runtime.h"
#include "python/owned.h"
#include "python/pickling.h"
#include "python/session.h"

namespace mobula::python {

// A value taken apart, before it has a place.
struct Payload {
  wire::ValueKind kind{};
  std::span<const std::byte> body;      // The pickle, if it is one, but for
  std::span<const PickleChunk> chunks;  // these.
  std::span<const Owned> buffers;
  std::span<const Owned> refs;
};

// A function that drags in more than this was not meant to. Bytes, of its value; Ray's limit.
constexpr size_t kFunctionBytesMax = size_t{95} << 20;

class Encoder {
 public:
  explicit Encoder(Session& session) : session_(session) {}
  ~Encoder();  // Drops and abandons what was not taken.
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  // Each adds one value, or is false with an exception set; nothing was added then.
  bool add_argument(PyObject* value);  // A ref becomes kReference.
  bool add_keyword_names(PyObject* names, size_t count);
  bool add_result(PyObject* value);  // Large ones are kInStore, their writes in take_stored().
  // Refused above kFunctionBytesMax.
  bool add_function(PyObject* function);
  bool add_task_error(PyObject* description);
  void add_system_error(wire::SystemErrorCode code, std::string_view text);
  // Bytes that are a whole value without refs.
  void add_encoded(std::span<const std::byte> value);

  process::PackedValues take() { return std::move(values_); }
  std::vector<process::StoreWrite> take_stored() { return std::move(stored_); }
  // Of the last value that did not fit inline, refused ones included.
  size_t value_bytes() const { return value_bytes_; }

 private:
  friend process::Object* put_value(Session& session, PyObject* value);
  // What becomes of a value that is too large to travel inline.
  enum class Large {
    kReference,       // Put; kReference to the object.
    kLocation,        // Written; kInStore with the refs inside.
    kLocationAndRef,  // Put; kInStore with the object first, then the refs inside.
    kRefuse,
  };

  bool add(PyObject* value, Large large);
  bool place(const Payload& payload, Large large);
  bool add_stored(process::StoreWrite& write, std::vector<process::Object*> refs, Large large);
  void add_reference(process::Object* object);
  void add_location(const wire::StoreLocation& location, std::span<process::Object* const> refs);
  std::byte* append(wire::ValueKind kind, size_t payload_size, size_t ref_count);

  Session& session_;
  process::PackedValues values_;
  std::vector<process::StoreWrite> stored_;
  size_t value_bytes_ = 0;
};

// `put`: an object with one count, or nullptr with an exception set.
process::Object* put_value(Session& session, PyObject* value);

// _core._encode_for_test: (bytes, list of refs).
PyObject* encode_for_test(PyObject* value);

}  // namespace mobula::python
