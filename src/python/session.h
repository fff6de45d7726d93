#pragma once
// Session: this process's one connection to Mobula as Python sees it, and the hooks by which the
// extension asks the Python package for what is better written in Python.
//
//   none ──connect──► open ──disconnect──► closed (kept while calls or store views still use it)
//                       └──fork()──► none in the child, where every call fails from then on
//
// Refs and functions remember the number of their session, so that what outlives it is recognised
// without being touched: numbers are never used twice.
//
// Threads: with the GIL only. The runtime behind it has its own lock.

#include "process/runtime.h"
#include "python/owned.h"

namespace mobula::python {

class UnhandledTeller;

struct Session {
  std::unique_ptr<process::Runtime> runtime;
  uint64_t number = 0;
  uint64_t users = 0;  // Calls in progress and live store views.
  bool records_call_sites = false;
  bool closed = false;
  std::shared_ptr<UnhandledTeller> teller;
};

// The open session, or nullptr.
extern Session* open_session;
// This process was forked from one that had a session: nothing may be touched.
extern bool forked_child;

// The open session; without one, what the auto_init hook makes. nullptr with an exception set.
Session* require_session();

// Keeps a session's runtime alive; the last use of a closed session destroys it.
class SessionUse {
 public:
  explicit SessionUse(Session* session) : session_(session) { ++session->users; }
  ~SessionUse();
  SessionUse(const SessionUse&) = delete;
  SessionUse& operator=(const SessionUse&) = delete;

  Session* get() const { return session_; }
  process::Runtime& runtime() const { return *session_->runtime; }

 private:
  Session* session_;
};

// Lets other Python threads run, and Ctrl-C through, while the runtime waits.
class PythonGate final : public process::Gate {
 public:
  void release() override { state_ = PyEval_SaveThread(); }
  void acquire() override;
  bool interrupted() override { return PyErr_CheckSignals() != 0; }

 private:
  PyThreadState* state_ = nullptr;
};

// Lets other Python threads run for the time of a block.
class WithoutGil {
 public:
  WithoutGil() { gate_.release(); }
  ~WithoutGil() { gate_.acquire(); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PythonGate gate_;
};

// Called once, when the module is made.
void watch_forks();

// What the module offers as connect, disconnect and set_hooks. False with an exception set.
bool connect(int fd, process::RuntimeOptions options);
bool disconnect(bool& daemon_ends);
bool set_hooks(PyObject* hooks);

// Sets the exception that fits and returns nullptr. One that is set already (by a signal handler
// during the call) stays.
PyObject* raise_error(const Error& error);
PyObject* raise_not_connected();
// What `hooks.<name>(*arguments)` returns; `arguments` is a tuple, or nullptr if making it failed.
PyObject* call_hook(const char* name, Owned arguments);
// Sets the exception that `hooks.<name>(*arguments)` returns; `arguments` is a tuple, or nullptr if
// making it failed.
PyObject* raise_from_hook(const char* name, Owned arguments);
PyObject* raise_system_error(wire::SystemErrorCode code, std::string_view text);

// Remembers where the program has just made these objects, if the session does that; `how`: "put object",
// "task call". An exception that comes of it is dropped: it is for people.
void note_call_site(Session& session, std::span<process::Object* const> objects, const char* how);

// A str; bytes that are not UTF-8 are replaced.
Owned to_text(std::string_view bytes);

}  // namespace mobula::python
