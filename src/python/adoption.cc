#include "python/adoption.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace mobula::python {

namespace {

struct Forked {
  pid_t worker = -1;  // -1: `error` says why. 0: this is the worker.
  int error = 0;
};

// A process whose parent ends goes to the next subreaper, which is the daemon. The process in between
// is made by vfork: it borrows the memory of the zygote, which stands still meanwhile, so only the worker
// costs a copy of the page tables, and what the process in between writes the zygote can read.
//
// The worker alone leaves this function by `return`, and it has a stack of its own.
Forked fork_twice() {
  volatile pid_t worker = -1;
  volatile int error = 0;
  // NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.vfork): see above.
  const pid_t between = ::vfork();
  if (between < 0) return {-1, errno};
  if (between == 0) {
    const pid_t forked = ::fork();
    if (forked == 0) return {0, 0};  // NOLINT(clang-analyzer-unix.Vfork): the worker.
    if (forked < 0) error = errno;
    worker = forked;
    ::_exit(0);
  }
  while (::waitpid(between, nullptr, 0) < 0 && errno == EINTR) {
  }
  return {worker, error};
}

}  // namespace

PyObject* fork_for_daemon(PyObject*, PyObject*) {
  PyOS_BeforeFork();
  const Forked forked = fork_twice();
  if (forked.worker == 0) {
    PyOS_AfterFork_Child();
  } else {
    PyOS_AfterFork_Parent();
  }
  if (forked.worker < 0) {
    errno = forked.error;
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  return PyLong_FromLong(forked.worker);
}

}  // namespace mobula::python
