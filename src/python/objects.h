#pragma once
// get, put and wait, as Python calls them.
//
// Threads: with the GIL only; it is let go while they wait.

#include <optional>

#include "base/time.h"
#include "python/owned.h"

namespace mobula::python {

// METH_FASTCALL | METH_KEYWORDS functions of the module.
PyObject* get(PyObject* module, PyObject* const* arguments, Py_ssize_t count, PyObject* names);
PyObject* put(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* names);
// put_error(exception, function name): a ref whose value is that error of a task. METH_VARARGS
PyObject* put_error(PyObject* module, PyObject* arguments);
PyObject* wait(PyObject* module, PyObject* const* arguments, Py_ssize_t count, PyObject* names);
PyObject* cancel(PyObject* module, PyObject* arguments);  // METH_VARARGS: ref, force, recursive
PyObject* notify(PyObject* module, PyObject* arguments);  // METH_VARARGS: ref, token, queue
PyObject* can_cancel(PyObject* module, PyObject* ref);    // METH_O
PyObject* look_briefly(PyObject* module, PyObject* ref);  // METH_O
PyObject* is_call_of(PyObject* module, PyObject* const* arguments, Py_ssize_t count);
PyObject* is_ready(PyObject* module, PyObject* ref);  // METH_O
// For tests. has_value: node, creator, index (METH_VARARGS). location: of a stored value (METH_O).
PyObject* has_value(PyObject* module, PyObject* arguments);
PyObject* location(PyObject* module, PyObject* ref);

// Seconds from now; None and nullptr: no deadline. False with an exception set.
bool read_timeout(PyObject* timeout, std::optional<Instant>& deadline);
PyObject* raise_get_timeout();

}  // namespace mobula::python
