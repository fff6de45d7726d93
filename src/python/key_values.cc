#include "python/key_values.h"

#include <string_view>

#include "python/session.h"

namespace nb = nanobind;

namespace mobula::python {

namespace {

std::string_view view(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }

nb::tuple key_value(unsigned op, const nb::bytes& space, const nb::bytes& key,
                    const nb::bytes& value) {
  Session* open = require_session();
  if (open == nullptr) throw nb::python_error();
  const SessionUse use(open);
  PythonGate gate;
  const auto answer = use.runtime().key_value(
      {static_cast<uint8_t>(op), view(space), view(key), view(value)}, gate);
  if (!answer) {
    raise_error(answer.error());
    throw nb::python_error();
  }
  return nb::make_tuple(answer->found, answer->count,
                        nb::bytes(answer->bytes.data(), answer->bytes.size()));
}

}  // namespace

void add_key_value_functions(nb::module_& module) { module.def("key_value", key_value); }

}  // namespace mobula::python
