#pragma once
// OverdueWatch decides when an owner has to end a task that ran past its time limit itself, because the
// worker that executes it does not: it was stopped (SIGSTOP), or hangs.
//
// The owner looks at what its workers execute now and then, and tells what it saw. It cannot know when a
// task started, only when it first saw that it had; so a task has its limit, and `slack`, from then on.
// A worker that is well has ended the task long before.
//
// Threads: none. Owned by the process runtime, called under its lock.
// Time:    only from `now` arguments, which never go backwards.

#include <map>

#include "base/ids.h"
#include "base/time.h"

namespace mobula::tasks {

class OverdueWatch {
 public:
  explicit OverdueWatch(Duration slack) : slack_(slack) {}

  // At the other end of the channel the task with this tag has started and may run for `limit`. True,
  // once a task: it is to be ended.
  bool saw(ChannelId channel, uint64_t tag, Duration limit, Instant now);
  // All channels were looked at: what was not seen since the last time is forgotten.
  void end_round();

  size_t size() const { return seen_.size(); }

 private:
  struct Sight {
    uint64_t tag = 0;
    Instant first{};
    bool is_fresh = true;  // Of this round.
    bool is_told = false;
  };

  const Duration slack_;
  std::map<ChannelId, Sight> seen_;
};

}  // namespace mobula::tasks
