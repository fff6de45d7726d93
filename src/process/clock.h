#pragma once
// Clock: the time limit of the task that a worker executes, those of the tasks that a process has
// submitted, and the thread that waits for both.
//
// Threads: guarded by the runtime's lock.

#include <condition_variable>
#include <string>
#include <string_view>
#include <thread>

#include "core/tasks/overdue_watch.h"
#include "core/tasks/time_limit.h"

namespace mobula::process {

// For a task to end when it was interrupted for its time limit.
constexpr auto kTimeLimitGrace = std::chrono::seconds(1);

// For a worker to end its process when that did not help. Then the owner of the task has it ended.
constexpr auto kOverdueSlack = 2 * kTimeLimitGrace;
constexpr auto kOverdueLookEvery = std::chrono::milliseconds(500);

struct Clock {
  tasks::TimeLimit limit{kTimeLimitGrace};
  tasks::OverdueWatch overdue{kOverdueSlack};
  uint64_t limited = 0;            // Tasks of ours that are not done and have a limit.
  Instant next_look{};             // At what they do, if there are any.
  Instant wakes = Instant::max();  // Until when the thread sleeps.
  std::condition_variable news;
  bool is_started = false;
  std::thread thread;  // Started for the first task with a time limit.
};

// What the error of a task says that only ended with its worker.
std::string overrun_text(std::string_view function, uint32_t limit_ms, uint32_t pid);

}  // namespace mobula::process
