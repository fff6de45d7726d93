#pragma once
// The loop of a worker process: takes tasks from the runtime, calls their functions, hands back what
// they return or raise. Python is entered once for a task.
//
// Threads: one thread of the process runs it; current_task() is that thread's.

#include <string_view>

#include "python/owned.h"

namespace mobula::python {

// _core.run_worker and _core.current_task, METH_VARARGS and METH_NOARGS.
PyObject* run_worker(PyObject* module, PyObject* arguments);
// METH_NOARGS, in the handler of the signal of Runtime::interrupt_with(): "cancel" or "timeout", once,
// if the task that runs here is to be interrupted; else None.
PyObject* take_interrupt(PyObject* module, PyObject* none);

// METH_NOARGS: was the actor's call that runs here cancelled?
PyObject* is_cancelled(PyObject* module, PyObject* nothing);
PyObject* current_task(PyObject* module, PyObject* nothing);
// {"CPU": 1.0, ...} from LeaseInfo::resources.
Owned resources_dict(std::string_view lines);
// ClaimedTask::number of what executes on this thread; 0: nothing does.
uint64_t current_number();

}  // namespace mobula::python
