#pragma once
// Execution: what a worker executes now, and whether that is to be interrupted.
//
// Threads: guarded by the runtime's lock.

#include <pthread.h>

#include <cstdint>
#include <thread>

#include "base/ids.h"

namespace mobula::process {

struct Interruption {
  ChannelId channel{};
  uint64_t tag = 0;  // 0: none.
  bool recursive = false;
  bool is_time_limit = false;
};

struct Execution {
  bool running = false;      // Between next_task() and finish_task().
  std::thread::id thread{};  // Which executes tasks, now or between them.
  pthread_t pthread{};       // The same.
  ChannelId channel{};       // From which the task came,
  uint64_t tag = 0;          // and its claim tag and slot there.
  uint16_t slot = 0;
  uint64_t number = 0;         // Counts the tasks executed here.
  uint32_t since_pump = 0;     // Tasks that were taken without a look at the bell.
  bool retiring = false;       // No task after this one.
  bool blocked = false;        // The task waits in get; its CPUs were given back.
  uint64_t yield_parcels = 0;  // Counts the parcels of items.
  int signal = 0;              // By which the thread is interrupted; 0: not at all.
  Interruption interruption;   // Asked for and not taken.
};

}  // namespace mobula::process
