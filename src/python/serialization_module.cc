#include "python/serialization_module.h"

namespace mobula::python {

namespace {

SerializationModule loaded;
bool is_loaded = false;

bool take(PyObject* module, const char* name, PyObject*& into) {
  if (into == nullptr) into = PyObject_GetAttrString(module, name);
  return into != nullptr;
}

}  // namespace

bool load_serialization_module() {
  if (is_loaded) return true;
  const Owned ours(PyImport_ImportModule("mobula._serialization"));
  if (!ours) return false;
  const Owned pickle(PyImport_ImportModule("pickle"));
  if (!pickle) return false;
  is_loaded = take(ours.get(), "make_pickler", loaded.make_pickler) &&
              take(ours.get(), "REDUCERS", loaded.reducers) &&
              take(ours.get(), "reduce_array", loaded.reduce_array) &&
              take(ours.get(), "reduce_private_array", loaded.reduce_private_array) &&
              take(ours.get(), "reduce_of_library", loaded.reduce_of_library) &&
              take(ours.get(), "reduce_exception", loaded.reduce_exception) &&
              take(ours.get(), "reduce_of_pandas", loaded.reduce_of_pandas) &&
              take(ours.get(), "PrivateBegin", loaded.private_begin) &&
              take(ours.get(), "PrivateEnd", loaded.private_end) &&
              take(ours.get(), "BY_VALUE_MODULES", loaded.by_value_modules) &&
              take(ours.get(), "serialization_error", loaded.serialization_error) &&
              take(ours.get(), "encode_failure", loaded.encode_failure) &&
              take(ours.get(), "decode_failure", loaded.decode_failure) &&
              take(ours.get(), "bind_arguments", loaded.bind_arguments) &&
              take(pickle.get(), "PicklingError", loaded.pickling_error) &&
              take(pickle.get(), "loads", loaded.loads);
  if (is_loaded && !(PyDict_Check(loaded.reducers) && PySet_Check(loaded.by_value_modules))) {
    PyErr_SetString(PyExc_TypeError, "this version of cloudpickle is not supported");
    is_loaded = false;
  }
  return is_loaded;
}

const SerializationModule& serialization_module() { return loaded; }

Owned take_exception() {
  PyObject* type;
  PyObject* error;
  PyObject* traceback;
  PyErr_Fetch(&type, &error, &traceback);
  PyErr_NormalizeException(&type, &error, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(error, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return Owned(error);
}

void explain_serialization(const char* role, PyObject* value, PyObject* position,
                           PyObject* function) {
  const Owned error = take_exception();
  if (!error || !load_serialization_module()) return;
  const Owned explained(PyObject_CallFunction(loaded.serialization_error, "sOOOO", role, value,
                                              position, function, error.get()));
  if (!explained) return;
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(explained.get())), explained.get());
}

}  // namespace mobula::python
