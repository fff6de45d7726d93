#include "python/worker.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/text.h"
#include "python/actor_call.h"
#include "python/decode.h"
#include "python/encode.h"
#include "python/object_ref.h"
#include "python/process_title.h"
#include "python/serialization_module.h"
#include "python/submitter.h"
#include "python/worker_loop.h"

namespace mobula::python {

namespace {

using process::ClaimedTask;
using process::ReceivedFunction;

thread_local const ClaimedTask* running = nullptr;
// Not while what went wrong is described: an exception there would hide it.
thread_local bool interruptible = false;

constexpr size_t kErrorTextMax = 480;  // More is not kept (shm/trace.h).

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Of the exceptions that a task may raise: those that say something of the task, not of its worker.
bool is_users(PyObject* exception) {
  return PyErr_GivenExceptionMatches(exception, PyExc_SystemExit) == 0 &&
         PyErr_GivenExceptionMatches(exception, PyExc_KeyboardInterrupt) == 0;
}

// How often, and how long, a task lets go of its arguments and reads them again, for want of room.
constexpr int kArgumentTriesMax = 20;
constexpr auto kArgumentsPatience = std::chrono::seconds(30);

// Is that what the exception says that is set?
bool is_store_full() {
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  const Owned module(PyImport_ImportModule("mobula.exceptions"));
  const Owned full(module ? PyObject_GetAttrString(module.get(), "ObjectStoreFullError") : nullptr);
  const bool is_it = full && PyErr_GivenExceptionMatches(type, full.get()) != 0;
  PyErr_Restore(type, value, traceback);
  return is_it;
}

// Not as long as others do who want the same. False with an exception set: interrupted.
bool pause_before(int tries) {
  static thread_local std::minstd_rand random(std::random_device{}());
  const int longest_ms = std::min(20 << std::min(tries, 6), 1000);
  const int pause_ms = std::uniform_int_distribution(1, longest_ms)(random);
  for (int passed_ms = 0; passed_ms < pause_ms; passed_ms += 10) {
    Py_BEGIN_ALLOW_THREADS;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    Py_END_ALLOW_THREADS;
    if (PyErr_CheckSignals() != 0) return false;
  }
  return true;
}

// The gate of a worker that waits for a task: when it has waited for a while, it looks idle.
class IdleGate final : public process::Gate {
 public:
  IdleGate(const ReceivedFunction*& shown, Leftovers& leftovers)
      : shown_(shown), leftovers_(leftovers) {}
  void release() override {
    shown_ = nullptr;
    process_title().show("IDLE");
    leftovers_.on_idle();
    gate_.release();
  }
  void acquire() override { gate_.acquire(); }
  bool interrupted() override { return gate_.interrupted(); }

 private:
  const ReceivedFunction*& shown_;
  Leftovers& leftovers_;
  PythonGate gate_;
};

// User code has returned, or raised what is set. In a child that it has forked this does not return: the
// child has no part in the worker's tasks.
void end_forked_child() {
  if (!forked_child) [[likely]] {
    return;
  }
  const Owned error = PyErr_Occurred() != nullptr ? take_exception() : Owned(Py_NewRef(Py_None));
  const Owned never(call_hook("end_child", Owned(PyTuple_Pack(1, error.get()))));
  ::_exit(1);
}

// The tuple of keyword names that a kKeywordNames payload stands for.
PyObject* keyword_tuple(DecodedFunction& function, std::string_view bytes, uint32_t count) {
  if (function.keyword_names && function.keyword_bytes == bytes &&
      PyTuple_GET_SIZE(function.keyword_names.get()) == static_cast<Py_ssize_t>(count)) {
    return function.keyword_names.get();
  }
  Owned names(PyTuple_New(count));
  if (!names) return nullptr;
  size_t start = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const size_t end = i + 1 == count ? bytes.size() : bytes.find('\0', start);
    if (end == std::string_view::npos || end < start) {
      PyErr_SetString(PyExc_ValueError, "malformed task: fewer keyword names than arguments");
      return nullptr;
    }
    PyObject* name =
        PyUnicode_DecodeUTF8(bytes.data() + start, static_cast<Py_ssize_t>(end - start), nullptr);
    if (name == nullptr) return nullptr;
    PyUnicode_InternInPlace(&name);
    PyTuple_SET_ITEM(names.get(), i, name);
    start = end + 1;
  }
  function.keyword_bytes = bytes;
  function.keyword_names = std::move(names);
  return function.keyword_names.get();
}

}  // namespace

bool Worker::run() {
  process::Runtime& runtime = *session_.runtime;
  ClaimedTask task;
  IdleGate gate(shown_, leftovers_);
  process_title().show("IDLE");
  process::NextTask next = runtime.next_task(task, gate);
  while (true) {
    switch (next) {
      case process::NextTask::kExit:
        return true;
      case process::NextTask::kInterrupted:
        return false;
      case process::NextTask::kTask: {
        process::TaskOutcome outcome;
        if (!execute(task, outcome)) return false;
        const Instant now = monotonic_now();
        leftovers_.before_result(now);
        next = runtime.finish_and_next(task, std::move(outcome), now, gate);
        break;
      }
      case process::NextTask::kActor: {
        bool stays = false;
        if (!become_actor(stays)) return false;
        if (!stays) return true;
        next = runtime.next_task(task, gate);
        break;
      }
    }
  }
}

bool Worker::run_calls(uint32_t group) {
  process::Runtime& runtime = *session_.runtime;
  ClaimedTask task;
  PythonGate gate;
  while (true) {
    switch (runtime.next_call(group, task, gate)) {
      case process::NextTask::kTask: {
        process::TaskOutcome outcome;
        if (!execute(task, outcome)) return false;
        runtime.finish_task(task, std::move(outcome));
        break;
      }
      case process::NextTask::kInterrupted:
        return false;
      default:
        return true;
    }
  }
}

// The actor is made in Python. `stays`: its calls are executed here, one after the other.
bool Worker::become_actor(bool& stays) {
  const process::LeaseInfo lease = session_.runtime->actor_lease();
  if (!start_lease(lease)) return false;
  leftovers_.become_actor();
  const Owned answer(call_hook("become_actor", Owned(PyTuple_New(0))));
  if (!answer) return false;
  stays = answer.get() == Py_True;
  return true;
}

PyObject* Worker::begin(ClaimedTask& task) {
  running = &task;
  Owned result(call(task));
  end_forked_child();
  running = nullptr;
  if (result &&
      (PyCoro_CheckExact(result.get()) || PyAsyncGen_CheckExact(result.get()) ||
       (Py_TYPE(result.get())->tp_as_async != nullptr &&
        Py_TYPE(result.get())->tp_as_async->am_await != nullptr && !is_ref(result.get())))) {
    return result.release();
  }
  if (result && task.streaming) {
    const bool failed = !send_items(task, std::move(result));
    if (!end_items(task, failed)) return nullptr;
  } else if (!end(task, std::move(result))) {
    return nullptr;
  }
  Py_RETURN_NONE;
}

bool Worker::end(ClaimedTask& task, Owned result) {
  end_forked_child();
  Encoder encoder(session_);
  running = &task;
  bool failed = !result;
  if (failed && task.streaming && is_users(PyErr_Occurred())) {
    running = nullptr;
    return end_items(task, true);
  }
  if (!failed) failed = !encode_result(task, std::move(result), encoder);
  Encoder error(session_);
  const bool goes_on = !failed || fail_task(task, error);
  running = nullptr;
  if (!goes_on) return false;
  leftovers_.after_task();
  if (failed) {
    session_.runtime->finish_task(task, {error.take(), true, {}});
  } else {
    session_.runtime->finish_task(task, {encoder.take(), false, encoder.take_stored()});
  }
  return true;
}

bool Worker::end_items(ClaimedTask& task, bool failed) {
  running = &task;
  if (failed && is_users(PyErr_Occurred())) failed = !send_error_item(task);
  running = nullptr;
  return end(task, failed ? Owned() : Owned(Py_NewRef(Py_None)));
}

bool Worker::execute(ClaimedTask& task, process::TaskOutcome& outcome) {
  if (task.lease_changed && !start_lease(*task.lease)) return false;
  Encoder encoder(session_);
  leftovers_.before_task(task.function->name, task.started);
  running = &task;
  if (task.function != shown_) {
    shown_ = task.function;
    process_title().show(task.function->name);
  }
  interruptible = true;
  Owned result(call(task));
  end_forked_child();
  bool failed = !result;
  bool told = false;  // The error is the last item.
  if (task.streaming) {
    failed = failed || !send_items(task, std::move(result));
    told = failed && is_users(PyErr_Occurred()) && send_error_item(task);
    failed = failed && !told;
    result = Owned(Py_NewRef(Py_None));
  }
  if (!failed) failed = !encode_result(task, std::move(result), encoder);
  interruptible = false;
  failed = failed || (!told && is_past_time_limit(task));
  if (failed) {
    Encoder error(session_);
    const bool goes_on = fail_task(task, error);
    if (goes_on) leftovers_.after_task();
    running = nullptr;
    if (goes_on) outcome = {error.take(), true, {}};
    return goes_on;
  }
  leftovers_.after_task();
  running = nullptr;
  outcome = {encoder.take(), false, encoder.take_stored()};
  return true;
}

bool Worker::start_lease(const process::LeaseInfo& lease) {
  const Owned gpus(PyList_New(0));
  if (!gpus) return false;
  for (const uint32_t gpu : lease.gpus) {
    const Owned index(PyLong_FromUnsignedLong(gpu));
    if (!index || PyList_Append(gpus.get(), index.get()) != 0) return false;
  }
  const double cpus = static_cast<double>(lease.cpus) / static_cast<double>(kResourceUnit);
  const Owned done(PyObject_CallFunction(on_lease_, "Od", gpus.get(), cpus));
  return static_cast<bool>(done);
}

DecodedFunction* Worker::decode_function(ReceivedFunction& function) {
  if (function.decoded != nullptr) [[likely]] {
    return static_cast<DecodedFunction*>(function.decoded);
  }
  leftovers_.note_new_function();
  if (function.group != 0) return decode_method(function);
  std::string key(as_text(function.value.bytes()));
  key += function.name;
  const bool is_plain = function.refs.empty();
  if (const auto known = by_bytes_.find(key); is_plain && known != by_bytes_.end()) {
    function.decoded = known->second;
    return known->second;
  }
  size_t offset = 0;
  const Result<wire::ValueView> view = wire::read_value(function.value.bytes(), offset);
  if (!view) {
    PyErr_SetString(PyExc_ValueError, view.error().message.c_str());
    return nullptr;
  }
  auto decoded = std::make_unique<DecodedFunction>();
  decoded->callable = Owned(decode_value(session_, *view, function.refs));
  decoded->name = to_text(function.name);
  if (!decoded->name) return nullptr;
  if (!decoded->callable) {
    if (PyErr_ExceptionMatches(PyExc_Exception) == 0) return nullptr;
    const Owned error = take_exception();
    raise_from_hook("function_error", Owned(PyTuple_Pack(2, decoded->name.get(), error.get())));
    return nullptr;
  }
  if (is_plain) {
    const std::string_view bytes = as_text(function.value.bytes());
    remember_pickled(decoded->callable.get(), bytes.data(), bytes.size());
    by_bytes_.emplace(std::move(key), decoded.get());
  }
  function.decoded = decoded.release();
  return static_cast<DecodedFunction*>(function.decoded);
}

// Of this actor: Python knows what the method's name, or description, stands for.
DecodedFunction* Worker::decode_method(ReceivedFunction& function) {
  size_t offset = 0;
  const Result<wire::ValueView> view = wire::read_value(function.value.bytes(), offset);
  if (!view) {
    PyErr_SetString(PyExc_ValueError, view.error().message.c_str());
    return nullptr;
  }
  Owned description(decode_value(session_, *view, function.refs));
  if (!description) return nullptr;
  auto decoded = std::make_unique<DecodedFunction>();
  decoded->callable = Owned(call_hook(
      "actor_method", Owned(Py_BuildValue("(NI)", description.release(), function.group - 1))));
  decoded->name = to_text(function.name);
  if (!decoded->callable || !decoded->name) return nullptr;
  decoded->at_once = PyMethod_Check(decoded->callable.get()) != 0 &&
                     PyObject_HasAttrString(decoded->callable.get(), "__mobula_at_once__") != 0;
  function.decoded = decoded.release();
  return static_cast<DecodedFunction*>(function.decoded);
}

bool Worker::is_at_once(ReceivedFunction& function) {
  const DecodedFunction* decoded = decode_function(function);
  if (decoded == nullptr) PyErr_Clear();  // Its task says so.
  return decoded != nullptr && decoded->at_once;
}

PyObject* Worker::call(const ClaimedTask& task) {
  DecodedFunction* function = decode_function(*task.function);
  if (function == nullptr) return nullptr;
  Arguments arguments;
  arguments.reserve(task.value_count);
  PyObject* names = nullptr;
  std::optional<Instant> give_up_at;
  for (int tries = 1; !decode_arguments(task, *function, arguments, names); ++tries) {
    // Tasks that hold some arguments each and wait for room for the others would wait for ever: this
    // one lets go of its own.
    if (!give_up_at) give_up_at = monotonic_now() + kArgumentsPatience;
    const bool patient = tries < kArgumentTriesMax && monotonic_now() < *give_up_at;
    if (!patient || arguments.size() == 0 || !is_store_full()) return nullptr;
    PyErr_Clear();
    arguments.clear();
    if (!pause_before(tries)) return nullptr;
  }
  const size_t keywords = names == nullptr ? 0 : task.keyword_count;
  return PyObject_Vectorcall(function->callable.get(), arguments.data(),
                             arguments.size() - keywords, names);
}

// False with an exception set; those before it are in `arguments` then.
bool Worker::decode_arguments(const ClaimedTask& task, DecodedFunction& function,
                              Arguments& arguments, PyObject*& names) {
  names = nullptr;
  size_t offset = 0;
  size_t ref_at = 0;
  for (uint32_t i = 0; i < task.value_count; ++i) {
    const Result<wire::ValueView> value = wire::read_value(task.values, offset);
    if (!value || value->header.ref_count > task.refs.size() - ref_at) {
      PyErr_SetString(PyExc_ValueError, "malformed task");
      return false;
    }
    if (value->header.kind == wire::ValueKind::kKeywordNames) {
      names = keyword_tuple(function, as_text(value->payload), task.keyword_count);
      if (names == nullptr) return false;
      continue;
    }
    const auto refs = std::span(task.refs).subspan(ref_at, value->header.ref_count);
    ref_at += refs.size();
    PyObject* argument = decode_value(session_, *value, refs);
    if (argument == nullptr) return false;
    arguments.add(argument);
  }
  const size_t keywords = names == nullptr ? 0 : task.keyword_count;
  if (keywords != task.keyword_count || keywords > arguments.size()) {
    PyErr_SetString(PyExc_ValueError, "malformed task: keyword arguments without names");
    return false;
  }
  return true;
}

// The exception that is set becomes the last item. False: it is to be the result.
bool Worker::send_error_item(ClaimedTask& task) {
  Encoder error(session_);
  fail_task(task, error);
  PythonGate gate;
  return session_.runtime->yield_item(task, error.take(), {}, gate) !=
         process::Waited::kInterrupted;
}

bool Worker::send_item(ClaimedTask& task, Owned item, process::Waited& sent) {
  end_forked_child();
  Encoder encoder(session_);
  if (!encoder.add_result(item.get())) {
    const Owned position(PyLong_FromUnsignedLongLong(task.yielded));
    explain_serialization("result", item.get(), position.get(), to_text(task.function->name).get());
    return false;
  }
  item.reset();
  auto stored = encoder.take_stored();
  PythonGate gate;
  sent = session_.runtime->yield_item(task, encoder.take(), std::move(stored), gate);
  return sent != process::Waited::kInterrupted;
}

// Each item is sent as it comes. False with an exception set.
bool Worker::send_items(ClaimedTask& task, Owned generator) {
  const Owned iterator(PyObject_GetIter(generator.get()));
  if (!iterator) return false;
  generator.reset();
  while (true) {
    Owned item(PyIter_Next(iterator.get()));
    end_forked_child();
    if (!item) return PyErr_Occurred() == nullptr;
    process::Waited sent = process::Waited::kEnough;
    if (!send_item(task, std::move(item), sent)) return false;
    if (sent == process::Waited::kTimeout) return true;  // Its caller is dead.
  }
}

// A generator with a number of returns: what it yields, then, for returns that are left, its error.
bool Worker::encode_items(ClaimedTask& task, PyObject* generator, Encoder& encoder) {
  uint32_t done = 0;
  while (done < task.num_returns) {
    const Owned item(PyIter_Next(generator));
    end_forked_child();
    if (!item) break;
    if (!encoder.add_result(item.get())) {
      const Owned position(PyLong_FromUnsignedLong(done));
      explain_serialization("result", item.get(), position.get(),
                            to_text(task.function->name).get());
      break;
    }
    ++done;
  }
  if (done == task.num_returns) return true;
  if (PyErr_Occurred() == nullptr) {
    PyErr_Format(PyExc_ValueError, "Task returned %u objects, but num_returns=%u.",
                 static_cast<unsigned>(done), static_cast<unsigned>(task.num_returns));
  }
  if (!is_users(PyErr_Occurred())) return false;
  const Owned error = take_exception();
  for (; done < task.num_returns; ++done) {
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.get())), error.get());
    fail_task(task, encoder);
  }
  return true;
}

bool Worker::encode_result(ClaimedTask& task, Owned result, Encoder& encoder) {
  if (task.num_returns == 0) return true;
  if (PyGen_Check(result.get()) && !task.streaming) {
    return encode_items(task, result.get(), encoder);
  }
  if (task.num_returns > 1) return encode_results(task, std::move(result), encoder);
  if (encoder.add_result(result.get())) return true;
  explain_serialization("result", result.get(), Py_None, to_text(task.function->name).get());
  return false;
}

bool Worker::encode_results(ClaimedTask& task, Owned result, Encoder& encoder) {
  const Owned values(PySequence_List(result.get()));
  if (!values) return false;
  result.reset();
  const Py_ssize_t count = PyList_GET_SIZE(values.get());
  if (count != static_cast<Py_ssize_t>(task.num_returns)) {
    PyErr_Format(PyExc_ValueError, "Task returned %zd objects, but num_returns=%u.", count,
                 static_cast<unsigned>(task.num_returns));
    return false;
  }
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* value = PyList_GET_ITEM(values.get(), i);
    if (encoder.add_result(value)) continue;
    const Owned position(PyLong_FromSsize_t(i));
    explain_serialization("result", value, position.get(), to_text(task.function->name).get());
    return false;
  }
  return true;
}

// What the trace says of a task that failed: the exception's class and its text.
void note_error(ClaimedTask& task, PyObject* error) {
  const bool cancelled = PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt) != 0;
  task.error_type = cancelled ? static_cast<uint32_t>(wire::SystemErrorCode::kTaskCancelled)
                              : process::kErrorRaised;
  task.error_text = Py_TYPE(error)->tp_name;
  const Owned text(PyObject_Str(error));
  Py_ssize_t size = 0;
  const char* utf8 = text ? PyUnicode_AsUTF8AndSize(text.get(), &size) : nullptr;
  if (utf8 == nullptr) PyErr_Clear();  // The user's own __str__ may do anything.
  if (size == 0) return;
  task.error_text += ": ";
  task.error_text += cut_text({utf8, static_cast<size_t>(size)}, kErrorTextMax);
}

// The exception that is set becomes the task's error. False if it ends the worker instead: SystemExit,
// which stays set.
bool Worker::fail_task(ClaimedTask& task, Encoder& encoder) {
  if (is_past_time_limit(task)) {  // Whatever it made of the interruption.
    PyErr_Clear();
    encoder.add_system_error(wire::SystemErrorCode::kTaskTimeout,
                             process::time_limit_text(task.function->name, task.time_limit_ms));
    return true;
  }
  if (PyErr_ExceptionMatches(PyExc_SystemExit)) return false;
  const Owned error = take_exception();
  if (error) note_error(task, error.get());
  // With the cause if it can be pickled and is not too large, else without.
  for (int with_cause = 1; error && load_serialization_module() && with_cause >= 0; --with_cause) {
    const Owned description(PyObject_CallFunction(
        serialization_module().encode_failure, "ONO", error.get(),
        to_text(task.function->name).release(), with_cause == 1 ? Py_True : Py_False));
    if (description && encoder.add_task_error(description.get())) return true;
    PyErr_Clear();
  }
  encoder.add_system_error(
      wire::SystemErrorCode::kInternal,
      "The task " + task.function->name + " failed with an exception that could not be described.");
  return true;
}

Worker* the_worker = nullptr;

// (on lease, put right)
PyObject* run_worker(PyObject*, PyObject* arguments) {
  PyObject* on_lease;
  PyObject* put_right;
  if (!PyArg_ParseTuple(arguments, "OO", &on_lease, &put_right)) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  Leftovers leftovers(*open->runtime, put_right);
  if (!leftovers.begin()) return nullptr;
  Worker worker(*open, on_lease, leftovers);
  the_leftovers = &leftovers;
  the_worker = &worker;
  const bool ended = worker.run();
  the_worker = nullptr;
  the_leftovers = nullptr;
  if (!ended) return nullptr;
  Py_RETURN_NONE;
}

PyObject* take_interrupt(PyObject*, PyObject*) {
  if (open_session == nullptr || running == nullptr || !interruptible) Py_RETURN_NONE;
  switch (open_session->runtime->take_interrupt()) {
    case process::Interrupt::kNone:
      break;
    case process::Interrupt::kCancel:
      return PyUnicode_FromString("cancel");
    case process::Interrupt::kTimeLimit:
      return PyUnicode_FromString("timeout");
  }
  Py_RETURN_NONE;
}

Owned resources_dict(std::string_view lines) {
  Owned dict(PyDict_New());
  while (dict && !lines.empty()) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(lines.size(), line.size() + 1));
    const size_t equals = line.rfind('=');
    if (equals == std::string_view::npos) continue;
    const double amount = std::strtod(std::string(line.substr(equals + 1)).c_str(), nullptr);
    const Owned name = to_text(line.substr(0, equals));
    const Owned value(PyFloat_FromDouble(amount / static_cast<double>(kResourceUnit)));
    if (!name || !value || PyDict_SetItem(dict.get(), name.get(), value.get()) != 0) return {};
  }
  return dict;
}

uint64_t current_number() {
  const ClaimedTask* task = running != nullptr ? running : awaited_call();
  return task != nullptr ? task->number : 0;
}

PyObject* is_cancelled(PyObject*, PyObject*) {
  const ClaimedTask* task = running != nullptr ? running : awaited_call();
  if (task == nullptr || open_session == nullptr) Py_RETURN_FALSE;
  return PyBool_FromLong(open_session->runtime->is_cancelled(*task));
}

PyObject* current_task(PyObject*, PyObject*) {
  const ClaimedTask* task = running;
  if (task == nullptr) task = awaited_call();
  if (task == nullptr) Py_RETURN_NONE;
  const Owned gpus(PyList_New(0));
  if (!gpus) return nullptr;
  for (const uint32_t gpu : task->lease->gpus) {
    const Owned index(PyLong_FromUnsignedLong(gpu));
    if (!index || PyList_Append(gpus.get(), index.get()) != 0) return nullptr;
  }
  const auto* decoded = static_cast<const DecodedFunction*>(task->function->decoded);
  PyObject* callable = decoded != nullptr ? decoded->callable.get() : Py_None;
  return Py_BuildValue(
      "{sNsNsIsIsOsdsNsO}", "function_name", to_text(task->function->name).release(), "task_id",
      task_hex(task->first_return), "attempt", task->attempt, "depth", task->lease->depth,
      "gpu_ids", gpus.get(), "cpus",
      static_cast<double>(task->lease->cpus) / static_cast<double>(kResourceUnit), "resources",
      resources_dict(task->lease->resources).release(), "function", callable);
}

}  // namespace mobula::python
