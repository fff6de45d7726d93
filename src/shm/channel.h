#pragma once
// The shared memory between one caller and one callee: two rings, claim words, and what each side
// publishes about itself. Made by the node daemon, which passes the descriptor to both.
//
//   ChannelHeader | claim words | task ring (caller -> callee) | result ring (callee -> caller)
//
// A claim word belongs to one task in flight:
//
//   owner: queued ──callee──► started          owner (or the daemon, for a dead owner):
//                └─────────────────────────────────► revoked
//
// Both moves are one compare-and-swap on (tag, state), so a task is started or taken back, never
// both, without a message, also while the callee is deep in C code. Tags are never reused within a
// channel, so a frame that was taken back cannot be started after its slot got a new task.
//
// Threads: the caller's runtime lock guards the caller's side; the callee's executor its own.
// Limits:  kClaimSlots tasks in flight a channel.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "shm/ring.h"

namespace mobula::shm {

constexpr uint32_t kClaimSlots = 128;
constexpr uint64_t kNeverWake = ~uint64_t{0};

enum class ClaimState : uint64_t { kFree = 0, kQueued = 1, kStarted = 2, kRevoked = 3 };

constexpr uint64_t claim_word(uint64_t tag, ClaimState state) {
  return (tag << 2) | static_cast<uint64_t>(state);
}
constexpr ClaimState claim_state(uint64_t word) { return static_cast<ClaimState>(word & 3); }
constexpr uint64_t claim_tag(uint64_t word) { return word >> 2; }

struct alignas(64) ClaimWord {
  std::atomic<uint64_t> word;
  // Written by the caller: how many items of this generator task were consumed, for those that may
  // be only so far ahead.
  std::atomic<uint64_t> consumed;
  // Written by the callee: the tag of the task that ran past its time limit and could not be ended
  // without ending the callee, which it is about to do.
  std::atomic<uint64_t> overran;
  // Written by the caller: may this task be run again if its worker has to be killed? For the daemon.
  std::atomic<uint32_t> retriable;

  void queue(uint64_t tag) {
    word.store(claim_word(tag, ClaimState::kQueued), std::memory_order_relaxed);
  }
  // True if the caller of this function now owns the move out of `queued`.
  bool move(uint64_t tag, ClaimState to) {
    uint64_t expected = claim_word(tag, ClaimState::kQueued);
    return word.compare_exchange_strong(expected, claim_word(tag, to));
  }
};

struct ChannelHeader {
  // Written by the daemon: the epoch of the lease under which the callee may start tasks; 0: none.
  alignas(64) std::atomic<uint32_t> lease_epoch;
  // Written by the caller: the callee wakes a sleeping caller only when it has pushed at least this
  // many results on this channel since it was made. kNeverWake: not at all.
  alignas(64) std::atomic<uint64_t> wake_at_result;
  // Written by the callee: results pushed so far.
  alignas(64) std::atomic<uint64_t> results_pushed;
};

constexpr size_t kPageBytes = 4096;
constexpr size_t kClaimsOffset = kPageBytes;
constexpr size_t kClaimsBytes = kClaimSlots * sizeof(ClaimWord);
constexpr size_t kTaskRingOffset = kClaimsOffset + kClaimsBytes;
constexpr size_t kRingSpan = (kRingMemoryBytes + kPageBytes - 1) / kPageBytes * kPageBytes;
constexpr size_t kResultRingOffset = kTaskRingOffset + kRingSpan;
constexpr size_t kChannelBytes = kResultRingOffset + kRingSpan;

inline ChannelHeader& channel_header(std::byte* memory) {
  return *reinterpret_cast<ChannelHeader*>(memory);
}
inline ClaimWord& channel_claim(std::byte* memory, uint32_t slot) {
  return reinterpret_cast<ClaimWord*>(memory + kClaimsOffset)[slot];
}

}  // namespace mobula::shm
