#pragma once
// Waiter: a thread that waits for objects, tasks or room; WaitNode: one object that it waits for.
//
// Threads: guarded by the runtime's lock, except `word`, on which a parked thread sleeps.

#include <atomic>
#include <cstdint>
#include <optional>

#include "base/time.h"
#include "process/object.h"
#include "shm/bell.h"

namespace mobula::process {

struct ClaimedTask;

// A thread in wait() or next_task().
struct Waiter {
  int64_t remaining = 0;       // Objects still needed; satisfied at 0.
  bool for_task = false;       // next_task(): satisfied by a task to start.
  uint32_t group = 0;          // next_call(): of this concurrency group.
  bool wants_first = false;    // Fewer are needed than are waited for: any result counts.
  bool is_wait = false;        // Of `wait`, not `get`.
  bool may_look = false;       // With the interpreter's lock held, beside whoever reads for all.
  bool ends_at_error = false;  // One object that is an error satisfies it, too.
  bool for_notified = false;   // next_notified(): satisfied by a token to tell.
  const ClaimedTask* for_room = nullptr;  // yield_item(): satisfied when it may yield again.
  bool parked = false;
  std::atomic<uint32_t> word{0};
};

// One object that a Waiter waits for.
struct WaitNode {
  Object* object = nullptr;
  Waiter* waiter = nullptr;
  WaitNode* previous = nullptr;
  WaitNode* next = nullptr;
  uint64_t token = 0;  // Of notify(): the node is on the heap and goes when the object is ready.
  uint32_t queue = 0;  // Where the token goes then.
};

// How a sleep ended; nothing: there was none.
using Slept = std::optional<shm::Woken>;

// The looks of one wait with the interpreter's lock held.
struct HeldLook {
  Instant until;
  bool over = false;
};

// How a kind of wait has fared lately (docs/decisions: waiting).
struct SpinCredit {
  int64_t microseconds = 0;
};

}  // namespace mobula::process
