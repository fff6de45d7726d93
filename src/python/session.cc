#include "python/session.h"

#include <pthread.h>
#include <unistd.h>

#include "python/unhandled.h"

namespace mobula::python {

Session* open_session = nullptr;
bool forked_child = false;

namespace {

PyObject* hooks_object = nullptr;
uint64_t sessions_made = 0;

void after_fork_in_child() {
  if (open_session == nullptr) return;
  open_session = nullptr;  // Its runtime, threads and rings belong to the parent.
  forked_child = true;
}

PyObject* raise_forked() {
  PyErr_SetString(PyExc_RuntimeError,
                  "Mobula does not work in a forked child of a process that uses it. Start the "
                  "child by other means (multiprocessing's \"spawn\", subprocess), or use tasks.");
  return nullptr;
}

PyObject* raise_text(const char* hook, std::string_view text) {
  return raise_from_hook(hook, Owned(Py_BuildValue("(N)", to_text(text).release())));
}

void destroy_if_unused(Session* session) {
  if (session->closed && session->users == 0 && !forked_child) delete session;
}

}  // namespace

SessionUse::~SessionUse() {
  --session_->users;
  destroy_if_unused(session_);
}

void PythonGate::acquire() {
  // A thread that asks for the GIL of a dying interpreter is ended in the middle of our code.
  // Stopping here is kinder: the process is about to exit.
#if PY_VERSION_HEX >= 0x030D0000
  const bool finalizing = Py_IsFinalizing() != 0;
#else
  const bool finalizing = _Py_IsFinalizing() != 0;
#endif
  if (finalizing) {
    for (;;) pause();
  }
  PyEval_RestoreThread(state_);
}

void watch_forks() { pthread_atfork(nullptr, nullptr, after_fork_in_child); }

Session* require_session() {
  if (open_session != nullptr) [[likely]] {
    return open_session;
  }
  if (forked_child) {
    raise_forked();
    return nullptr;
  }
  if (hooks_object != nullptr) {
    const Owned done(PyObject_CallMethod(hooks_object, "auto_init", nullptr));
    if (!done) return nullptr;
  }
  if (open_session == nullptr) raise_not_connected();
  return open_session;
}

bool connect(int fd, process::RuntimeOptions options) {
  shm::Fd socket(fd);
  if (forked_child) {
    raise_forked();
    return false;
  }
  if (open_session != nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "this process is connected already");
    return false;
  }
  const bool records_call_sites = options.records_call_sites;
  std::shared_ptr<UnhandledTeller> teller;
  if (!options.is_observer) {
    teller = std::make_shared<UnhandledTeller>();
    options.unhandled = teller->errors();
  }
  PythonGate gate;
  auto runtime = process::Runtime::connect(std::move(socket), std::move(options), gate);
  if (!runtime) {
    if (!PyErr_Occurred()) {
      PyErr_SetObject(PyExc_ConnectionError, to_text(runtime.error().message).get());
    }
    return false;
  }
  if (open_session != nullptr) {  // Another thread was faster, while the GIL was free.
    PyErr_SetString(PyExc_RuntimeError, "this process is connected already");
    return false;
  }
  auto session = std::make_unique<Session>();
  session->runtime = std::move(*runtime);
  session->number = ++sessions_made;
  session->teller = std::move(teller);
  session->records_call_sites = records_call_sites;
  open_session = session.release();
  if (open_session->teller != nullptr) open_session->teller->begin(*open_session);
  return true;
}

bool disconnect(bool& daemon_ends) {
  daemon_ends = true;
  if (open_session == nullptr) return true;
  Session* session = std::exchange(open_session, nullptr);
  {
    const SessionUse use(session);
    if (session->teller != nullptr) session->teller->end();
    PythonGate gate;
    daemon_ends = use.runtime().leave(gate);
    session->closed = true;
  }
  return PyErr_Occurred() == nullptr;
}

bool set_hooks(PyObject* hooks) {
  Py_INCREF(hooks);
  PyObject* old = std::exchange(hooks_object, hooks);
  Py_XDECREF(old);
  return true;
}

PyObject* raise_error(const Error& error) {
  if (PyErr_Occurred()) return nullptr;
  switch (error.code) {
    case ErrorCode::kRetryLater:
      return raise_text("store_full_error", error.message);
    case ErrorCode::kDiskFull:
      return raise_text("disk_full_error", error.message);
    case ErrorCode::kUnavailable:
      return raise_text("disconnected_error", error.message);
    case ErrorCode::kNotFound:
      return raise_system_error(wire::SystemErrorCode::kObjectLost, error.message);
    case ErrorCode::kCancelled:
      return raise_system_error(wire::SystemErrorCode::kTaskCancelled, error.message);
    case ErrorCode::kInvalidArgument:
      break;
  }
  PyErr_SetObject(PyExc_ValueError, to_text(error.message).get());
  return nullptr;
}

PyObject* raise_system_error(wire::SystemErrorCode code, std::string_view text) {
  return raise_from_hook("system_error", Owned(Py_BuildValue("(IN)", static_cast<unsigned>(code),
                                                             to_text(text).release())));
}

Owned to_text(std::string_view bytes) {
  return Owned(
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
}

PyObject* raise_not_connected() {
  PyErr_SetString(PyExc_RuntimeError, "Mobula is not initialized in this process: call init()");
  return nullptr;
}

PyObject* call_hook(const char* name, Owned arguments) {
  if (!arguments) return nullptr;
  if (hooks_object == nullptr) {
    PyErr_Format(PyExc_RuntimeError, "%s%S", name, arguments.get());
    return nullptr;
  }
  const Owned hook(PyObject_GetAttrString(hooks_object, name));
  return hook ? PyObject_CallObject(hook.get(), arguments.get()) : nullptr;
}

void note_call_site(Session& session, std::span<process::Object* const> objects, const char* how) {
  if (!session.records_call_sites) [[likely]] {
    return;
  }
  const Owned site(call_hook("call_site", Owned(Py_BuildValue("(s)", how))));
  Py_ssize_t size = 0;
  const char* text = site ? PyUnicode_AsUTF8AndSize(site.get(), &size) : nullptr;
  if (text == nullptr) {
    PyErr_Clear();
    return;
  }
  session.runtime->note_call_site(objects, {text, static_cast<size_t>(size)});
}

PyObject* raise_from_hook(const char* name, Owned arguments) {
  const Owned exception(call_hook(name, std::move(arguments)));
  if (!exception) return nullptr;
  if (!PyExceptionInstance_Check(exception.get())) {
    PyErr_Format(PyExc_TypeError, "hook %s returned %R, which is no exception", name,
                 exception.get());
    return nullptr;
  }
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.get())), exception.get());
  return nullptr;
}

}  // namespace mobula::python
