// RuntimeImpl: ending tasks that run past their time limit, in the worker that executes them.
//
// A thread of its own waits for the limit: the executing thread may be anywhere, also in C code that
// keeps the interpreter's lock. It costs a task without a limit nothing, and one that ends in time no
// system call: the thread sleeps until the limit that it knows of, looks, and sleeps again.
//
// A task that cannot be interrupted is ended with this process. Its owner learns why from the claim
// word, whatever else was on its way.

#include <csignal>
#include <cstdio>

#include "process/quiet_thread.h"
#include "process/runtime_impl.h"

namespace mobula::process {

std::string time_limit_text(std::string_view function, uint32_t limit_ms) {
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%g", static_cast<double>(limit_ms) / 1000);
  std::string text("The task ");
  text += function;
  text += " ran longer than its timeout_s=";
  text += seconds;
  text += " and was ended.";
  return text;
}

std::string overrun_text(std::string_view function, uint32_t limit_ms, uint32_t pid) {
  return time_limit_text(function, limit_ms) +
         " It did not stop when it was interrupted, so its worker (pid " + std::to_string(pid) +
         ") was killed.";
}

// The task starts now. Called on the executing thread, with the lock, which is opened once.
void RuntimeImpl::watch_time_limit(const ClaimedTask& task, Locked& lock) {
  clock_.limit.start(std::chrono::milliseconds(task.time_limit_ms), task.started);
  const bool is_earlier = *clock_.limit.next_deadline() < clock_.wakes;
  if (!clock_.thread.joinable()) {
    lock.unlock();
    clock_.thread = quiet_thread("mobula-clock", [this] { run_clock(); });
    lock.lock();
  } else if (is_earlier) {
    clock_.news.notify_one();
  }
}

void RuntimeImpl::run_clock() {
  while (!stop_.load()) {
    {
      std::unique_lock<std::mutex> wait(lock_);
      if (stop_.load()) return;
      const auto deadline = clock_.limit.next_deadline();
      clock_.wakes = deadline.value_or(Instant::max());
      if (!deadline) {
        clock_.news.wait(wait);
      } else if (monotonic_now() < *deadline) {
        clock_.news.wait_for(wait, *deadline - monotonic_now());
      }
    }
    enforce_time_limit();
  }
}

void RuntimeImpl::enforce_time_limit() {
  Locked lock(*this);
  switch (clock_.limit.advance(monotonic_now())) {
    case tasks::TimeLimit::Action::kNone:
      return;
    case tasks::TimeLimit::Action::kInterrupt:
      execution_.interruption = {execution_.channel, execution_.tag, true, true};
      if (execution_.signal != 0) ::pthread_kill(execution_.pthread, execution_.signal);
      return;
    case tasks::TimeLimit::Action::kKill: {
      const auto found = inbound_.find(execution_.channel);
      if (found != inbound_.end() && !found->second->gone) {
        found->second->claim(execution_.slot).overran.store(execution_.tag);
      }
      ::kill(0, SIGKILL);  // With what user code started. The daemon still reads our last records.
    }
  }
}

bool RuntimeImpl::is_past_time_limit() const {
  const std::lock_guard<std::mutex> lock(lock_);
  return clock_.limit.is_exceeded();
}

}  // namespace mobula::process
