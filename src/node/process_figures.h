#pragma once
// ProcessFigures reads what processes use: memory (their proportional share) and CPU time. The kernel
// takes long to add up the memory of a large process, so that is done in a thread of its own.
//
// Threads: made, called and destroyed by the loop's; a thread, started when it is first asked, reads
//          /proc and owns what it was given. The destructor waits for it.

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "io/loop.h"

namespace mobula::node {

struct ProcessUse {
  pid_t pid = 0;
  uint64_t memory_bytes = 0;  // 0: it is gone.
  double cpu_seconds = 0;
};

class ProcessFigures {
 public:
  using Done = std::function<void(std::vector<ProcessUse>)>;

  explicit ProcessFigures(io::Loop& loop) : loop_(loop) {}
  ~ProcessFigures();
  ProcessFigures(const ProcessFigures&) = delete;
  ProcessFigures& operator=(const ProcessFigures&) = delete;

  // `done` is called from the loop, with one entry for each pid, in order.
  void read(std::vector<pid_t> pids, Done done);

 private:
  struct Request {
    std::vector<pid_t> pids;
    Done done;
  };
  void run();

  io::Loop& loop_;
  // A mutex rather than a message: this is the queue of messages to the thread.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> requests_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mobula::node
