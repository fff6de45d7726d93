#include "io/job_thread.h"

#include <pthread.h>
#include <sched.h>

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

void JobThread::add(Job job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  if (!thread_.joinable()) {
    const BlockedSignals blocked;
    thread_ = std::thread([this] { run(); });
    ::pthread_setname_np(thread_.native_handle(), name_.c_str());
  }
  changed_.notify_one();
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
