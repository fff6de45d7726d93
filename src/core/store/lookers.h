#pragma once
// What becomes of those who wait for room in a full store, judged by the processes that look at values
// there, which therefore must stay in memory.
//
//   one of them works     it looks at them no more when its task ends: whoever waits goes on waiting
//   all wait themselves   for ever, if none lets go: one is told that there is no room
//   else                  nobody knows how long they will look: who waits is refused after a while
//
// Threads: any. Pure.

#include <optional>
#include <span>

#include "base/ids.h"

namespace mobula::store {

// A process that looks at values.
struct Looker {
  ProcessId process{};
  bool executes_task = false;  // Not a call of an actor: what that looks at may outlast the call.
  bool executes_call = false;
  bool waits_in_get = false;
  bool waits_for_room = false;
};

struct LookersVerdict {
  bool some_work = false;
  std::optional<ProcessId> to_refuse;
};

// `waiting`: those who wait to read something back, in order of asking. The last of them that looks at
// something is the one to be refused.
LookersVerdict judge_lookers(std::span<const Looker> lookers, std::span<const ProcessId> waiting);

}  // namespace mobula::store
