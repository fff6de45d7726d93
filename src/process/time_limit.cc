// RuntimeImpl: ending tasks that run past their time limit, in the worker that executes them.
//
// A thread of its own waits for the limit: the executing thread may be anywhere, also in C code that
// keeps the interpreter's lock. It costs a task without a limit nothing, and one that ends in time no
// system call: the thread sleeps until the limit that it knows of, looks, and sleeps again.
//
// A task that cannot be interrupted is ended with this process. Its owner learns why from the claim
// word, whatever else was on its way. A process that is stopped does not even do that: so the owner,
// too, looks at the tasks with a limit that it has submitted, while there are any.

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <utility>

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

// The task starts now: called on the executing thread, with the lock, which is opened once. Without a
// task: this process submits one that has a limit.
void RuntimeImpl::watch_time_limit(const ClaimedTask* task, Locked& lock) {
  if (task != nullptr) {
    clock_.limit.start(std::chrono::milliseconds(task->time_limit_ms), task->started);
  }
  if (!std::exchange(clock_.is_started, true)) {
    lock.unlock();
    auto thread = quiet_thread("mobula-clock", [this] { run_clock(); });
    lock.lock();
    clock_.thread = std::move(thread);
    return;
  }
  const auto deadline = clock_.limit.next_deadline();
  if (task != nullptr && *deadline < clock_.wakes) clock_.news.notify_one();
}

void RuntimeImpl::run_clock() {
  while (!stop_.load()) {
    {
      std::unique_lock<std::mutex> wait(lock_);
      if (stop_.load()) return;
      clock_.wakes = clock_.limit.next_deadline().value_or(Instant::max());
      if (clock_.limited != 0) clock_.wakes = std::min(clock_.wakes, clock_.next_look);
      if (clock_.wakes == Instant::max()) {
        clock_.news.wait(wait);
      } else if (const Instant now = monotonic_now(); now < clock_.wakes) {
        clock_.news.wait_for(wait, clock_.wakes - now);
      }
    }
    enforce_time_limits(false);
    enforce_time_limits(true);
  }
}

// Of the task that is executed here; or of those that were submitted here: a worker that does not end
// one of them is ended, by the daemon if it is stopped.
void RuntimeImpl::enforce_time_limits(bool of_own_tasks) {
  Locked lock(*this);
  const Instant now = monotonic_now();
  if (of_own_tasks) {
    if (clock_.limited == 0 || now < clock_.next_look || !disconnected_.empty()) return;
    clock_.next_look = now + kOverdueLookEvery;
    pump();  // What has ended is no longer in flight.
    for (auto& [id, channel] : outbound_) {
      const tasks::Lease* lease = channel->gone ? nullptr : dispatcher_.lease_of(id);
      if (lease == nullptr) continue;
      for (const tasks::TaskNode* node = lease->in_flight.front(); node; node = node->next) {
        const Task& task = *static_cast<const Task*>(node);
        if (task.time_limit_ms == 0 || task.slot == kNoSlot) continue;
        shm::ClaimWord& claim = channel->claim(task.slot);
        const Duration limit = std::chrono::milliseconds(task.time_limit_ms);
        if (claim.word.load() != shm::claim_word(task.tag, shm::ClaimState::kStarted)) continue;
        if (!clock_.overdue.saw(id, task.tag, limit, now)) continue;
        claim.overran.store(task.tag);  // Why its worker will have died.
        const uint32_t peer = number(channel->peer);
        uplink_->send([&](wire::Builder& builder) {
          return wire::fb::CreateCancel(builder, peer, task.tag, true, true);
        });
        ring_daemon_later();
      }
    }
    clock_.overdue.end_round();
    settle();
    return;
  }
  switch (clock_.limit.advance(now)) {
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
