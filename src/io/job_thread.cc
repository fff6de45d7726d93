#include "io/job_thread.h"

#include <pthread.h>
#include <sched.h>

#include <system_error>
#include <utility>

#include "base/blocked_signals.h"

namespace mobula::io {

JobThread::~JobThread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

bool JobThread::add(Job job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  if (!thread_.joinable() && !start()) return false;
  changed_.notify_one();
  return true;
}

bool JobThread::start() {
  const BlockedSignals blocked;
  try {  // std::thread has no other way to say that there can be none.
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    return false;
  }
  ::pthread_setname_np(thread_.native_handle(), name_.c_str());
  return true;
}

void JobThread::run() {
  if (priority_ == JobPriority::kIdle) {
    const sched_param none{};
    ::pthread_setschedparam(::pthread_self(), SCHED_IDLE, &none);
  }
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    const bool more = job();
    lock.lock();
    if (more) jobs_.push_back(std::move(job));
  }
}

}  // namespace mobula::io
