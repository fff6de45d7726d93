// The module mobula._core. What is called often lies in the other files, on the C API; the rest is
// bound here with nanobind, which converts between Python's types and C++'s. Nothing in this file may
// let a C++ exception other than nanobind's through.
//
// Threads: with the GIL only.

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <sys/prctl.h>

#include <algorithm>
#include <csignal>
#include <system_error>

#include "python/actor.h"
#include "python/actor_call.h"
#include "python/adoption.h"
#include "python/await.h"
#include "python/decode.h"
#include "python/encode.h"
#include "python/groups.h"
#include "python/key_values.h"
#include "python/leftovers.h"
#include "python/object_ref.h"
#include "python/objects.h"
#include "python/pickling.h"
#include "python/process_title.h"
#include "python/results.h"
#include "python/session.h"
#include "python/state.h"
#include "python/store_view.h"
#include "python/stream.h"
#include "python/submitter.h"
#include "python/worker.h"

namespace nb = nanobind;

namespace mobula::python {

namespace {

constexpr PyMethodDef kNoMethod = {nullptr, nullptr, 0, nullptr};

PyObject* load_ref_method(PyObject*, PyObject* index) { return load_ref(index); }
PyObject* private_buffer_method(PyObject*, PyObject* buffer) { return private_buffer(buffer); }
PyObject* dumps_method(PyObject*, PyObject* value) { return dumps_within_scope(value); }
PyObject* is_serializing(PyObject*, PyObject*) { return PyBool_FromLong(is_within_scope()); }
PyObject* encode_method(PyObject*, PyObject* value) { return encode_for_test(value); }

PyObject* decode_method(PyObject*, PyObject* arguments) {
  Py_buffer bytes;
  PyObject* refs;
  if (!PyArg_ParseTuple(arguments, "y*O", &bytes, &refs)) return nullptr;
  PyObject* value = decode_for_test(
      {static_cast<const std::byte*>(bytes.buf), static_cast<size_t>(bytes.len)}, refs);
  PyBuffer_Release(&bytes);
  return value;
}

// The first lines are for inspect.signature().
constexpr const char* kGetDoc =
    "get($module, object_refs, *, timeout=None)\n--\n\n"
    "The value of a ref, or a list of the values of a list of refs, once they are there.\n\n"
    "Raises what the task raised, as a RayTaskError that is also of the exception's own class; "
    "another\n"
    "RayError if it could not run. GetTimeoutError: not within `timeout` seconds.";
constexpr const char* kPutDoc =
    "put($module, value, *, _owner=None, _tensor_transport=None)\n--\n\n"
    "A ref of `value`, which tasks can get. TypeError: it is a ref itself, or cannot be "
    "serialized.\n\n"
    "`_owner` and `_tensor_transport` are Ray's and mean nothing.";
constexpr const char* kWaitDoc =
    "wait($module, ray_waitables, *, num_returns=1, timeout=None, fetch_local=True)\n--\n\n"
    "Splits a list of refs and generators in (ready, rest), each in the order given.\n\n"
    "Waits until `num_returns` are ready, at most that many of which are in the first list, or "
    "for\n"
    "`timeout` seconds. A task that failed is ready. ValueError: not all of them are different, "
    "or\n"
    "`num_returns` is not between 1 and their number.";

PyMethodDef methods[] = {
    {"get", reinterpret_cast<PyCFunction>(get), METH_FASTCALL | METH_KEYWORDS, kGetDoc},
    {"put", reinterpret_cast<PyCFunction>(put), METH_FASTCALL | METH_KEYWORDS, kPutDoc},
    {"put_error", put_error, METH_VARARGS, nullptr},
    {"wait", reinterpret_cast<PyCFunction>(wait), METH_FASTCALL | METH_KEYWORDS, kWaitDoc},
    {"run_worker", run_worker, METH_VARARGS, nullptr},
    {"note_output", reinterpret_cast<PyCFunction>(note_output), METH_FASTCALL, nullptr},
    {"note_leftover", note_leftover, METH_NOARGS, nullptr},
    {"restore_descriptor", restore_descriptor, METH_O, nullptr},
    {"name_output", name_output, METH_O, nullptr},
    {"fork_for_daemon", fork_for_daemon, METH_NOARGS, nullptr},
    {"cancel", cancel, METH_VARARGS, nullptr},
    {"notify", notify, METH_VARARGS, nullptr},
    {"can_cancel", can_cancel, METH_O, nullptr},
    {"look_briefly", look_briefly, METH_O, nullptr},
    {"await_ready", await_ready, METH_O, nullptr},
    {"is_call_of", reinterpret_cast<PyCFunction>(is_call_of), METH_FASTCALL, nullptr},
    {"is_ready", is_ready, METH_O, nullptr},
    {"take_interrupt", take_interrupt, METH_NOARGS, nullptr},
    {"_has_value", has_value, METH_VARARGS, nullptr},
    {"_location", location, METH_O, nullptr},
    {"is_cancelled", is_cancelled, METH_NOARGS, nullptr},
    {"current_task", current_task, METH_NOARGS, nullptr},
    {"load_ref", load_ref_method, METH_O, nullptr},
    {"dumps", dumps_method, METH_O, nullptr},
    {"private_buffer", private_buffer_method, METH_O, nullptr},
    {"is_serializing", is_serializing, METH_NOARGS, nullptr},
    {"_encode_for_test", encode_method, METH_O, nullptr},
    {"_decode_for_test", decode_method, METH_VARARGS, nullptr},
    {"_new_ref_for_test", new_ref_for_test, METH_O, nullptr},
    kNoMethod};

// What the system knows a text as: names of files and variables need not be UTF-8.
std::string system_bytes(const nb::handle& text) {
  const Owned bytes(PyUnicode_EncodeFSDefault(text.ptr()));  // TypeError: it is no text.
  if (!bytes) throw nb::python_error();
  return {PyBytes_AS_STRING(bytes.get()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.get()))};
}

nb::object system_text(const std::string& bytes) {
  return nb::steal<nb::object>(
      PyUnicode_DecodeFSDefaultAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
}

void connect_with(int fd, const nb::dict& options) {
  shm::Fd socket(fd);  // Closed if anything here is wrong: the daemon waits for it.
  process::RuntimeOptions plain;
  const auto read = [&](const char* name, auto& into) {
    using Value = std::remove_reference_t<decltype(into)>;
    if (options.contains(name)) into = nb::cast<Value>(options[name]);
  };
  read("is_driver", plain.is_driver);
  read("is_observer", plain.is_observer);
  read("token", plain.token);
  if (options.contains("python")) plain.python = system_bytes(options["python"]);
  if (options.contains("working_directory")) {
    plain.working_directory = system_bytes(options["working_directory"]);
  }
  if (options.contains("sys_path")) {
    for (const nb::handle entry : nb::list(options["sys_path"])) {
      plain.sys_path.push_back(system_bytes(entry));
    }
  }
  read("log_to_driver", plain.log_to_driver);
  read("job_namespace", plain.job_namespace);
  read("infeasible_is_error", plain.infeasible_is_error);
  read("lineage_bytes_max", plain.lineage_bytes_max);
  read("records_call_sites", plain.records_call_sites);
  if (options.contains("environment")) {
    for (const auto& [name, value] : nb::dict(options["environment"])) {
      plain.environment.emplace_back(system_bytes(name), system_bytes(value));
    }
    std::ranges::sort(plain.environment);
  }
  if (options.contains("runtime_environment")) {
    const nb::object given = options["runtime_environment"];
    if (!read_environment(given.ptr(), plain.runtime_environment)) throw nb::python_error();
  }
  try {
    if (!connect(socket.release(), std::move(plain))) throw nb::python_error();
  } catch (const std::system_error& error) {  // The standard library cannot start a thread.
    PyErr_Format(PyExc_ConnectionError,
                 "cannot start a thread: %s (is memory, `ulimit -v`, or the number of processes, "
                 "`ulimit -u`, limited?)",
                 error.what());
    throw nb::python_error();
  }
}

std::string hex_number(uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "%08x", value);
  return text;
}

nb::dict session_info() {
  const process::Runtime& runtime = *session().runtime;
  nb::dict info;
  info["node_id"] = hex_number(number(runtime.node()));
  info["process_id"] = number(runtime.process());
  info["job_id"] = number(runtime.job());
  info["job_namespace"] = runtime.job_namespace();
  info["session_directory"] = system_text(runtime.session_directory());
  return info;
}

nb::dict to_dict(const std::vector<std::pair<std::string, double>>& amounts) {
  nb::dict dict;
  for (const auto& [name, amount] : amounts) dict[name.c_str()] = amount;
  return dict;
}

nb::dict cluster_resources() {
  const SessionUse use(&session());
  PythonGate gate;
  return to_dict(value_of(use.runtime().cluster_resources(gate)));
}

nb::dict available_resources() {
  const SessionUse use(&session());
  PythonGate gate;
  return to_dict(value_of(use.runtime().available_resources(gate)));
}

nb::list nodes() {
  const SessionUse use(&session());
  PythonGate gate;
  nb::list list;
  for (const process::NodeInfo& node : value_of(use.runtime().nodes(gate))) {
    nb::dict record;
    record["node_id"] = hex_number(node.node);
    record["alive"] = node.alive;
    record["hostname"] = node.hostname;
    record["address"] = node.address;
    record["pid"] = node.pid;
    record["session_directory"] = system_text(node.session_directory);
    record["resources"] = to_dict(node.resources);
    record["metrics_port"] = node.metrics_port;
    list.append(record);
  }
  return list;
}

// One thread reads, a session at a time. It keeps the session past disconnect, until every line
// that had arrived by then was handed out, and it never starts one: whoever ends a session waits
// for it.
nb::object next_log_lines() {
  static SessionUse* reading = nullptr;  // Not a value: a forked child must not destroy it.
  if (reading == nullptr) {
    if (open_session == nullptr) return nb::none();
    reading = new SessionUse(open_session);
  }
  std::vector<process::LogLine> lines;
  bool more;
  {
    const WithoutGil others_run;
    more = reading->runtime().next_log_lines(lines);
  }
  if (!more) {
    delete std::exchange(reading, nullptr);
    return nb::none();
  }
  nb::list list;
  for (const process::LogLine& line : lines) {
    list.append(nb::make_tuple(line.pid, text(line.name), line.is_stderr, text(line.text)));
  }
  return list;
}

// One thread a session.
nb::object next_notified(uint64_t session_number, std::optional<double> timeout_s) {
  if (open_session == nullptr || open_session->number != session_number) return nb::none();
  const SessionUse use(open_session);
  std::vector<uint64_t> tokens;
  bool more;
  {
    const WithoutGil others_run;
    std::optional<Instant> deadline;
    if (timeout_s) {
      const std::chrono::duration<double> timeout(*timeout_s);
      deadline = monotonic_now() + std::chrono::duration_cast<Duration>(timeout);
    }
    more = use.runtime().next_notified(tokens, deadline);
  }
  if (!more) return nb::none();
  return nb::cast(tokens);
}

bool is_of(uint64_t session_number) {
  return open_session != nullptr && open_session->number == session_number;
}

void poke_notified(uint64_t session_number) {
  if (is_of(session_number)) SessionUse(open_session).runtime().notify(nullptr, 0, 0);
}

uint32_t open_loop_queue(int event) {
  Session* open = require_session();
  if (open == nullptr) throw nb::python_error();
  const auto queue = SessionUse(open).runtime().loop_queues().open(event);
  if (!queue.has_value()) {
    raise_error(queue.error());
    throw nb::python_error();
  }
  return *queue;
}

void close_loop_queue(uint64_t session_number, uint32_t queue) {
  if (is_of(session_number)) SessionUse(open_session).runtime().loop_queues().close(queue);
}

std::vector<uint64_t> take_loop_tokens(uint64_t session_number, uint32_t queue) {
  if (!is_of(session_number)) return {};
  return SessionUse(open_session).runtime().loop_queues().take(queue);
}

void add_system_error_numbers(nb::module_& module) {
  using Code = wire::SystemErrorCode;
  const std::pair<const char*, Code> numbers[] = {
      {"SYSTEM_ERROR_WORKER_CRASHED", Code::kWorkerCrashed},
      {"SYSTEM_ERROR_TASK_CANCELLED", Code::kTaskCancelled},
      {"SYSTEM_ERROR_OBJECT_LOST", Code::kObjectLost},
      {"SYSTEM_ERROR_OWNER_DIED", Code::kOwnerDied},
      {"SYSTEM_ERROR_OUT_OF_MEMORY", Code::kOutOfMemory},
      {"SYSTEM_ERROR_OBJECT_STORE_FULL", Code::kObjectStoreFull},
      {"SYSTEM_ERROR_NODE_DIED", Code::kNodeDied},
      {"SYSTEM_ERROR_RUNTIME_ENV_SETUP", Code::kRuntimeEnvSetup},
      {"SYSTEM_ERROR_TASK_UNSCHEDULABLE", Code::kTaskUnschedulable},
      {"SYSTEM_ERROR_ACTOR_DIED", Code::kActorDied},
      {"SYSTEM_ERROR_ACTOR_UNAVAILABLE", Code::kActorUnavailable},
      {"SYSTEM_ERROR_ACTOR_UNSCHEDULABLE", Code::kActorUnschedulable},
      {"SYSTEM_ERROR_TASK_TIMEOUT", Code::kTaskTimeout},
      {"SYSTEM_ERROR_INTERNAL", Code::kInternal},
      {"SYSTEM_ERROR_REBUILD_FAILED", Code::kRebuildFailed},
      {"SYSTEM_ERROR_REBUILD_MAX_ATTEMPTS", Code::kRebuildMaxAttempts},
      {"SYSTEM_ERROR_REBUILD_LINEAGE_EVICTED", Code::kRebuildLineageEvicted},
      {"SYSTEM_ERROR_TASK_PLACEMENT_GROUP_REMOVED", Code::kTaskPlacementGroupRemoved},
      {"SYSTEM_ERROR_ACTOR_PLACEMENT_GROUP_REMOVED", Code::kActorPlacementGroupRemoved}};
  for (const auto& [name, code] : numbers) module.attr(name) = static_cast<uint32_t>(code);
}

bool add_types(nb::module_& module) {
  PyObject* raw = module.ptr();
  return PyModule_AddObjectRef(raw, "ObjectRef", reinterpret_cast<PyObject*>(&ref_type)) == 0 &&
         PyModule_AddObjectRef(raw, "FunctionSource",
                               reinterpret_cast<PyObject*>(&function_source_type)) == 0 &&
         PyModule_AddObjectRef(raw, "Submitter", reinterpret_cast<PyObject*>(&submitter_type)) == 0;
}

void make_module(nb::module_& module) {
  if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
    throw nb::import_error("mobula does not work in subinterpreters");
  }
  nb::set_leak_warnings(false);  // At exit the interpreter keeps what it pleases.
  if (!init_ref_type() || !init_store_view_type() || !init_submitter_types() ||
      !init_stream_type() || PyModule_AddFunctions(module.ptr(), methods) != 0 ||
      PyModule_AddFunctions(module.ptr(), actor_methods) != 0 || !init_actor_calls(module.ptr()) ||
      !add_types(module) || !init_pickling(nb::object(module.attr("load_ref")).ptr())) {
    throw nb::python_error();
  }
  watch_forks();
  add_system_error_numbers(module);

  module.def("set_hooks", [](nb::handle hooks) { set_hooks(hooks.ptr()); });
  module.def("connect", connect_with);
  module.def("set_process_title", [](const std::string& title, const std::string& name) {
    process_title().show(title);
    ::prctl(PR_SET_NAME, name.substr(0, 15).c_str());
  });
  module.def("die_with_parent", [] { ::prctl(PR_SET_PDEATHSIG, SIGKILL); });
  module.def("disconnect", [] {
    bool daemon_ends = false;
    if (!disconnect(daemon_ends)) throw nb::python_error();
    return daemon_ends;
  });
  module.def("is_connected", [] { return open_session != nullptr; });
  module.def("session_number", [] { return open_session == nullptr ? 0 : open_session->number; });
  module.def("disconnected_reason", [] {
    return text(open_session == nullptr ? "" : open_session->runtime->disconnected_reason());
  });
  module.def("session_info", session_info);
  module.def("cluster_resources", cluster_resources);
  module.def("available_resources", available_resources);
  module.def("nodes", nodes);
  add_state_functions(module);
  add_group_functions(module);
  add_key_value_functions(module);
  module.def("next_log_lines", next_log_lines);
  module.def("next_notified", next_notified, nb::arg(), nb::arg().none());
  module.def("poke_notified", poke_notified);
  module.def("open_loop_queue", open_loop_queue);
  module.def("close_loop_queue", close_loop_queue);
  module.def("take_loop_tokens", take_loop_tokens);
  module.def("retire", [] { session().runtime->retire(); });
  module.def("interrupt_with", [](int signal) { session().runtime->interrupt_with(signal); });
  module.def("debug_state",
             [] { return open_session == nullptr ? "" : open_session->runtime->debug_state(); });
}

}  // namespace

}  // namespace mobula::python

NB_MODULE(_core, module) { mobula::python::make_module(module); }
