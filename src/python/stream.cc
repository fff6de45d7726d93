#include "python/stream.h"

#include <utility>

#include "python/object_ref.h"
#include "python/objects.h"

namespace mobula::python {

namespace {

using process::Object;
using process::Waited;

struct StreamObject {
  PyObject_HEAD std::shared_ptr<process::Stream> items;
  PyObject* completed;  // ObjectRef
};

StreamObject* as_stream(PyObject* object) { return reinterpret_cast<StreamObject*>(object); }

bool is_open(const StreamObject* stream) {
  return open_session != nullptr && open_session->number == as_ref(stream->completed)->session;
}

void stream_dealloc(PyObject* self) {
  StreamObject* stream = as_stream(self);
  if (is_open(stream)) open_session->runtime->abandon_stream(*stream->items);
  stream->items.~shared_ptr();
  Py_CLEAR(stream->completed);
  PyObject_Free(self);
}

// nullptr with an exception set.
Session* session_of(StreamObject* stream) { return require_session_of(stream->completed); }

// The next item's ref; None at the end; GetTimeoutError.
PyObject* stream_next(PyObject* self, PyObject* timeout) {
  StreamObject* stream = as_stream(self);
  std::optional<Instant> deadline;
  if (!read_timeout(timeout, deadline)) return nullptr;
  Session* open = session_of(stream);
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  const Owned keep(Py_NewRef(self));
  while (true) {
    Object* item = use.runtime().next_item(*stream->items);
    PythonGate gate;
    const Waited waited =
        item->is_ready() ? Waited::kEnough : use.runtime().wait({&item, 1}, 1, deadline, gate);
    if (waited != Waited::kEnough) {
      use.runtime().drop(item);
      return waited == Waited::kInterrupted ? nullptr : raise_get_timeout();
    }
    if (process::Runtime::is_end_of_stream(*item)) {
      use.runtime().drop(item);
      Py_RETURN_NONE;
    }
    if (use.runtime().take_item(*stream->items, item)) return make_ref(*open, item);
    use.runtime().drop(item);  // Another thread took it.
  }
}

// A ref that is ready when `next` need not wait. Not for getting its value.
PyObject* stream_peek(PyObject* self, PyObject*) {
  StreamObject* stream = as_stream(self);
  Session* open = session_of(stream);
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  return make_ref(*open, use.runtime().next_item(*stream->items));
}

// Does `next` give None now?
PyObject* stream_at_end(PyObject* self, PyObject*) {
  StreamObject* stream = as_stream(self);
  Session* open = session_of(stream);
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  Object* item = use.runtime().next_item(*stream->items);
  const bool at_end = process::Runtime::is_end_of_stream(*item);
  use.runtime().drop(item);
  return PyBool_FromLong(at_end);
}

PyObject* stream_completed(PyObject* self, void*) { return Py_NewRef(as_stream(self)->completed); }

PyMethodDef stream_methods[] = {
    {"next", stream_next, METH_O, "The next item's ref; None at the end."},
    {"peek", stream_peek, METH_NOARGS, "A ref that is ready when `next` need not wait."},
    {"at_end", stream_at_end, METH_NOARGS, "Does `next` give None now?"},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef stream_properties[] = {
    {"completed", stream_completed, nullptr, "A ref that is ready when all items are.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace

PyTypeObject stream_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

bool init_stream_type() {
  stream_type.tp_name = "mobula._core.Stream";
  stream_type.tp_doc = "The items of a generator task.";
  stream_type.tp_basicsize = sizeof(StreamObject);
  stream_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  stream_type.tp_dealloc = stream_dealloc;
  stream_type.tp_methods = stream_methods;
  stream_type.tp_getset = stream_properties;
  return PyType_Ready(&stream_type) == 0;
}

PyObject* make_stream(Session& session, std::shared_ptr<process::Stream> items, Object* completed) {
  Owned ref(make_ref(session, completed));
  if (!ref) return nullptr;
  StreamObject* stream = PyObject_New(StreamObject, &stream_type);
  if (stream == nullptr) return nullptr;
  new (&stream->items) std::shared_ptr<process::Stream>(std::move(items));
  stream->completed = ref.release();
  return reinterpret_cast<PyObject*>(stream);
}

}  // namespace mobula::python
