#pragma once
// The node's table of keys and values, for Python.
//
// Threads: with the GIL only.

#include <nanobind/nanobind.h>

namespace mobula::python {

void add_key_value_functions(nanobind::module_& module);

}  // namespace mobula::python
