#pragma once
// What functions bound with nanobind share: the session they work on, and the runtime's results and
// texts as Python objects. A failure becomes the exception that fits, thrown as nb::python_error.
//
// Threads: with the GIL only.

#include <nanobind/nanobind.h>

#include "python/session.h"

namespace mobula::python {

// The open session; throws without one.
inline Session& session() {
  Session* open = require_session();
  if (open == nullptr) throw nanobind::python_error();
  return *open;
}

template <typename T>
T value_of(Result<T> result) {
  if (result.has_value()) return std::move(*result);
  raise_error(result.error());
  throw nanobind::python_error();
}

// What other processes wrote is bytes, as a rule UTF-8.
inline nanobind::object text(std::string_view bytes) {
  return nanobind::steal(to_text(bytes).release());
}

}  // namespace mobula::python
