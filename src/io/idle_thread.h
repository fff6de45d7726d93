#pragma once
// IdleThread runs jobs one after another when a CPU has nothing else to do (SCHED_IDLE).
//
// Threads: add() from the loop; the jobs in a thread of its own, with all signals blocked. Jobs own
//          what they touch. The destructor drops what has not begun and waits for what has.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace mobula::io {

class IdleThread {
 public:
  // A job does one small step and returns true if there is more to do.
  using Job = std::function<bool()>;

  IdleThread() = default;
  ~IdleThread();
  IdleThread(const IdleThread&) = delete;
  IdleThread& operator=(const IdleThread&) = delete;

  void add(Job job);

 private:
  void run();

  // A mutex rather than a message: this is the queue of messages to the thread.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mobula::io
