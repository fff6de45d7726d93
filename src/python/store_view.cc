#include "python/store_view.h"

#include <optional>

namespace mobula::python {

namespace {

struct ViewObject {
  PyObject_HEAD const std::byte* data;
  size_t size;
  PyObject* whole;   // Of a slice.
  Session* session;  // Of a whole value; counted in its users.
  process::Object* object;
  uint64_t pin;
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
  if (view->session != nullptr) release(view->session, view->pin, view->object);
  Py_XDECREF(view->whole);
  PyObject_Free(self);
}

int view_get_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  ViewObject* view = as_view(self);
  // The buffer protocol has no const; `readonly` is what stands for it.
  return PyBuffer_FillInfo(buffer, self, const_cast<std::byte*>(view->data),
                           static_cast<Py_ssize_t>(view->size), 1, flags);
}

Py_ssize_t view_length(PyObject* self) { return static_cast<Py_ssize_t>(as_view(self)->size); }

PyBufferProcs view_buffer_procs = {view_get_buffer, nullptr};
PySequenceMethods view_sequence_methods = {};

PyTypeObject view_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

ViewObject* make_view(std::span<const std::byte> bytes) {
  ViewObject* view = PyObject_New(ViewObject, &view_type);
  if (view == nullptr) return nullptr;
  view->data = bytes.data();
  view->size = bytes.size();
  view->whole = nullptr;
  view->session = nullptr;
  view->object = nullptr;
  view->pin = 0;
  return view;
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

bool init_store_view_type() {
  view_sequence_methods.sq_length = view_length;
  view_type.tp_name = "mobula._core.StoreView";
  view_type.tp_doc = "Read-only bytes in the object store.";
  view_type.tp_basicsize = sizeof(ViewObject);
  view_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  view_type.tp_dealloc = view_dealloc;
  view_type.tp_as_buffer = &view_buffer_procs;
  view_type.tp_as_sequence = &view_sequence_methods;
  return PyType_Ready(&view_type) == 0;
}

}  // namespace mobula::python
