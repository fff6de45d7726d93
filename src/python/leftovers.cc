#include "python/leftovers.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "process/output_label.h"
#include "python/session.h"

namespace mobula::python {

namespace {

constexpr Duration kLookEvery = std::chrono::milliseconds(1);

// What the streams noted since it was last looked at.
struct Notes {
  bool wrote = false;
  bool leftover = false;
  std::array<bool, process::kOutputPipes> unfinished{};

  bool any() const { return leftover || unfinished[0] || unfinished[1]; }
};
Notes notes;

constexpr std::array<__itimer_which, 3> kTimers = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
constexpr std::array<__rlimit_resource, 5> kLimits = {RLIMIT_AS, RLIMIT_DATA, RLIMIT_CPU,
                                                      RLIMIT_FSIZE, RLIMIT_NOFILE};

void drop_exception() {
  if (PyErr_Occurred() != nullptr) PyErr_WriteUnraisable(nullptr);
}

}  // namespace

Leftovers* the_leftovers = nullptr;

Leftovers::Leftovers(process::Runtime& runtime, PyObject* put_right)
    : runtime_(runtime), put_right_(put_right) {}

Leftovers::~Leftovers() {
  for (const Descriptor& descriptor : descriptors_) {
    if (descriptor.copy >= 0) ::close(descriptor.copy);
  }
  if (directory_ >= 0) ::close(directory_);
}

bool Leftovers::begin() {
  const Owned sys(PyImport_ImportModule("sys"));
  const Owned signal_module(PyImport_ImportModule("_signal"));
  const Owned faulthandler(PyImport_ImportModule("faulthandler"));
  const Owned threading(PyImport_ImportModule("threading"));
  if (!sys || !signal_module || !faulthandler || !threading) return false;
  cancel_dump_ = Owned(PyObject_GetAttrString(faulthandler.get(), "cancel_dump_traceback_later"));
  dumps_crashes_ = Owned(PyObject_GetAttrString(faulthandler.get(), "is_enabled"));
  set_wakeup_ = Owned(PyObject_GetAttrString(signal_module.get(), "set_wakeup_fd"));
  if (!cancel_dump_ || !dumps_crashes_ || !set_wakeup_) return false;
  threading_ = PyModule_GetDict(threading.get());
  const std::array<const char*, 2> hooks = {"_trace_hook", "_profile_hook"};
  for (size_t i = 0; i < hooks.size(); ++i) {
    hook_keys_[i] = Owned(PyUnicode_InternFromString(hooks[i]));
    hooks_[i] = Owned(PyObject_GetAttrString(threading.get(), hooks[i]));
    if (!hook_keys_[i] || !hooks_[i]) return false;
  }
  sys_ = PyModule_GetDict(sys.get());
  modules_ = PyImport_GetModuleDict();
  const std::array<const char*, 3> names = {"stdout", "stderr", "stdin"};
  for (size_t i = 0; i < names.size(); ++i) {
    keys_[i] = Owned(PyUnicode_InternFromString(names[i]));
    if (!keys_[i]) return false;
  }
  for (size_t i = 0; i < streams_.size(); ++i) {
    streams_[i] = Owned(PyObject_GetAttr(put_right_, keys_[i].get()));
    original_keys_[i] = Owned(PyUnicode_InternFromString(i == 0 ? "__stdout__" : "__stderr__"));
    if (!streams_[i] || !original_keys_[i]) return false;
  }
  module_key_ = Owned(PyUnicode_InternFromString("mobula"));
  module_ = Owned(PyImport_ImportModule("mobula"));
  getsignal_ = Owned(PyObject_GetAttrString(signal_module.get(), "getsignal"));
  const Owned numbers(PyObject_GetAttrString(put_right_, "signals"));
  if (!module_key_ || !module_ || !getsignal_ || !numbers) return false;
  if (!remember_signals(numbers.get())) return false;
  remember_kernel_state();
  runtime_.output_label().watch({descriptors_[1].copy, descriptors_[2].copy});
  notes = {};
  return true;
}

bool Leftovers::remember_signals(PyObject* numbers) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(numbers); ++i) {
    PyObject* number = PyTuple_GET_ITEM(numbers, i);
    Watched watched;
    watched.number = static_cast<int>(PyLong_AsLong(number));
    watched.handler = Owned(PyObject_CallOneArg(getsignal_.get(), number));
    if (!watched.handler || PyErr_Occurred() != nullptr) return false;
    ::sigaction(watched.number, nullptr, &watched.action);
    signals_.push_back(std::move(watched));
  }
  return true;
}

void Leftovers::remember_kernel_state() {
  for (int i = 0; i < 3; ++i) {
    struct stat about {};
    if (::fstat(i, &about) != 0) continue;
    descriptors_[static_cast<size_t>(i)] = {::fcntl(i, F_DUPFD_CLOEXEC, 3), about.st_dev,
                                            about.st_ino};
  }
  for (const __rlimit_resource resource : kLimits) {
    Limit limit{resource, {}};
    if (::getrlimit(resource, &limit.values) == 0) limits_.push_back(limit);
  }
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask_);
  directory_ = ::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  const PyThreadState* state = PyThreadState_Get();
  trace_function_ = reinterpret_cast<void*>(state->c_tracefunc);
  profile_function_ = reinterpret_cast<void*>(state->c_profilefunc);
  trace_object_ = state->c_traceobj;
  profile_object_ = state->c_profileobj;
}

void Leftovers::before_task(std::string_view name, Instant now) {
  look_if_due(now);
  due_ = true;
  if (found_) put_right();
  if (!is_actor_ && name != name_) name_output(name, now);
}

void Leftovers::look_if_due(Instant now) {
  if (!due_ || (!new_function_ && now - looked_at_ < kLookEvery)) return;
  due_ = false;
  new_function_ = false;
  looked_at_ = now;
  found_ = look() || found_;
}

void Leftovers::after_task() {
  if (!notes.any() && (is_actor_ || (streams_are_ours() && is_traced_as_before()))) [[likely]] {
    return;
  }
  if (notes.leftover) look();
  put_right();
}

void Leftovers::on_idle() {
  if (due_) look_if_due(monotonic_now());
}

void Leftovers::name_output(std::string_view name, Instant now) {
  PythonGate gate;
  runtime_.output_label().change(name, now, std::exchange(notes.wrote, false), gate);
  name_ = name;
}

bool Leftovers::streams_are_ours() const {
  return PyDict_GetItemWithError(sys_, keys_[0].get()) == streams_[0].get() &&
         PyDict_GetItemWithError(sys_, keys_[1].get()) == streams_[1].get();
}

bool Leftovers::is_traced_as_before() const {
  const PyThreadState* state = PyThreadState_Get();
  return reinterpret_cast<void*>(state->c_tracefunc) == trace_function_ &&
         reinterpret_cast<void*>(state->c_profilefunc) == profile_function_ &&
         state->c_traceobj == trace_object_ && state->c_profileobj == profile_object_;
}

// Calls nothing of the user's.
bool Leftovers::look() {
  look_at_descriptors();
  if (is_actor_) return false;
  stop_timers();
  look_at_mask();
  look_at_directory();
  look_at_limits();
  const Owned cancelled(PyObject_CallNoArgs(cancel_dump_.get()));
  const Owned minus_one(PyLong_FromLong(-1));
  const Owned wakeup(PyObject_CallOneArg(set_wakeup_.get(), minus_one.get()));
  const Owned dumps(PyObject_CallNoArgs(dumps_crashes_.get()));
  if (!cancelled || !wakeup || !dumps) PyErr_Clear();
  return dumps.get() != Py_True || !streams_are_ours() || stdin_or_originals_differ() ||
         signals_differ() || modules_differ() || threads_are_traced();
}

bool Leftovers::leads_to(int descriptor, const Descriptor& expected) {
  struct stat about {};
  return ::fstat(descriptor, &about) == 0 && about.st_dev == expected.device &&
         about.st_ino == expected.inode;
}

void Leftovers::look_at_descriptors() {
  for (int i = 0; i < 3; ++i) {
    if (leads_to(i, descriptors_[static_cast<size_t>(i)])) continue;
    // An actor may lead its output elsewhere for good; closed, it would be the next file's.
    if (is_actor_ && ::fcntl(i, F_GETFD) >= 0) continue;
    restore_descriptor(i);
  }
}

bool Leftovers::restore_descriptor(int descriptor) {
  if (descriptor < 0 || descriptor > 2) return false;
  const Descriptor& ours = descriptors_[static_cast<size_t>(descriptor)];
  // The copy's number may have become somebody else's file.
  if (ours.copy < 0 || !leads_to(ours.copy, ours)) return false;
  return leads_to(descriptor, ours) || ::dup2(ours.copy, descriptor) == descriptor;
}

void Leftovers::stop_timers() const {
  for (const __itimer_which timer : kTimers) {
    itimerval now{};
    if (::getitimer(timer, &now) != 0) continue;
    if (now.it_value.tv_sec == 0 && now.it_value.tv_usec == 0) continue;
    const itimerval off{};
    ::setitimer(timer, &off, nullptr);
  }
}

void Leftovers::look_at_mask() const {
  sigset_t now{};
  if (::pthread_sigmask(SIG_SETMASK, nullptr, &now) != 0) return;
  if (std::memcmp(&now, &mask_, sizeof now) != 0) ::pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
}

// One that is there stays; nothing works in one that was removed.
void Leftovers::look_at_directory() const {
  struct stat about {};
  if (::stat(".", &about) == 0 && about.st_nlink > 0) return;
  static_cast<void>(::fchdir(directory_));
}

void Leftovers::look_at_limits() {
  for (const Limit& limit : limits_) {
    rlimit now{};
    if (::getrlimit(limit.resource, &now) != 0 || now.rlim_cur >= limit.values.rlim_cur) continue;
    if (::setrlimit(limit.resource, &limit.values) == 0) continue;
    now.rlim_cur = std::min(limit.values.rlim_cur, now.rlim_max);
    ::setrlimit(limit.resource, &now);
    if (now.rlim_cur < limit.values.rlim_cur) runtime_.retire();  // Never to be had here again.
  }
}

bool Leftovers::signals_differ() const {
  for (const Watched& watched : signals_) {
    struct sigaction action {};
    if (::sigaction(watched.number, nullptr, &action) == 0 &&
        action.sa_handler != watched.action.sa_handler) {
      return true;
    }
    // A handler of Python's where there was none has an action of its own.
    if (watched.action.sa_handler == SIG_DFL || watched.action.sa_handler == SIG_IGN) continue;
    const Owned number(PyLong_FromLong(watched.number));
    const Owned handler(number ? PyObject_CallOneArg(getsignal_.get(), number.get()) : nullptr);
    if (!handler) {
      PyErr_Clear();
      continue;
    }
    if (handler.get() != watched.handler.get()) return true;
  }
  return false;
}

bool Leftovers::stdin_or_originals_differ() const {
  const Owned ours(PyObject_GetAttr(put_right_, keys_[2].get()));
  if (!ours) PyErr_Clear();
  if (!ours || PyDict_GetItemWithError(sys_, keys_[2].get()) != ours.get()) return true;
  for (size_t i = 0; i < streams_.size(); ++i) {
    if (PyDict_GetItemWithError(sys_, original_keys_[i].get()) != streams_[i].get()) return true;
  }
  if (ours.get() == Py_None) return false;
  const Owned closed(PyObject_GetAttrString(ours.get(), "closed"));
  if (!closed) PyErr_Clear();
  return closed.get() != Py_False;
}

bool Leftovers::threads_are_traced() const {
  for (size_t i = 0; i < hook_keys_.size(); ++i) {
    if (PyDict_GetItemWithError(threading_, hook_keys_[i].get()) != hooks_[i].get()) return true;
  }
  return false;
}

bool Leftovers::modules_differ() const {
  return PyDict_GetItemWithError(modules_, module_key_.get()) != module_.get();
}

void Leftovers::put_right() {
  found_ = false;
  // Handlers whose signals have come run now, not in the next task; they may raise.
  if (PyErr_CheckSignals() != 0) drop_exception();
  for (int tries = 0; tries < 2; ++tries) {
    const Owned done(PyObject_CallOneArg(put_right_, is_actor_ ? Py_True : Py_False));
    if (done) break;
    drop_exception();
  }
  end_lines();
  notes.leftover = false;
}

void Leftovers::end_lines() {
  PythonGate gate;
  for (size_t pipe = 0; pipe < notes.unfinished.size(); ++pipe) {
    if (std::exchange(notes.unfinished[pipe], false)) {
      runtime_.output_label().end_line(pipe, gate);
    }
  }
}

PyObject* note_output(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 2 || !PyLong_Check(arguments[0])) {
    PyErr_SetString(PyExc_TypeError, "note_output(pipe, unfinished)");
    return nullptr;
  }
  notes.wrote = true;
  notes.unfinished[PyLong_AsLong(arguments[0]) == 0 ? 0 : 1] = arguments[1] == Py_True;
  Py_RETURN_NONE;
}

PyObject* note_leftover(PyObject*, PyObject*) {
  notes.leftover = true;
  notes.wrote = true;
  Py_RETURN_NONE;
}

PyObject* restore_descriptor(PyObject*, PyObject* number) {
  const long descriptor = PyLong_AsLong(number);
  if (descriptor == -1 && PyErr_Occurred() != nullptr) return nullptr;
  return PyBool_FromLong(the_leftovers != nullptr &&
                         the_leftovers->restore_descriptor(static_cast<int>(descriptor)));
}

PyObject* name_output(PyObject*, PyObject* name) {
  Py_ssize_t size = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(name, &size);
  if (bytes == nullptr) return nullptr;
  if (the_leftovers != nullptr) {
    the_leftovers->name_output({bytes, static_cast<size_t>(size)}, monotonic_now());
  }
  Py_RETURN_NONE;
}

}  // namespace mobula::python
