#pragma once
// Notifications: the tokens of notify(), pending or to be taken.
//
// When its object becomes ready, a token goes into the queue of an event loop (loop_queues.h), or to
// next_notified(), whose thread is woken at once. That thread reads the rings for both.
//
// Threads: guarded by the runtime's lock, but for `loops`.

#include <condition_variable>
#include <cstdint>
#include <vector>

#include "process/loop_queues.h"
#include "process/waiter.h"

namespace mobula::process {

struct Notifications {
  std::vector<uint64_t> ready;   // Tokens of objects that have become ready.
  uint64_t pending = 0;          // Tokens of notify() whose objects are pending.
  Waiter waiter;                 // Of next_notified(),
  bool waits = false;            // which waits for them there, or else
  std::condition_variable news;  // here, for the first token.
  LoopQueues loops;
};

}  // namespace mobula::process
