#pragma once
// _core.state() and _core.timeline(): what the runtime knows of tasks that run and ran, as Python's
// dicts and lists.
//
// Threads: with the GIL only.

#include <nanobind/nanobind.h>

namespace mobula::python {

void add_state_functions(nanobind::module_& module);

}  // namespace mobula::python
