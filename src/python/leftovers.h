#pragma once
// Leftovers: what a task leaves behind in its worker's process that would hurt the next one: standard
// streams closed or led elsewhere, timers, signal handlers, trace functions. Seen and, with the help of
// Python (python/mobula/_after_task.py), put right before the next task begins. docs/leftovers.md lists it.
// It also sees to it that output has the name of its task (process/output_label.h).
//
// What costs nothing is looked at after each task: whether Python's streams are ours, and what the streams
// themselves noted. What takes system calls, after a sign, after a function's first task, and when a
// millisecond has passed since the last look: before a result is sent, before the next task, or when the
// worker is about to sleep.
//
// Threads: with the GIL; the main thread but for the notes.

#include <sys/resource.h>
#include <sys/time.h>

#include <array>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "process/runtime.h"
#include "python/owned.h"

namespace mobula::python {

class Leftovers {
 public:
  // Remembers what the process is like. `put_right`: see PutRight.
  Leftovers(process::Runtime& runtime, PyObject* put_right);
  Leftovers(const Leftovers&) = delete;
  ~Leftovers();

  bool begin();  // False with an exception set.
  void become_actor() { is_actor_ = true; }
  // A task begins. With no exception set.
  void before_task(std::string_view name, Instant now);
  // The task is over, and nobody knows: a process that turns out to be of no more use gets no other.
  void before_result(Instant now) { look_if_due(now); }
  // It is the first of its function here.
  void note_new_function() { new_function_ = true; }
  // It is over, but its result was not sent. With no exception set.
  void after_task();
  // The worker is about to sleep: repairs what can be repaired without code of the user's.
  void on_idle();
  // Whose output it is from now on, whatever runs.
  void name_output(std::string_view name, Instant now);
  bool restore_descriptor(int descriptor);

 private:
  struct Descriptor {
    int copy = -1;  // Ours, of where it led. -1: there was none.
    dev_t device = 0;
    ino_t inode = 0;
  };
  struct Watched {
    int number = 0;
    Owned handler;  // As Python knows it.
    struct sigaction action {};
  };
  struct Limit {
    __rlimit_resource resource{};
    rlimit values{};
  };

  bool remember_signals(PyObject* numbers);
  void remember_kernel_state();
  bool streams_are_ours() const;
  bool is_traced_as_before() const;
  void look_if_due(Instant now);
  // True: there is work for Python.
  bool look();
  void look_at_descriptors();
  void stop_timers() const;
  void look_at_mask() const;
  void look_at_directory() const;
  void look_at_limits();
  bool signals_differ() const;
  bool stdin_or_originals_differ() const;
  bool threads_are_traced() const;
  bool modules_differ() const;
  void put_right();
  void end_lines();
  static bool leads_to(int descriptor, const Descriptor& expected);

  process::Runtime& runtime_;
  PyObject* const put_right_;
  bool is_actor_ = false;
  bool due_ = false;  // A task has run since the last look.
  bool new_function_ = false;
  bool found_ = false;  // By a look that could not call Python.
  Instant looked_at_{};
  std::string name_;
  PyObject* modules_ = nullptr;  // sys.modules. Borrowed, as the next.
  PyObject* sys_ = nullptr;      // The module's dictionary.
  std::array<Owned, 3> keys_;    // "stdout", "stderr", "stdin"
  std::array<Owned, 2> streams_;
  std::array<Owned, 2> original_keys_;  // "__stdout__", "__stderr__"
  Owned module_key_;
  Owned module_;
  Owned getsignal_;
  Owned cancel_dump_;  // Of faulthandler, as the next.
  Owned dumps_crashes_;
  Owned set_wakeup_;
  PyObject* threading_ = nullptr;  // The module's dictionary, borrowed.
  std::array<Owned, 2> hook_keys_;
  std::array<Owned, 2> hooks_;
  std::array<Descriptor, 3> descriptors_;
  std::vector<Watched> signals_;
  std::vector<Limit> limits_;
  sigset_t mask_{};
  int directory_ = -1;
  void* trace_function_ = nullptr;
  void* profile_function_ = nullptr;
  PyObject* trace_object_ = nullptr;  // To compare only.
  PyObject* profile_object_ = nullptr;
};

// The worker's; null in other processes.
extern Leftovers* the_leftovers;

// METH_FASTCALL: pipe, unfinished
PyObject* note_output(PyObject* module, PyObject* const* arguments, Py_ssize_t count);
PyObject* note_leftover(PyObject* module, PyObject* nothing);
PyObject* restore_descriptor(PyObject* module, PyObject* number);
PyObject* name_output(PyObject* module, PyObject* name);

}  // namespace mobula::python
