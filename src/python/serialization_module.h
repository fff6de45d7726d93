#pragma once
// What the extension uses of mobula/_serialization.py and of Python's pickle. Imported on first use,
// since that module imports cloudpickle, which takes a while.
//
// Threads: with the GIL only. The objects live as long as the process.

#include "python/owned.h"

namespace mobula::python {

struct SerializationModule {
  PyObject* make_pickler = nullptr;
  PyObject* reducers = nullptr;  // A dict: exact type to reducer, besides copyreg's.
  PyObject* reduce_array = nullptr;
  PyObject* reduce_private_array = nullptr;
  PyObject* reduce_of_library = nullptr;
  PyObject* reduce_exception = nullptr;
  PyObject* reduce_of_pandas = nullptr;
  // Types of marks in a pickle: arrays between them may be written by whoever loads it.
  PyObject* private_begin = nullptr;
  PyObject* private_end = nullptr;
  PyObject* by_value_modules = nullptr;  // cloudpickle's set of what users registered.
  PyObject* serialization_error = nullptr;
  PyObject* encode_failure = nullptr;
  PyObject* decode_failure = nullptr;
  PyObject* bind_arguments = nullptr;
  PyObject* pickling_error = nullptr;  // pickle.PicklingError
  PyObject* loads = nullptr;           // pickle.loads
};

// False with an exception set.
bool load_serialization_module();
// After load_serialization_module() succeeded once.
const SerializationModule& serialization_module();

// Replaces the exception that is set, which serializing `value` caused, by one that says what it was:
// role "argument", "result", "function" or "put value"; position an int, a keyword or None; function
// the function or its name.
void explain_serialization(const char* role, PyObject* value, PyObject* position,
                           PyObject* function);

// The exception that is set, normalized and with its traceback; it is set no more.
Owned take_exception();

}  // namespace mobula::python
