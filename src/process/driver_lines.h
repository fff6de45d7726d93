#pragma once
// DriverLines: what is to be printed at the driver: lines of workers, and what the runtime itself has to say.
//
// Threads: none of its own; each function is called with the runtime's lock, which is passed to wait on.
// Limits: so many lines wait at a time, of others the number is told; of the runtime's own remarks on one
//         subject, one a second is told, with the number of those left out.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/time.h"
#include "process/runtime_types.h"

namespace mobula::process {

class DriverLines {
 public:
  void add(LogLine line);
  void notify() { arrived_.notify_all(); }
  // The runtime has something to say itself: at the driver, or on a worker's stderr, which leads there.
  void say(std::string text, bool is_driver);
  // A remark about `subject`: "" if it is one too many, else `text` and how many were left out.
  std::string remark(const std::string& subject, std::string text, Instant now);
  // Waits for lines, or until `ended()`. False: there are none any more.
  template <typename Ended>
  bool take(std::unique_lock<std::mutex>& lock, std::vector<LogLine>& lines, Ended ended) {
    arrived_.wait(lock, [&] { return !waiting_.empty() || ended(); });
    return take_waiting(lines);
  }

 private:
  struct Subject {
    Instant told{};
    uint64_t left_out = 0;
  };
  bool take_waiting(std::vector<LogLine>& lines);

  std::condition_variable arrived_;
  std::deque<LogLine> waiting_;
  uint64_t lost_ = 0;
  std::map<std::string, Subject> subjects_;
};

}  // namespace mobula::process
