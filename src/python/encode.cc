#include "python/encode.h"

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "python/object_ref.h"

namespace mobula::python {

namespace {

using process::Object;
using wire::ValueHeader;
using wire::ValueKind;

constexpr size_t kBufferAlignment = 64;
// Copies at least this long let other Python threads run meanwhile. Bytes.
constexpr size_t kCopyWithoutGilMin = size_t{256} << 10;

constexpr size_t aligned(size_t size) {
  return (size + kBufferAlignment - 1) & ~(kBufferAlignment - 1);
}

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span<const T, 1>(&value, 1));
}

std::span<const std::byte> buffer_bytes(const Owned& buffer) {
  const Py_buffer* view = PyPickleBuffer_GetBuffer(buffer.get());
  return {static_cast<const std::byte*>(view->buf), static_cast<size_t>(view->len)};
}

std::span<const std::byte> chunk_bytes(const PickleChunk& chunk) {
  const auto* data = reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(chunk.bytes.get()));
  return {data, static_cast<size_t>(PyBytes_GET_SIZE(chunk.bytes.get()))};
}

// With its chunks.
size_t body_size(const Payload& payload) {
  size_t size = payload.body.size();
  for (const PickleChunk& chunk : payload.chunks) size += chunk_bytes(chunk).size();
  return size;
}

// One run of bytes and its place in a value.
struct Piece {
  size_t offset;
  std::span<const std::byte> bytes;
};

// Where everything of a value goes. What lies between pieces is filling.
class Layout {
 public:
  explicit Layout(const Payload& payload) {
    const size_t start = sizeof(ValueHeader) + payload.refs.size() * sizeof(ObjectId);
    size_ = start;
    if (payload.buffers.empty()) {
      add_body(payload);
    } else {
      add_with_buffers(payload, start);
    }
    header_ = {.size = size_ - start,
               .ref_count = static_cast<uint32_t>(payload.refs.size()),
               .kind = payload.kind,
               .reserved = {}};
    head_.resize(start);
    std::memcpy(head_.data(), &header_, sizeof header_);
    std::byte* ids = head_.data() + sizeof header_;
    for (const Owned& ref : payload.refs) {
      std::memcpy(ids, &as_ref(ref.get())->id, sizeof(ObjectId));
      ids += sizeof(ObjectId);
    }
    pieces_.push_back({0, head_});
  }

  size_t size() const { return size_; }
  std::span<const Piece> pieces() const { return pieces_; }

 private:
  void add(std::span<const std::byte> bytes) {
    pieces_.push_back({size_, bytes});
    size_ += bytes.size();
  }

  void add_body(const Payload& payload) {
    size_t added = 0;
    for (const PickleChunk& chunk : payload.chunks) {
      add(payload.body.subspan(added, chunk.at - added));
      add(chunk_bytes(chunk));
      added = chunk.at;
    }
    add(payload.body.subspan(added));
  }

  void add_with_buffers(const Payload& payload, size_t start) {
    const size_t count = payload.buffers.size() + 1;
    table_.reserve(1 + 2 * count);
    table_.push_back(count);
    size_ += (1 + 2 * count) * sizeof(uint64_t);
    const size_t pickle_offset = size_ - start;
    add_body(payload);
    for (const Owned& buffer : payload.buffers) {
      size_ = aligned(size_);
      const auto bytes = buffer_bytes(buffer);
      table_.push_back(size_ - start);
      table_.push_back(bytes.size());
      add(bytes);
    }
    table_.push_back(pickle_offset);
    table_.push_back(body_size(payload));
    pieces_.push_back({start, std::as_bytes(std::span(table_))});
  }

  size_t size_ = 0;
  ValueHeader header_{};
  std::vector<std::byte> head_;
  std::vector<uint64_t> table_;
  std::vector<Piece> pieces_;
};

// A value that needs no pickle: its bytes are in the object or in `number`.
bool take_plain(PyObject* value, Payload& payload, std::array<std::byte, 8>& number) {
  const auto set = [&](ValueKind kind, const void* data, size_t size) {
    payload.kind = kind;
    payload.body = {static_cast<const std::byte*>(data), size};
    return true;
  };
  const auto set_number = [&](ValueKind kind, const auto& plain) {
    std::memcpy(number.data(), &plain, 8);
    return set(kind, number.data(), 8);
  };
  if (PyLong_CheckExact(value)) {
    int overflow = 0;
    const long long plain = PyLong_AsLongLongAndOverflow(value, &overflow);
    return overflow == 0 && set_number(ValueKind::kInt64, plain);
  }
  if (value == Py_None) return set(ValueKind::kNone, nullptr, 0);
  if (value == Py_True) return set(ValueKind::kTrue, nullptr, 0);
  if (value == Py_False) return set(ValueKind::kFalse, nullptr, 0);
  if (PyFloat_CheckExact(value)) return set_number(ValueKind::kFloat64, PyFloat_AS_DOUBLE(value));
  if (PyUnicode_CheckExact(value)) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text != nullptr) return set(ValueKind::kString, text, static_cast<size_t>(size));
    PyErr_Clear();  // Lone surrogates: pickle knows what to do.
    return false;
  }
  if (PyBytes_CheckExact(value)) {
    return set(ValueKind::kBytes, PyBytes_AS_STRING(value),
               static_cast<size_t>(PyBytes_GET_SIZE(value)));
  }
  return false;
}

Payload payload_of(const PicklerLease& lease) {
  const ValueKind kind =
      lease.buffers().empty() ? ValueKind::kPickle : ValueKind::kPickleWithBuffers;
  return {kind, lease.pickle(), lease.chunks(), lease.buffers(), lease.refs()};
}

void copy_pieces(const Layout& layout, process::StoreWrite& write) {
  for (const Piece& piece : layout.pieces()) {
    if (!piece.bytes.empty()) write.copy(piece.offset, piece.bytes);
  }
}

// False with an exception set.
bool write_to_store(Session& session, const Layout& layout, process::StoreWrite& write) {
  PythonGate gate;
  Result<process::StoreWrite> begun = session.runtime->begin_store(layout.size(), gate);
  if (!begun) return raise_error(begun.error()) != nullptr;
  write = *begun;
  if (layout.size() >= kCopyWithoutGilMin) {
    const WithoutGil others_run;
    copy_pieces(layout, write);
  } else {
    copy_pieces(layout, write);
  }
  return true;
}

// With a count of each, for whoever takes them.
std::vector<Object*> retained(std::span<const Owned> refs) {
  std::vector<Object*> objects;
  objects.reserve(refs.size());
  for (const Owned& ref : refs) {
    objects.push_back(as_ref(ref.get())->object);
    objects.back()->retain();
  }
  return objects;
}

std::vector<std::byte> laid_out(const Layout& layout) {
  std::vector<std::byte> bytes(layout.size());
  for (const Piece& piece : layout.pieces()) {
    if (!piece.bytes.empty()) {
      std::memcpy(bytes.data() + piece.offset, piece.bytes.data(), piece.bytes.size());
    }
  }
  return bytes;
}

}  // namespace

Encoder::~Encoder() {
  for (Object* object : values_.refs) session_.runtime->drop(object);
  for (process::StoreWrite& write : stored_) session_.runtime->abandon_store(write);
}

// Room for a value at the end; returns where its refs start, behind which its payload lies.
std::byte* Encoder::append(ValueKind kind, size_t payload_size, size_t ref_count) {
  const size_t start = values_.bytes.size();
  const size_t size = sizeof(ValueHeader) + ref_count * sizeof(ObjectId) + payload_size;
  values_.bytes.resize(start + wire::padded(size));
  const ValueHeader header{.size = payload_size,
                           .ref_count = static_cast<uint32_t>(ref_count),
                           .kind = kind,
                           .reserved = {}};
  std::memcpy(values_.bytes.data() + start, &header, sizeof header);
  ++values_.value_count;
  return values_.bytes.data() + start + sizeof header;
}

// Takes over one count of `object`.
void Encoder::add_reference(Object* object) {
  std::byte* id = append(ValueKind::kReference, 0, 1);
  std::memcpy(id, &object->id, sizeof(ObjectId));
  values_.refs.push_back(object);
}

bool Encoder::add(PyObject* value, Large large) {
  Payload payload;
  std::array<std::byte, 8> number;
  if (take_plain(value, payload, number)) return place(payload, large);
  PicklerLease lease;
  return lease.dump(value) && place(payload_of(lease), large);
}

bool Encoder::place(const Payload& payload, Large large) {
  for (const Owned& ref : payload.refs) {
    if (!check_session(as_ref(ref.get()), session_)) return false;
  }
  const size_t short_size =
      sizeof(ValueHeader) + payload.refs.size() * sizeof(ObjectId) + body_size(payload);
  if (payload.buffers.empty() && short_size <= wire::kInlineValueBytesMax) [[likely]] {
    std::byte* at = append(payload.kind, payload.body.size(), payload.refs.size());
    for (const Owned& ref : payload.refs) {
      std::memcpy(at, &as_ref(ref.get())->id, sizeof(ObjectId));
      at += sizeof(ObjectId);
    }
    if (!payload.body.empty()) std::memcpy(at, payload.body.data(), payload.body.size());
  } else {
    const Layout layout(payload);
    if (layout.size() > wire::kInlineValueBytesMax) {
      value_bytes_ = layout.size();
      const bool is_function = large == Large::kLocationAndRef;
      if (large == Large::kRefuse || (is_function && layout.size() > kFunctionBytesMax)) {
        PyErr_SetString(PyExc_OverflowError, "the value is too large");
        return false;
      }
      process::StoreWrite write;
      if (!write_to_store(session_, layout, write)) return false;
      return add_stored(write, retained(payload.refs), large);
    }
    add_encoded(laid_out(layout));
  }
  for (Object* object : retained(payload.refs)) values_.refs.push_back(object);
  return true;
}

// Takes over `write` and the counts of `refs`, which are named in it.
bool Encoder::add_stored(process::StoreWrite& write, std::vector<Object*> refs, Large large) {
  if (large == Large::kReference) {
    Object* object = session_.runtime->put_stored(write, std::move(refs));
    note_call_site(session_, {&object, 1}, "argument");
    add_reference(object);
    return true;
  }
  const wire::StoreLocation location = write.location;
  if (large == Large::kLocationAndRef) {
    for (Object* object : refs) object->retain();
    std::vector<Object*> named = refs;
    named.insert(named.begin(), session_.runtime->put_stored(write, std::move(refs)));
    add_location(location, named);
    return true;
  }
  add_location(location, refs);
  stored_.push_back(write);
  return true;
}

// Takes over a count of each ref.
void Encoder::add_location(const wire::StoreLocation& location, std::span<Object* const> refs) {
  std::byte* at = append(ValueKind::kInStore, sizeof location, refs.size());
  for (Object* object : refs) {
    std::memcpy(at, &object->id, sizeof(ObjectId));
    at += sizeof(ObjectId);
    values_.refs.push_back(object);
  }
  std::memcpy(at, &location, sizeof location);
}

bool Encoder::add_argument(PyObject* value) {
  if (!is_ref(value)) return add(value, Large::kReference);
  RefObject* ref = as_ref(value);
  if (!check_session(ref, session_)) return false;
  ref->object->retain();
  add_reference(ref->object);
  return true;
}

bool Encoder::add_keyword_names(PyObject* names, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    Py_ssize_t size = 0;
    const char* name =
        PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(names, static_cast<Py_ssize_t>(i)), &size);
    if (name == nullptr) return false;
    const std::string_view view(name, static_cast<size_t>(size));
    if (view.find('\0') != std::string_view::npos) {
      PyErr_SetString(PyExc_ValueError, "a keyword argument's name contains a NUL character");
      return false;
    }
    if (i > 0) text += '\0';
    text += view;
  }
  std::byte* at = append(ValueKind::kKeywordNames, text.size(), 0);
  std::memcpy(at, text.data(), text.size());
  values_.keyword_count = static_cast<uint32_t>(count);
  return true;
}

bool Encoder::add_result(PyObject* value) { return add(value, Large::kLocation); }

bool Encoder::add_function(PyObject* function) { return add(function, Large::kLocationAndRef); }

bool Encoder::add_task_error(PyObject* description) {
  PicklerLease lease;
  return lease.dump_in_band(description) &&
         place({ValueKind::kTaskError, lease.pickle(), {}, {}, lease.refs()}, Large::kRefuse);
}

void Encoder::add_system_error(wire::SystemErrorCode code, std::string_view text) {
  const wire::SystemErrorPayload fixed{.code = code, .reserved = 0};
  std::byte* at = append(ValueKind::kSystemError, sizeof fixed + text.size(), 0);
  std::memcpy(at, &fixed, sizeof fixed);
  std::memcpy(at + sizeof fixed, text.data(), text.size());
}

void Encoder::add_encoded(std::span<const std::byte> value) {
  values_.bytes.insert(values_.bytes.end(), value.begin(), value.end());
  values_.bytes.resize(wire::padded(values_.bytes.size()));
  ++values_.value_count;
}

Object* put_value(Session& session, PyObject* value) {
  Encoder encoder(session);
  if (!encoder.add(value, Encoder::Large::kReference)) return nullptr;
  process::PackedValues packed = encoder.take();
  // The reference to what add() has put into the store already: its count is ours.
  ValueHeader header;
  std::memcpy(&header, packed.bytes.data(), sizeof header);
  if (header.kind == ValueKind::kReference) return packed.refs[0];
  return session.runtime->put(std::move(packed));
}

PyObject* encode_for_test(PyObject* value) {
  Payload payload;
  std::array<std::byte, 8> number;
  PicklerLease lease;
  if (!take_plain(value, payload, number)) {
    if (!lease.dump(value)) return nullptr;
    payload = payload_of(lease);
  }
  const std::vector<std::byte> bytes = laid_out(Layout(payload));
  const Owned refs(PyList_New(0));
  for (const Owned& ref : payload.refs) {
    if (!refs || PyList_Append(refs.get(), ref.get()) != 0) return nullptr;
  }
  return Py_BuildValue("y#O", reinterpret_cast<const char*>(bytes.data()),
                       static_cast<Py_ssize_t>(bytes.size()), refs.get());
}

}  // namespace mobula::python
