#pragma once
// fork_for_daemon: how the zygote makes a worker that is the daemon's child, not its own.
//
// Threads: a process with one only.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace mobula::python {

// () -> the worker's process id in the zygote, 0 in the worker. OSError if there can be no process.
PyObject* fork_for_daemon(PyObject* module, PyObject* no_arguments);

}  // namespace mobula::python
