#include "python/decode.h"

#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "python/object_ref.h"
#include "python/objects.h"
#include "python/serialization_module.h"
#include "python/store_view.h"
#include "shm/streaming_copy.h"

namespace mobula::python {

namespace {

using process::Object;
using wire::ValueKind;

// Copies at least this long let other Python threads run meanwhile. Bytes.
constexpr size_t kCopyWithoutGilMin = size_t{256} << 10;

// From here on malloc() maps each block by itself (glibc: the largest M_MMAP_THRESHOLD there is), so that
// advice on its pages concerns nobody else's. Bytes.
constexpr size_t kOwnMappingMin = size_t{32} << 20;
constexpr size_t kHugePageBytes = size_t{2} << 20;

// The pages of a fresh block come 2 MiB at a time: by fours of KiB they cost more than what is copied there.
void prefer_huge_pages(char* block, size_t size) {
  const size_t head = -reinterpret_cast<uintptr_t>(block) % kHugePageBytes;
  if (size < kOwnMappingMin) return;
  // Refused by a kernel without huge pages: then the pages are small.
  ::madvise(block + head, (size - head) / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
}

// What the positions of pickled refs mean in the value being decoded.
struct RefTable {
  Session* session = nullptr;
  std::span<Object* const> objects;
  PyObject* test_refs = nullptr;  // A tuple, instead of the above.
};

thread_local const RefTable* current_table = nullptr;

class TableScope {
 public:
  explicit TableScope(const RefTable& table) : outer_(std::exchange(current_table, &table)) {}
  ~TableScope() { current_table = outer_; }
  TableScope(const TableScope&) = delete;
  TableScope& operator=(const TableScope&) = delete;

 private:
  const RefTable* outer_;
};

PyObject* raise_malformed(const char* what) {
  PyErr_Format(PyExc_ValueError, "malformed value: %s", what);
  return nullptr;
}

template <typename T>
T read_plain(std::span<const std::byte> payload) {
  T value;
  std::memcpy(&value, payload.data(), sizeof value);
  return value;
}

PyObject* copy_to_bytes(std::span<const std::byte> bytes) {
  PyObject* object = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(bytes.size()));
  if (object == nullptr || bytes.empty()) return object;
  char* to = PyBytes_AS_STRING(object);
  if (bytes.size() >= kCopyWithoutGilMin) {
    const WithoutGil others_run;
    prefer_huge_pages(to, bytes.size());
    shm::copy_streaming(reinterpret_cast<std::byte*>(to), bytes);
  } else {
    std::memcpy(to, bytes.data(), bytes.size());
  }
  return object;
}

// The bytes stay valid during the call. `buffers` may be nullptr.
PyObject* unpickle(std::span<const std::byte> pickle, PyObject* buffers) {
  if (!load_serialization_module()) return nullptr;
  auto* start = const_cast<char*>(reinterpret_cast<const char*>(pickle.data()));
  const Owned view(
      PyMemoryView_FromMemory(start, static_cast<Py_ssize_t>(pickle.size()), PyBUF_READ));
  if (!view) return nullptr;
  PyObject* loads = serialization_module().loads;
  if (buffers == nullptr) return PyObject_CallOneArg(loads, view.get());
  static PyObject* const names = Py_BuildValue("(s)", "buffers");
  PyObject* arguments[] = {view.get(), buffers};
  return PyObject_Vectorcall(loads, arguments, 1, names);
}

// What the user's own classes raise while they are unpickled is told as Ray tells it. Anything that is no
// Exception, such as KeyboardInterrupt, goes through.
PyObject* checked(PyObject* value) {
  if (value != nullptr || PyErr_ExceptionMatches(PyExc_Exception) == 0) return value;
  const Owned error = take_exception();
  return raise_from_hook("unpickling_error", Owned(PyTuple_Pack(1, error.get())));
}

// A kPickleWithBuffers payload; `whole` is the StoreView that it lies in, or nullptr.
PyObject* unpickle_with_buffers(std::span<const std::byte> payload, PyObject* whole) {
  constexpr size_t kWord = sizeof(uint64_t);
  if (payload.size() < kWord) return raise_malformed("no buffer table");
  const auto count = read_plain<uint64_t>(payload);
  if (count == 0 || count > (payload.size() - kWord) / (2 * kWord)) {
    return raise_malformed("wrong buffer count");
  }
  const Owned buffers(PyTuple_New(static_cast<Py_ssize_t>(count - 1)));
  if (!buffers) return nullptr;
  for (uint64_t i = 0; i < count; ++i) {
    const auto offset = read_plain<uint64_t>(payload.subspan(kWord + i * 2 * kWord));
    const auto size = read_plain<uint64_t>(payload.subspan(2 * kWord + i * 2 * kWord));
    if (offset > payload.size() || size > payload.size() - offset) {
      return raise_malformed("buffer outside of the value");
    }
    const auto bytes = payload.subspan(offset, size);
    if (i == count - 1) return checked(unpickle(bytes, buffers.get()));
    PyObject* buffer = whole != nullptr ? make_store_slice(whole, bytes) : make_aligned_copy(bytes);
    if (buffer == nullptr) return nullptr;
    PyTuple_SET_ITEM(buffers.get(), static_cast<Py_ssize_t>(i), buffer);
  }
  return nullptr;
}

PyObject* raise_task_error(std::span<const std::byte> payload) {
  const Owned description(unpickle(payload, nullptr));
  if (!description) return nullptr;
  PyObject* decode_failure = serialization_module().decode_failure;
  Owned failure(PyObject_CallOneArg(decode_failure, description.get()));
  if (!failure) return nullptr;
  return raise_from_hook("task_error", Owned(PyTuple_Pack(1, failure.get())));
}

PyObject* raise_received_system_error(std::span<const std::byte> payload) {
  const auto fixed = read_plain<wire::SystemErrorPayload>(payload);
  const auto text = payload.subspan(sizeof fixed);
  return raise_system_error(fixed.code, {reinterpret_cast<const char*>(text.data()), text.size()});
}

PyObject* raise_dependency_error(std::span<const std::byte> payload) {
  const auto fixed = read_plain<wire::DependencyErrorPayload>(payload);
  if (fixed.name_size > payload.size() - sizeof fixed) return raise_malformed("name too long");
  const auto name = payload.subspan(sizeof fixed, fixed.name_size);
  const auto cause = payload.subspan(sizeof fixed + fixed.name_size);
  if (fixed.kind == ValueKind::kTaskError) {
    raise_task_error(cause);
  } else if (fixed.kind == ValueKind::kSystemError &&
             cause.size() >= sizeof(wire::SystemErrorPayload)) {
    raise_received_system_error(cause);
  } else {
    return raise_malformed("an argument's error of another kind");
  }
  Owned error = take_exception();
  Owned text = to_text({reinterpret_cast<const char*>(name.data()), name.size()});
  if (!error || !text) return nullptr;
  return raise_from_hook("dependency_error", Owned(PyTuple_Pack(2, text.get(), error.get())));
}

// `whole` is the StoreView that the payload lies in, or nullptr.
PyObject* decode_payload(ValueKind kind, std::span<const std::byte> payload, const RefTable& table,
                         PyObject* whole) {
  const auto* text = reinterpret_cast<const char*>(payload.data());
  switch (kind) {
    case ValueKind::kNone:
      return Py_NewRef(Py_None);
    case ValueKind::kTrue:
      return Py_NewRef(Py_True);
    case ValueKind::kFalse:
      return Py_NewRef(Py_False);
    case ValueKind::kInt64:
      return PyLong_FromLongLong(read_plain<int64_t>(payload));
    case ValueKind::kFloat64:
      return PyFloat_FromDouble(read_plain<double>(payload));
    case ValueKind::kString:
      return PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(payload.size()), nullptr);
    case ValueKind::kBytes:
      return copy_to_bytes(payload);
    case ValueKind::kSystemError:
      return raise_received_system_error(payload);
    case ValueKind::kPickle: {
      const TableScope scope(table);
      return checked(unpickle(payload, nullptr));
    }
    case ValueKind::kPickleWithBuffers: {
      const TableScope scope(table);
      return unpickle_with_buffers(payload, whole);
    }
    case ValueKind::kTaskError: {
      const TableScope scope(table);
      return raise_task_error(payload);
    }
    case ValueKind::kDependencyError: {
      const TableScope scope(table);
      return raise_dependency_error(payload);
    }
    case ValueKind::kKeywordNames:
    case ValueKind::kReference:
    case ValueKind::kInStore:
      break;
  }
  return raise_malformed("of a kind that has no value");
}

// The objects among `given` (or inside the first of them) that `stored` names, in its order.
bool match_refs(const wire::ValueView& stored, std::span<Object* const> given,
                std::span<Object* const>& matched) {
  const uint32_t count = stored.header.ref_count;
  const auto matches = [&](std::span<Object* const> candidates) {
    if (candidates.size() < count) return false;
    matched = candidates.last(count);
    for (uint32_t i = 0; i < count; ++i) {
      if (matched[i]->id != stored.ref(i)) return false;
    }
    return true;
  };
  if (matches(given)) return true;
  return !given.empty() && given[0]->is_ready() && matches(given[0]->inner);
}

// The value in pinned store memory. Takes over the pin, and one count of `holder`, which keeps the
// bytes (nullptr: the pin alone does).
PyObject* decode_pinned(Session& session, const process::Runtime::Pinned& pinned, Object* holder,
                        std::span<Object* const> refs) {
  const Owned whole(make_store_view(session, pinned, holder));
  if (!whole) return nullptr;
  size_t offset = 0;
  const Result<wire::ValueView> stored = wire::read_value(pinned.bytes, offset);
  if (!stored) return raise_malformed(stored.error().message.c_str());
  RefTable table{.session = &session};
  if (!match_refs(*stored, refs, table.objects)) {
    return raise_malformed("the refs inside a stored value are not known here");
  }
  return decode_payload(stored->header.kind, stored->payload, table, whole.get());
}

}  // namespace

// The refs inside a value, kept while it is decoded: another thread may replace it, if its bytes are
// lost to that one.
class KeptObjects {
 public:
  KeptObjects(Session& session, std::span<Object* const> objects)
      : session_(session), objects_(objects.begin(), objects.end()) {
    for (Object* object : objects_) object->retain();
  }
  ~KeptObjects() {
    for (Object* object : objects_) session_.runtime->drop(object);
  }
  KeptObjects(const KeptObjects&) = delete;
  KeptObjects& operator=(const KeptObjects&) = delete;

  std::span<Object* const> objects() const { return objects_; }

 private:
  Session& session_;
  const std::vector<Object*> objects_;
};

// Lost bytes are made again so often in one call: they should not get lost all the time.
constexpr int kRecoveriesMax = 5;

// Waits for an object that was ready before. False with an exception set.
bool wait_again(Session& session, Object* object, const std::optional<Instant>& deadline) {
  PythonGate gate;
  const process::Waited waited = session.runtime->wait({&object, 1}, 1, deadline, gate);
  if (waited == process::Waited::kTimeout) raise_get_timeout();
  return waited == process::Waited::kEnough;
}

// The error that stands for a lost value, with what was found in its place.
PyObject* raise_lost(std::span<const std::byte> error, const std::string& found) {
  std::vector<std::byte> bytes(error.begin(), error.end());
  const std::string sentence = " Its bytes could not be read: " + found + ".";
  const auto* begin = reinterpret_cast<const std::byte*>(sentence.data());
  bytes.insert(bytes.end(), begin, begin + sentence.size());
  return raise_received_system_error(bytes);
}

PyObject* decode_object(Session& session, Object* object, const std::optional<Instant>& deadline) {
  std::string found;  // In the place of the value, if not the value.
  for (int recoveries = 0;; ++recoveries) {
    if (!object->is_ready() && !wait_again(session, object, deadline)) return nullptr;
    const process::StoredValue& value = object->value;
    if (value.kind() != ValueKind::kInStore) [[likely]] {
      if (!found.empty() && value.kind() == ValueKind::kSystemError) [[unlikely]] {
        return raise_lost(value.payload(), found);
      }
      if (wire::is_error(value.kind())) [[unlikely]] {
        object->note_seen();
      }
      const RefTable table{.session = &session, .objects = object->inner};
      return decode_payload(value.kind(), value.payload(), table, nullptr);
    }
    const auto location = read_plain<wire::StoreLocation>(value.payload());
    PythonGate gate;
    const Result<process::Runtime::Pinned> pinned =
        session.runtime->open_stored(*object, deadline, gate);
    if (pinned.has_value()) {
      const KeptObjects inner(session, object->inner);
      object->retain();
      return decode_pinned(session, *pinned, object, inner.objects());
    }
    const bool full = pinned.error().code == ErrorCode::kRetryLater && !PyErr_Occurred();
    if (full && deadline && monotonic_now() >= *deadline) return raise_get_timeout();
    const bool lost = pinned.error().code == ErrorCode::kNotFound && !PyErr_Occurred();
    if (!lost || recoveries == kRecoveriesMax) return raise_error(pinned.error());
    found = pinned.error().message;
    session.runtime->recover(*object, location);
  }
}

PyObject* decode_value(Session& session, const wire::ValueView& value,
                       std::span<Object* const> refs) {
  if (value.header.kind != ValueKind::kInStore) [[likely]] {
    const RefTable table{.session = &session, .objects = refs};
    return decode_payload(value.header.kind, value.payload, table, nullptr);
  }
  const auto location = read_plain<wire::StoreLocation>(value.payload);
  PythonGate gate;
  Object* holder = refs.empty() ? nullptr : refs[0];
  const Result<process::Runtime::Pinned> pinned =
      session.runtime->open_location(location, std::nullopt, gate);
  if (!pinned) {
    const bool lost = pinned.error().code == ErrorCode::kNotFound && !PyErr_Occurred();
    if (!lost || holder == nullptr) return raise_error(pinned.error());
    session.runtime->recover(*holder, location);
    return decode_object(session, holder);
  }
  if (holder != nullptr) holder->retain();
  return decode_pinned(session, *pinned, holder, refs);
}

PyObject* load_ref(PyObject* index) {
  const size_t position = PyLong_AsSize_t(index);
  if (position == static_cast<size_t>(-1) && PyErr_Occurred()) return nullptr;
  const RefTable* table = current_table;
  if (table == nullptr) {
    PyErr_SetString(PyExc_RuntimeError,
                    "a pickled ObjectRef can only be loaded as part of the value that it was "
                    "pickled in");
    return nullptr;
  }
  if (table->test_refs != nullptr) {
    PyObject* ref = PyTuple_GetItem(table->test_refs, static_cast<Py_ssize_t>(position));
    return Py_XNewRef(ref);
  }
  if (position >= table->objects.size()) return raise_malformed("it names a ref that is not there");
  Object* object = table->objects[position];
  object->retain();
  return make_ref(*table->session, object);
}

PyObject* decode_for_test(std::span<const std::byte> bytes, PyObject* refs) {
  const Owned tuple(PySequence_Tuple(refs));
  if (!tuple) return nullptr;
  size_t offset = 0;
  const Result<wire::ValueView> value = wire::read_value(bytes, offset);
  if (!value) return raise_malformed(value.error().message.c_str());
  if (offset != bytes.size()) return raise_malformed("bytes behind its end");
  const RefTable table{.test_refs = tuple.get()};
  return decode_payload(value->header.kind, value->payload, table, nullptr);
}

}  // namespace mobula::python
