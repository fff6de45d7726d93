#pragma once
// Notifications: the tokens of notify(), pending or to be told by next_notified().
//
// Threads: guarded by the runtime's lock.

#include <condition_variable>
#include <cstdint>
#include <vector>

#include "process/waiter.h"

namespace mobula::process {

struct Notifications {
  std::vector<uint64_t> ready;   // Tokens of objects that have become ready,
  std::vector<Object*> objects;  // and one count of each of those objects.
  uint64_t pending = 0;          // Tokens of pending objects.
  Waiter waiter;                 // Of next_notified(),
  bool waits = false;            // which waits for them there, or else
  std::condition_variable news;  // here, for the first token.
};

}  // namespace mobula::process
