#pragma once
// Deferred: what a thread is to do once it has opened the runtime's lock again.
//
// Threads: each has its own.

#include <atomic>
#include <cstdint>
#include <vector>

#include "shm/bell.h"

namespace mobula::process {

struct Deferred {
  struct Bell {
    shm::BellPage* bell;
    uint32_t bit;
    bool wake;
  };
  std::vector<Bell> bells;
  std::vector<std::atomic<uint32_t>*> words;  // Futexes to wake.
  bool daemon = false;                        // Ring the daemon's bell.
};

}  // namespace mobula::process
