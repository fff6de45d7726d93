#pragma once
// What `await ref` waits on: if the value is there, an iterator that lets the event loop take one turn
// and then gives the value; else what the package's hook makes (python/mobula/_loops.py).
//
// Threads: with the GIL only.

#include "python/owned.h"

namespace mobula::python {

// ObjectRef.__await__. RuntimeError: no event loop runs in this thread.
PyObject* await_ref(PyObject* ref);
// METH_O: what to await for the value of a ref that is ready.
PyObject* await_ready(PyObject* module, PyObject* ref);

bool init_await_type();

}  // namespace mobula::python
