#pragma once
// MemoryWatch looks at the machine's memory while there are workers, and has one of them killed when
// MemoryMonitor says so. It also makes the kernel prefer workers to the daemon.
//
//   MOBULA_MEMORY_USAGE_THRESHOLD     share of the limit from which on a worker is killed (0.95)
//   MOBULA_MEMORY_MONITOR_REFRESH_MS  how often it looks when that is near (250); 0: never
//   MOBULA_MEMORY_LIMIT_BYTES         a limit of this session's own, counted over its processes and store
//
// Threads: the loop's. Between looks it costs nothing; far from the limit it looks every few seconds.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/memory/memory_monitor.h"
#include "io/loop.h"

namespace mobula::node {

class MemoryWatch {
 public:
  struct Callbacks {
    // Everything that takes memory: workers, drivers, the daemon, the store.
    std::function<std::vector<memory::Use>()> uses;
    std::function<void(const memory::Kill&)> kill;
    std::function<void()> reclaim;  // What is kept only to be used again should go.
  };

  MemoryWatch(io::Loop& loop, Callbacks callbacks);

  void on_worker_started(int pid);
  void on_process_gone(ProcessId process) { monitor_.on_process_gone(process); }
  // Are there workers? Without any it does not look.
  void set_needed(bool needed);

 private:
  memory::Figures figures() const;
  void look();
  void set_timer();

  io::Loop& loop_;
  const Callbacks callbacks_;
  const uint64_t own_limit_;
  memory::MemoryMonitor monitor_;
  bool needed_ = false;
  std::unique_ptr<io::Timer> timer_;
};

}  // namespace mobula::node
