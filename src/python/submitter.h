#pragma once
// FunctionSource and Submitter: the Python types behind `f.remote`.
//
// A FunctionSource is a function that can be sent: pickled on first use, defined once a session. A
// Submitter is one source with one set of options; calling it is the hot path of the whole system, so
// it is a C type with a vectorcall and everything about it that can be known before is.
//
// Threads: with the GIL only.

#include <memory>

#include "base/resources.h"
#include "process/runtime_types.h"
#include "python/owned.h"

namespace mobula::python {

extern PyTypeObject function_source_type;
extern PyTypeObject submitter_type;

bool init_submitter_types();

// {"CPU": 1, ...} in fixed point; zeros are left out. nullptr with an exception set.
std::unique_ptr<ResourceSet> read_resources(PyObject* mapping);

// A worker calls it for each function that it has decoded, so that a function that goes on to other
// workers travels as the same bytes. `value` is one wire value without refs.
void remember_pickled(PyObject* function, const char* value, size_t size);

// From None, or a tuple (spec, time_limit_ms, early). False: an exception is set.
bool read_environment(PyObject* object, process::RuntimeEnvironment& environment);

}  // namespace mobula::python
