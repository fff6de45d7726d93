#include "python/store_view.h"

#include <cstring>
#include <memory>
#include <new>

#include "process/private_bytes.h"

namespace mobula::python {

namespace {

constexpr size_t kAlignment = 64;
// Copies at least this long let other Python threads run meanwhile. Bytes.
constexpr size_t kCopyWithoutGilMin = size_t{256} << 10;

struct ViewObject {
  PyObject_HEAD const std::byte* data;
  size_t size;
  PyObject* whole;   // Of a slice.
  Session* session;  // Of a whole value; counted in its users.
  process::Object* object;
  uint64_t pin;
  shm::PrivateMapping* mapped;  // Of a whole value.
  bool writable;
};

extern PyTypeObject view_type;

ViewObject* as_view(PyObject* object) { return reinterpret_cast<ViewObject*>(object); }

void release(Session* session, uint64_t pin, process::Object* object) {
  if (forked_child) return;
  const SessionUse use(session);
  --session->users;  // The view's own.
  if (session->closed) return;
  session->runtime->unpin(pin);
  if (object != nullptr) session->runtime->drop(object);
}

void view_dealloc(PyObject* self) {
  ViewObject* view = as_view(self);
  delete view->mapped;
  if (view->session != nullptr) release(view->session, view->pin, view->object);
  Py_XDECREF(view->whole);
  PyObject_Free(self);
}

int view_get_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  ViewObject* view = as_view(self);
  // The buffer protocol has no const; `readonly` is what stands for it.
  return PyBuffer_FillInfo(buffer, self, const_cast<std::byte*>(view->data),
                           static_cast<Py_ssize_t>(view->size), view->writable ? 0 : 1, flags);
}

Py_ssize_t view_length(PyObject* self) { return static_cast<Py_ssize_t>(as_view(self)->size); }

PyBufferProcs view_buffer_procs = {view_get_buffer, nullptr};
PySequenceMethods view_sequence_methods = {};

PyTypeObject view_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

void set_up(ViewObject* view, std::span<const std::byte> bytes) {
  view->data = bytes.data();
  view->size = bytes.size();
  view->whole = nullptr;
  view->session = nullptr;
  view->object = nullptr;
  view->pin = 0;
  view->mapped = nullptr;
  view->writable = false;
}

ViewObject* make_view(std::span<const std::byte> bytes) {
  ViewObject* view = PyObject_New(ViewObject, &view_type);
  if (view != nullptr) set_up(view, bytes);
  return view;
}

PyObject* make_writable_copy(std::span<const std::byte> bytes) {
  PyObject* copy = make_aligned_copy(bytes);
  if (copy != nullptr) as_view(copy)->writable = true;
  return copy;
}

// False: there is no private mapping.
bool map_privately(ViewObject* whole) {
  if (whole->mapped != nullptr) return true;
  if (forked_child || whole->session == nullptr || whole->session->closed) return false;
  auto mapped = process::map_private(*whole->session->runtime, whole->pin);
  if (!mapped) return false;
  whole->mapped = new shm::PrivateMapping(std::move(*mapped));  // Deleted with the view.
  return true;
}

}  // namespace

PyObject* make_store_view(Session& session, const process::Runtime::Pinned& pinned,
                          process::Object* object) {
  ++session.users;
  ViewObject* view = make_view(pinned.bytes);
  if (view == nullptr) {
    release(&session, pinned.pin, object);
    return nullptr;
  }
  view->session = &session;
  view->object = object;
  view->pin = pinned.pin;
  return reinterpret_cast<PyObject*>(view);
}

PyObject* make_store_slice(PyObject* view, std::span<const std::byte> bytes) {
  ViewObject* slice = make_view(bytes);
  if (slice == nullptr) return nullptr;
  slice->whole = Py_NewRef(view);
  return reinterpret_cast<PyObject*>(slice);
}

PyObject* make_aligned_copy(std::span<const std::byte> bytes) {
  // The bytes lie behind the object, in the same block.
  void* block = PyObject_Malloc(sizeof(ViewObject) + kAlignment - 1 + bytes.size());
  if (block == nullptr) return PyErr_NoMemory();
  auto* view = as_view(PyObject_Init(static_cast<PyObject*>(block), &view_type));
  const uintptr_t end = reinterpret_cast<uintptr_t>(block) + sizeof(ViewObject);
  auto* to = reinterpret_cast<std::byte*>((end + kAlignment - 1) / kAlignment * kAlignment);
  if (bytes.size() >= kCopyWithoutGilMin) {
    const WithoutGil others_run;
    std::memcpy(to, bytes.data(), bytes.size());
  } else if (!bytes.empty()) {
    std::memcpy(to, bytes.data(), bytes.size());
  }
  set_up(view, {to, bytes.size()});
  return reinterpret_cast<PyObject*>(view);
}

PyObject* private_buffer(PyObject* buffer) {
  if (Py_TYPE(buffer) != &view_type) {
    Py_buffer seen;
    if (PyObject_GetBuffer(buffer, &seen, PyBUF_SIMPLE) != 0) return nullptr;
    PyObject* writable = seen.readonly == 0
                             ? Py_NewRef(buffer)
                             : make_writable_copy({static_cast<const std::byte*>(seen.buf),
                                                   static_cast<size_t>(seen.len)});
    PyBuffer_Release(&seen);
    return writable;
  }
  ViewObject* view = as_view(buffer);
  if (view->writable) return Py_NewRef(buffer);
  if (view->whole == nullptr && view->session == nullptr) {  // A copy, which only its user has.
    view->writable = true;
    return Py_NewRef(buffer);
  }
  ViewObject* whole = view->whole != nullptr ? as_view(view->whole) : view;
  if (!map_privately(whole)) return make_writable_copy({view->data, view->size});
  const std::byte* bytes = whole->mapped->data() + (view->data - whole->data);
  PyObject* slice = make_store_slice(reinterpret_cast<PyObject*>(whole), {bytes, view->size});
  if (slice != nullptr) as_view(slice)->writable = true;
  return slice;
}

bool init_store_view_type() {
  view_sequence_methods.sq_length = view_length;
  view_type.tp_name = "mobula._core.StoreView";
  view_type.tp_doc =
      "Bytes of a value, in the object store if they are many; read-only but for pandas.";
  view_type.tp_basicsize = sizeof(ViewObject);
  view_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  view_type.tp_dealloc = view_dealloc;
  view_type.tp_as_buffer = &view_buffer_procs;
  view_type.tp_as_sequence = &view_sequence_methods;
  return PyType_Ready(&view_type) == 0;
}

}  // namespace mobula::python
