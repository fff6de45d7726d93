#pragma once
// Placement groups for Python: to make them, wait for them, ask about them.
//
// Threads: with the GIL only.

#include <Python.h>
#include <nanobind/nanobind.h>

#include <optional>

#include "base/bundle.h"

namespace mobula::python {

// None, or (group, index, captures). False: a Python error is set.
bool read_bundle(PyObject* object, std::optional<BundleRef>& bundle);

void add_group_functions(nanobind::module_& module);

}  // namespace mobula::python
