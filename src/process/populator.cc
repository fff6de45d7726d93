#include "process/populator.h"

#include <pthread.h>
#include <sched.h>

#include <utility>

#include "base/blocked_signals.h"

namespace mobula::process {

Populator::~Populator() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    jobs_.clear();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Populator::ask(std::shared_ptr<OwnSegment> segment, uint64_t begin, uint64_t end) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || jobs_.size() >= kJobsMax) return;
    jobs_.push_back({std::move(segment), begin, end});
    if (!thread_.joinable()) {
      // Signals are for threads of the language: ours must never get one.
      const BlockedSignals blocked;
      thread_ = std::thread([this] { run(); });
    }
  }
  changed_.notify_all();
}

void Populator::wait_until_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return jobs_.empty() && !busy_; });
}

void Populator::run() {
  pthread_setname_np(pthread_self(), "mobula-populate");
  sched_param parameters{};
  sched_setscheduler(0, SCHED_IDLE,
                     &parameters);  // Of this thread; if refused, it is a normal one.
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    busy_ = true;
    lock.unlock();
    const Result<uint64_t> reached = job.segment->populate(job.begin, job.end, kStepBytes);
    const bool more = reached.has_value() && *reached < job.end;
    if (!more) job.segment.reset();  // May unmap: not under the mutex.
    lock.lock();
    busy_ = false;
    if (more && !stopping_) {
      job.begin = *reached;
      jobs_.push_front(std::move(job));
    }
    if (jobs_.empty()) changed_.notify_all();
  }
}

}  // namespace mobula::process
