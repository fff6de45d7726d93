#pragma once
// LoopQueues: tokens of ready objects for event loops, each of which has a queue.
//
// A loop is woken through an eventfd, once for all tokens that have come since it took the last.
//
// Threads: any; it has a lock of its own, under which nothing is called. The runtime's may be held.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "shm/memory.h"

namespace mobula::process {

class LoopQueues {
 public:
  using Event = std::shared_ptr<const shm::Fd>;

  // `event`: an eventfd; a copy of the descriptor is kept. The number is never 0.
  // kInvalidArgument: it is not open.
  Result<uint32_t> open(int event);
  void close(uint32_t queue);
  // Of a queue that is closed: nothing.
  std::vector<uint64_t> take(uint32_t queue);
  // The eventfd to write to, if the loop has to be woken. A token for a closed queue is dropped.
  Event add(uint32_t queue, uint64_t token);

 private:
  struct Queue {
    Event event;
    std::vector<uint64_t> tokens;
  };

  std::mutex lock_;
  std::map<uint32_t, Queue> queues_;
  uint32_t last_ = 0;
};

}  // namespace mobula::process
