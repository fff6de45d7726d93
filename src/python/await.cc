#include "python/await.h"

#include "python/object_ref.h"
#include "python/objects.h"
#include "python/serialization_module.h"
#include "python/session.h"

namespace mobula::python {

namespace {

struct AwaitObject {
  PyObject_HEAD PyObject* ref;  // Null once its value was given.
  bool yielded;
};

AwaitObject* as_await(PyObject* object) { return reinterpret_cast<AwaitObject*>(object); }

PyTypeObject await_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

// A coroutine that raises StopIteration would be one that returns.
void hide_stop_iteration() {
  if (PyErr_ExceptionMatches(PyExc_StopIteration) == 0) return;
  const Owned stop = take_exception();
  const Owned error(
      PyObject_CallFunction(PyExc_RuntimeError, "s", "the task raised StopIteration"));
  if (!error) return;
  PyException_SetCause(error.get(), Py_XNewRef(stop.get()));
  PyErr_SetObject(PyExc_RuntimeError, error.get());
}

PySendResult await_send(PyObject* self, PyObject*, PyObject** result) {
  AwaitObject* awaited = as_await(self);
  if (!awaited->yielded) {
    awaited->yielded = true;
    *result = Py_NewRef(Py_None);
    return PYGEN_NEXT;
  }
  const Owned ref(std::exchange(awaited->ref, nullptr));
  if (!ref) {
    *result = nullptr;
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse what was awaited already");
    return PYGEN_ERROR;
  }
  PyObject* refs[] = {ref.get()};
  *result = get(nullptr, refs, 1, nullptr);
  if (*result != nullptr) return PYGEN_RETURN;
  hide_stop_iteration();
  return PYGEN_ERROR;
}

// As Python code calls it: asyncio's own loops use `await_send`.
PyObject* await_next(PyObject* self) {
  PyObject* value = nullptr;
  switch (await_send(self, Py_None, &value)) {
    case PYGEN_NEXT:
      return value;
    case PYGEN_RETURN: {
      const Owned result(value);
      const Owned stop(PyObject_CallOneArg(PyExc_StopIteration, result.get()));
      if (stop) PyErr_SetObject(PyExc_StopIteration, stop.get());
      return nullptr;
    }
    case PYGEN_ERROR:
      break;
  }
  return nullptr;
}

void await_dealloc(PyObject* self) {
  Py_XDECREF(as_await(self)->ref);
  PyObject_Free(self);
}

PyAsyncMethods await_async = {nullptr, nullptr, nullptr, await_send};

// asyncio.get_running_loop, once somebody has awaited.
PyObject* get_running_loop = nullptr;

PyObject* running_loop() {
  if (get_running_loop == nullptr) {
    const Owned module(PyImport_ImportModule("asyncio"));
    if (!module) return nullptr;
    get_running_loop = PyObject_GetAttrString(module.get(), "get_running_loop");
    if (get_running_loop == nullptr) return nullptr;
  }
  return PyObject_CallNoArgs(get_running_loop);
}

}  // namespace

PyObject* await_ready(PyObject*, PyObject* ref) {
  AwaitObject* awaited = PyObject_New(AwaitObject, &await_type);
  if (awaited == nullptr) return nullptr;
  awaited->ref = Py_NewRef(ref);
  awaited->yielded = false;
  return reinterpret_cast<PyObject*>(awaited);
}

PyObject* await_ref(PyObject* ref) {
  const Owned loop(running_loop());
  if (!loop) return nullptr;
  Session* open = require_session_of(ref);
  if (open == nullptr) return nullptr;
  const process::Object& object = *as_ref(ref)->object;
  if (object.is_ready() || SessionUse(open).runtime().look_briefly(object, nullptr)) {
    return await_ready(nullptr, ref);
  }
  return call_hook("await_ref", Owned(PyTuple_Pack(2, ref, loop.get())));
}

bool init_await_type() {
  await_type.tp_name = "mobula._core.ReadyValue";
  await_type.tp_doc = "What is awaited for a ref that is ready.";
  await_type.tp_basicsize = sizeof(AwaitObject);
  await_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  await_type.tp_dealloc = await_dealloc;
  await_type.tp_iter = PyObject_SelfIter;
  await_type.tp_iternext = await_next;
  await_type.tp_as_async = &await_async;
  return PyType_Ready(&await_type) == 0;
}

}  // namespace mobula::python
