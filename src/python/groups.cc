#include "python/groups.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "python/session.h"
#include "python/submitter.h"

namespace nb = nanobind;

namespace mobula::python {

namespace {

[[noreturn]] void raise(const Error& error) {
  if (error.code == ErrorCode::kInvalidArgument || error.code == ErrorCode::kNotFound) {
    // Python knows what to make of it.
    const char* kind = error.code == ErrorCode::kNotFound ? "gone" : "refused";
    PyErr_SetObject(PyExc_LookupError, nb::make_tuple(kind, error.message).ptr());
  } else {
    raise_error(error);
  }
  throw nb::python_error();
}

Session& session_here() {
  Session* open = require_session();
  if (open == nullptr) throw nb::python_error();
  return *open;
}

// `name`: and its namespace.
uint64_t create_group(const nb::list& bundles, std::pair<std::string, std::string> name,
                      unsigned strategy, bool detached, bool infeasible) {
  process::GroupCreation creation;
  for (const nb::handle bundle : bundles) {
    const auto resources = read_resources(bundle.ptr());
    if (resources == nullptr) throw nb::python_error();
    creation.bundles.push_back(*resources);
  }
  creation.name = std::move(name.first);
  creation.name_space = std::move(name.second);
  creation.strategy = static_cast<uint8_t>(strategy);
  creation.detached = detached;
  creation.infeasible = infeasible;
  const SessionUse use(&session_here());
  PythonGate gate;
  const auto group = use.runtime().create_group(creation, gate);
  if (!group) raise(group.error());
  return number(*group);
}

void remove_group(uint64_t group) {
  const SessionUse use(&session_here());
  use.runtime().remove_group(PlacementGroupId{group});
}

bool wait_for_group(uint64_t group, double seconds) {
  constexpr double kSecondsMax = 1e9;
  const SessionUse use(&session_here());
  PythonGate gate;
  const std::chrono::duration<double> patience(std::min(std::max(seconds, 0.0), kSecondsMax));
  const auto there = use.runtime().wait_for_group(
      PlacementGroupId{group}, std::chrono::duration_cast<Duration>(patience), gate);
  if (!there) raise(there.error());
  return *there;
}

std::string groups() {
  const SessionUse use(&session_here());
  PythonGate gate;
  auto json = use.runtime().groups(gate);
  if (!json) raise(json.error());
  return std::move(*json);
}

nb::object current_bundle() {
  if (open_session == nullptr) return nb::none();
  const BundleRef bundle = open_session->runtime->bundle();
  if (!bundle.in_group()) return nb::none();
  return nb::make_tuple(number(bundle.group), bundle.index, bundle.captures);
}

}  // namespace

bool read_bundle(PyObject* object, std::optional<BundleRef>& bundle) {
  if (object == Py_None) return true;
  unsigned long long group = 0;
  int index = kAnyBundle;
  int captures = 0;
  if (!PyTuple_Check(object)) {
    PyErr_SetString(PyExc_TypeError, "a bundle is (group, index, captures)");
    return false;
  }
  if (!PyArg_ParseTuple(object, "Kip", &group, &index, &captures)) return false;
  bundle = group == 0 ? BundleRef{} : BundleRef{PlacementGroupId{group}, index, captures != 0};
  return true;
}

void add_group_functions(nb::module_& module) {
  module.def("create_group", create_group);
  module.def("remove_group", remove_group);
  module.def("wait_for_group", wait_for_group);
  module.def("groups", groups);
  module.def("current_bundle", current_bundle);
}

}  // namespace mobula::python
