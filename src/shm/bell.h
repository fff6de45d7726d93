#pragma once
// A doorbell: how processes tell one process that there is news, and how it waits for some.
//
// BellPage is the first page of a process's own small memfd; every peer maps it. A sender first
// publishes its news (a ring's tail), then sets its bit, and makes the wake-up call only if the
// owner said that it sleeps. One bit stands for one inbound ring.
//
// DaemonBell is the same for a node daemon, which waits in epoll: an eventfd instead of a futex.
//
// Threads: any may ring; one at a time waits (the holder of the reader role).
// Limits:  kBellBits inbound rings a process; the last bit is for the process's own threads.

#include <atomic>
#include <cstdint>

#include "base/time.h"

namespace mobula::shm {

constexpr uint32_t kBellBits = 511;    // Of inbound rings: 0 to 510.
constexpr uint32_t kOwnBellBit = 511;  // The owner's own threads tell each other.
constexpr uint32_t kBellWords = 8;
constexpr size_t kBellBytes = 4096;

struct BellPage {
  alignas(64) std::atomic<uint32_t> sequence;  // The futex word; changes with every wake-up call.
  std::atomic<uint32_t> sleeping;              // 1: the owner sleeps, or is about to.
  alignas(64) std::atomic<uint64_t> news[kBellWords];
};
static_assert(sizeof(BellPage) <= kBellBytes);

// Says that ring `bit` has news, without waking anybody.
inline void announce(BellPage& bell, uint32_t bit) {
  std::atomic<uint64_t>& word = bell.news[bit / 64];
  const uint64_t mask = uint64_t{1} << (bit % 64);
  // The fence orders the caller's publication before the look at the bit: either the owner, who
  // clears bits before reading rings, sees the publication, or we see the bit cleared.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if ((word.load(std::memory_order_relaxed) & mask) == 0) word.fetch_or(mask);
}

// True if the owner sleeps and this caller is the one to make the wake-up call.
inline bool should_wake(BellPage& bell) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return bell.sleeping.load(std::memory_order_relaxed) != 0 && bell.sleeping.exchange(0) != 0;
}

// The same behind announce(), whose fence serves for this look, too.
inline bool sleeps_after_announcement(BellPage& bell) {
  return bell.sleeping.load() != 0 && bell.sleeping.exchange(0) != 0;
}

// The system call. Not under any lock.
void wake(BellPage& bell);

inline void ring_bell(BellPage& bell, uint32_t bit) {
  announce(bell, bit);
  if (should_wake(bell)) wake(bell);
}

inline bool has_news(const BellPage& bell) {
  uint64_t any = 0;
  for (const auto& word : bell.news) any |= word.load(std::memory_order_relaxed);
  return any != 0;
}

// Two-step sleep, so that no wake-up is lost: prepare, look again, then sleep.
inline uint32_t prepare_sleep(BellPage& bell) {
  const uint32_t sequence = bell.sequence.load();
  bell.sleeping.store(1);  // seq_cst: ordered before the caller's second look.
  return sequence;
}
inline void cancel_sleep(BellPage& bell) { bell.sleeping.store(0); }

enum class Woken { kByBell, kByTimeout, kBySignal };
// Sleeps until the sequence moves, at most `timeout`. Who rings has taken the flag back; after anything
// else it is the caller's to take back, unless another thread of its own sleeps there by now.
Woken sleep(BellPage& bell, uint32_t sequence, Duration timeout);

struct DaemonBell {
  alignas(64) std::atomic<uint32_t> sleeping;
};

// Tells the daemon that an uplink has news. One system call (write) at most.
void ring_daemon(DaemonBell& bell, int event_fd);

// A process-private futex for threads that wait for the holder of the reader role.
Woken futex_sleep(std::atomic<uint32_t>& word, uint32_t expected, Duration timeout);
void futex_wake(std::atomic<uint32_t>& word);

}  // namespace mobula::shm
