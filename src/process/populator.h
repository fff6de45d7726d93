#pragma once
// Populator maps store memory ahead of its use, in a thread of its own that runs only when a CPU has
// nothing else to do (SCHED_IDLE), so that later copies into it meet no page faults.
//
// It works in small steps, because the kernel holds a lock on the address space during each.
//
// Threads: ask() from any, not under the runtime's lock. One thread, started by the first ask(), with
//          all signals blocked; the destructor stops it after its step.
// Limits:  kJobsMax ranges wait; more are forgotten (they are mapped when they are used).

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "process/store_segment.h"

namespace mobula::process {

class Populator {
 public:
  static constexpr size_t kJobsMax = 256;
  static constexpr uint64_t kStepBytes = 256 * 1024;

  Populator() = default;
  ~Populator();
  Populator(const Populator&) = delete;
  Populator& operator=(const Populator&) = delete;

  // Map this range of the segment soon.
  void ask(std::shared_ptr<OwnSegment> segment, uint64_t begin, uint64_t end);
  // Waits until nothing is left to do. For tests and benchmarks.
  void wait_until_idle();

 private:
  struct Job {
    std::shared_ptr<OwnSegment> segment;
    uint64_t begin;
    uint64_t end;
  };
  void run();

  // A mutex rather than a message: the queue is all there is, and it is held for a few instructions.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mobula::process
