#pragma once
// Clock: the time limit of the task that a worker executes, and the thread that waits for it.
//
// Threads: guarded by the runtime's lock; `thread` belongs to the executing thread.

#include <condition_variable>
#include <string>
#include <string_view>
#include <thread>

#include "core/tasks/time_limit.h"

namespace mobula::process {

// For a task to end when it was interrupted for its time limit.
constexpr auto kTimeLimitGrace = std::chrono::seconds(1);

struct Clock {
  tasks::TimeLimit limit{kTimeLimitGrace};
  Instant wakes = Instant::max();  // Until when the thread sleeps.
  std::condition_variable news;
  std::thread thread;  // Started for the first task with a time limit.
};

// What the error of a task says that only ended with its worker.
std::string overrun_text(std::string_view function, uint32_t limit_ms, uint32_t pid);

}  // namespace mobula::process
