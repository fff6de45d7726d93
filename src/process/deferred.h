#pragma once
// Deferred: what a thread is to do once it has opened the runtime's lock again.
//
// Threads: each has its own.

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "shm/bell.h"
#include "shm/memory.h"

namespace mobula::process {

struct Deferred {
  static constexpr uint32_t kNoBit = ~uint32_t{0};
  struct Bell {
    shm::BellPage* bell;
    uint32_t bit;  // To be announced; or kNoBit.
    bool wake;
  };
  std::vector<Bell> bells;
  std::vector<std::atomic<uint32_t>*> words;           // Futexes to wake.
  std::vector<std::shared_ptr<const shm::Fd>> events;  // Of event loops, to write to.
  bool daemon = false;                                 // Ring the daemon's bell.
};

}  // namespace mobula::process
