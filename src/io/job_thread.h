#pragma once
// JobThread runs jobs one after another in a thread of its own: at once, or only when a CPU has
// nothing else to do (kIdle: SCHED_IDLE).
//
// Threads: add() from the loop; the jobs in the thread, with all signals blocked. Jobs own what they
//          touch. The destructor drops what has not begun and waits for what has.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace mobula::io {

enum class JobPriority { kNormal, kIdle };

class JobThread {
 public:
  // A job does one step and returns true if there is more to do.
  using Job = std::function<bool()>;

  // `name`: at most 15 characters.
  JobThread(std::string name, JobPriority priority) : name_(std::move(name)), priority_(priority) {}
  ~JobThread();
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;

  // False: no thread could be started (a limit of the user's processes, say). The job waits for the
  // next add(), which tries again.
  bool add(Job job);

 private:
  bool start();
  void run();

  const std::string name_;
  const JobPriority priority_;
  // A mutex rather than a message: this is the queue of messages to the thread.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mobula::io
