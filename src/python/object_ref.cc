#include "python/object_ref.h"

#include <array>
#include <cstddef>
#include <string>

#include "python/await.h"
#include "python/pickling.h"

namespace mobula::python {

namespace {

// Programs look at the length of ids: 28 bytes, of which 24 name the task.
constexpr size_t kIdBytes = 28;
constexpr size_t kTaskIdBytes = 24;

using IdBytes = std::array<unsigned char, kIdBytes>;

// Big-endian, so that ids sort and read like their numbers.
IdBytes id_bytes(ObjectId id) {
  IdBytes bytes{};
  const uint64_t high = (uint64_t{number(id.node)} << 32) | number(id.creator);
  for (size_t i = 0; i < 8; ++i) {
    bytes[i] = static_cast<unsigned char>(high >> (56 - 8 * i));
    bytes[8 + i] = static_cast<unsigned char>(id.index >> (56 - 8 * i));
  }
  return bytes;
}

std::string hex_digits(const IdBytes& bytes, size_t count) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * count);
  for (size_t i = 0; i < count; ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

void ref_dealloc(PyObject* self) {
  RefObject* ref = as_ref(self);
  if (ref->weak_refs != nullptr) PyObject_ClearWeakRefs(self);
  // In a forked child there is no session.
  if (open_session != nullptr && open_session->number == ref->session) {
    open_session->runtime->drop(ref->object);
  }
  PyObject_Free(self);
}

Py_hash_t ref_hash(PyObject* self) {
  const auto hash = static_cast<Py_hash_t>(ObjectIdHash{}(as_ref(self)->id));
  return hash == -1 ? -2 : hash;
}

PyObject* ref_compare(PyObject* self, PyObject* other, int operation) {
  if ((operation != Py_EQ && operation != Py_NE) || !is_ref(other)) Py_RETURN_NOTIMPLEMENTED;
  const bool equal = as_ref(self)->id == as_ref(other)->id;
  return PyBool_FromLong(equal == (operation == Py_EQ));
}

PyObject* ref_hex(PyObject* self, PyObject*) {
  return PyUnicode_FromString(hex_digits(id_bytes(as_ref(self)->id), kIdBytes).c_str());
}

PyObject* ref_repr(PyObject* self) {
  return PyUnicode_FromFormat("ObjectRef(%s)",
                              hex_digits(id_bytes(as_ref(self)->id), kIdBytes).c_str());
}

PyObject* ref_binary(PyObject* self, PyObject*) {
  const IdBytes bytes = id_bytes(as_ref(self)->id);
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(bytes.data()), kIdBytes);
}

PyObject* ref_size(PyObject*, PyObject*) { return PyLong_FromSize_t(kIdBytes); }
PyObject* ref_is_nil(PyObject* self, PyObject*) {
  return PyBool_FromLong(as_ref(self)->id.is_nil());
}

PyObject* ref_task_id(PyObject* self, PyObject*) {
  ObjectId first = as_ref(self)->id;
  first.index -= as_ref(self)->return_index;
  return call_hook("task_id", Owned(Py_BuildValue("(N)", task_hex(first))));
}

PyObject* ref_job_id(PyObject*, PyObject*) {
  Session* session = require_session();
  if (session == nullptr) return nullptr;
  char text[16];
  std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(number(session->runtime->job())));
  return call_hook("job_id", Owned(Py_BuildValue("(s)", text)));
}

PyObject* ref_on_completed(PyObject* self, PyObject* callback) {
  const Owned done(call_hook("on_completed", Owned(PyTuple_Pack(2, self, callback))));
  return done ? Py_NewRef(self) : nullptr;
}

PyObject* ref_reduce(PyObject* self, PyObject*) { return reduce_ref(self); }

PyObject* ref_call_site(PyObject* self, PyObject*) {
  return call_hook("made_at", Owned(PyTuple_Pack(1, self)));
}
PyObject* ref_future(PyObject* self, PyObject*) {
  return call_hook("future", Owned(PyTuple_Pack(1, self)));
}

PyObject* ref_as_future(PyObject* self, PyObject*) {
  return call_hook("as_future", Owned(PyTuple_Pack(1, self)));
}

PyAsyncMethods ref_async = {await_ref, nullptr, nullptr, nullptr};

PyObject* ref_itself(PyObject* self, PyObject*) {
  Py_INCREF(self);
  return self;
}

PyMethodDef ref_methods[] = {
    {"hex", ref_hex, METH_NOARGS, "56 hexadecimal digits."},
    {"binary", ref_binary, METH_NOARGS, "28 bytes."},
    {"is_nil", ref_is_nil, METH_NOARGS, "Does it name nothing?"},
    {"size", ref_size, METH_NOARGS | METH_STATIC, "Bytes of an id: 28."},
    {"task_id", ref_task_id, METH_NOARGS, "The task that makes the value, hexadecimal."},
    {"job_id", ref_job_id, METH_NOARGS, "The job that this process works for, hexadecimal."},
    {"call_site", ref_call_site, METH_NOARGS,
     "The lines that made it, with MOBULA_RECORD_CALL_SITE=1; else empty."},
    {"future", ref_future, METH_NOARGS, "A concurrent.futures.Future of the value."},
    {"_on_completed", ref_on_completed, METH_O, "Calls back with the value, or the error."},
    {"as_future", ref_as_future, METH_NOARGS, "An asyncio.Future of the value."},
    {"__reduce__", ref_reduce, METH_NOARGS, nullptr},
    {"__copy__", ref_itself, METH_NOARGS, nullptr},
    {"__deepcopy__", ref_itself, METH_O, nullptr},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyTypeObject ref_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

bool init_ref_type() {
  ref_type.tp_name = "mobula.ObjectRef";
  ref_type.tp_doc = "Names a value that exists now or later.";
  ref_type.tp_basicsize = sizeof(RefObject);
  ref_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  ref_type.tp_dealloc = ref_dealloc;
  ref_type.tp_hash = ref_hash;
  ref_type.tp_repr = ref_repr;
  ref_type.tp_richcompare = ref_compare;
  ref_type.tp_methods = ref_methods;
  ref_type.tp_as_async = &ref_async;
  ref_type.tp_weaklistoffset = offsetof(RefObject, weak_refs);
  return PyType_Ready(&ref_type) == 0 && init_await_type();
}

PyObject* make_ref(Session& session, process::Object* object, uint32_t return_index) {
  RefObject* ref = PyObject_New(RefObject, &ref_type);
  if (ref == nullptr) {
    session.runtime->drop(object);
    return nullptr;
  }
  ref->id = object->id;
  ref->object = object;
  ref->session = session.number;
  ref->return_index = return_index;
  ref->weak_refs = nullptr;
  return reinterpret_cast<PyObject*>(ref);
}

PyObject* new_ref_for_test(PyObject*, PyObject* index) {
  const uint64_t plain = PyLong_AsUnsignedLongLong(index);
  if (PyErr_Occurred()) return nullptr;
  RefObject* ref = PyObject_New(RefObject, &ref_type);
  if (ref == nullptr) return nullptr;
  ref->id = ObjectId{.index = plain};
  ref->object = nullptr;
  ref->session = 0;
  ref->return_index = 0;
  ref->weak_refs = nullptr;
  return reinterpret_cast<PyObject*>(ref);
}

bool check_session(const RefObject* ref, const Session& session) {
  if (ref->session == session.number) [[likely]] {
    return true;
  }
  PyErr_Format(PyExc_ValueError,
               "%R belongs to a session that has ended: shutdown() was called since it was made",
               reinterpret_cast<const PyObject*>(ref));
  return false;
}

Session* require_session_of(PyObject* maybe_ref) {
  if (!is_ref(maybe_ref)) return require_session();
  if (open_session == nullptr && !forked_child) {
    const Owned open(call_hook("require_session", Owned(PyTuple_New(0))));
    if (!open) return nullptr;
  }
  Session* open = require_session();
  return open != nullptr && check_session(as_ref(maybe_ref), *open) ? open : nullptr;
}

PyObject* task_hex(ObjectId first_return) {
  return PyUnicode_FromString(hex_digits(id_bytes(first_return), kTaskIdBytes).c_str());
}

}  // namespace mobula::python
