#pragma once
// CallQueue keeps one caller's calls of one actor in order, and decides what becomes of them when the
// actor dies or comes back.
//
//   call:  held ──submit──► waiting ──on_sent──► in flight ──on_done──► held
//                              ▲  └─withdraw─► held   │
//                              └──────send_again──────┘ (worker dead)
//
// In order (the default) a call is sent when those before it were, also if its own arguments are ready
// earlier. In any order, calls whose arguments are missing let others pass.
//
// It touches no ring: the process runtime sends what next() gives for as long as there is room.
//
// Threads: none. Owned by the process runtime, called under its lock.
// Limits:  none of its own; a caller may give one for pending() calls.

#include <cstdint>

#include "core/tasks/task_list.h"

namespace mobula::actors {

struct CallNode : tasks::TaskNode {
  uint64_t sequence = 0;    // Counts the calls of one queue.
  bool ready = false;       // Its arguments are known.
  bool is_retried = false;  // Its caller wants it to outlive the actor's worker.
};

enum class Reach : uint8_t {
  kAwaited,     // Not made yet, or nobody has said where it is.
  kOpen,        // There is a channel to it.
  kRestarting,  // It was lost and is to come back.
  kDead,
};

// What becomes of a call.
enum class Fate : uint8_t { kWaits, kUnavailable, kDead };

class CallQueue {
 public:
  // Before the first call.
  void allow_any_order() { any_order_ = true; }

  // Kept, if the fate is kWaits; else the call is the caller's to fail.
  Fate submit(CallNode& call, bool ready, bool is_retried);
  void on_ready(CallNode& call);

  void set_reach(Reach reach) { reach_ = reach; }
  Reach reach() const { return reach_; }

  // The call to send now, or nullptr.
  CallNode* next() const;
  // While the actor is restarting: a call that could be sent and that nobody wants to wait for.
  CallNode* next_unavailable() const;
  void on_sent(CallNode& call);
  void on_done(CallNode& call);
  void withdraw(CallNode& call);

  // Of calls in flight to a worker that is dead, the last first. One that is retried waits again: at no
  // cost if it had not started, else if a retry is left (-1: without limit). Others are unavailable.
  Fate on_lost(CallNode& call, bool had_started, int32_t retries_left);

  const tasks::TaskList& in_flight() const { return in_flight_; }
  const tasks::TaskList& line() const { return line_; }
  const tasks::TaskList& unready() const { return unready_; }
  bool has_waiting() const { return !line_.empty() || !unready_.empty(); }
  uint64_t pending() const { return line_.size() + unready_.size() + in_flight_.size(); }

  // Aborts if the books do not balance. O(calls); for tests.
  void check_invariants() const;

 private:
  tasks::TaskList& list_of(const CallNode& call) {
    return any_order_ && !call.ready ? unready_ : line_;
  }

  bool any_order_ = false;
  Reach reach_ = Reach::kAwaited;
  uint64_t next_sequence_ = 1;
  tasks::TaskList line_;     // Waiting, in the order in which they are sent.
  tasks::TaskList unready_;  // In any order: those whose arguments are missing.
  tasks::TaskList in_flight_;
};

}  // namespace mobula::actors
