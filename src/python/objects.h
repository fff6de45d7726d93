#pragma once
// get, put and wait, as Python calls them.
//
// Threads: with the GIL only; it is let go while they wait.

#include "python/owned.h"

namespace mobula::python {

// METH_FASTCALL | METH_KEYWORDS functions of the module.
PyObject* get(PyObject* module, PyObject* const* arguments, Py_ssize_t count, PyObject* names);
PyObject* put(PyObject* module, PyObject* value);  // METH_O
PyObject* wait(PyObject* module, PyObject* const* arguments, Py_ssize_t count, PyObject* names);

}  // namespace mobula::python
