#pragma once
// ProcessTitle: what `ps` and /proc/<pid>/cmdline show instead of this process's command line:
// "mobula::<function>" while a worker runs it, "mobula::IDLE" while it waits. The prefix comes from
// MOBULA_PROCTITLE_PREFIX.
//
// It is written into the memory in which the kernel put the command line, so a change is a copy of some
// bytes and no system call. Who reads in that moment may see half of each. A worker's title stays that
// of its last task until it has waited long enough to sleep.
//
// Threads: the one that executes tasks.
// Limits:  as long as the command line was: about 200 bytes in a worker.

#include <cstddef>
#include <string_view>

namespace mobula::python {

class ProcessTitle {
 public:
  // Finds the memory. Without it (no /proc) nothing is ever shown.
  ProcessTitle();

  // "<prefix><name>".
  void show(std::string_view name);

 private:
  char* memory_ = nullptr;
  size_t size_ = 0;
  size_t prefix_size_ = 0;
};

// This process's, and what is forked from it.
ProcessTitle& process_title();

}  // namespace mobula::python
