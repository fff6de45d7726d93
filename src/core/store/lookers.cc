#include "core/store/lookers.h"

#include <algorithm>

namespace mobula::store {

LookersVerdict judge_lookers(std::span<const Looker> lookers, std::span<const ProcessId> waiting) {
  LookersVerdict verdict;
  bool all_stuck = true;
  for (const Looker& looker : lookers) {
    const bool executes = looker.executes_task || looker.executes_call;
    if (executes && !looker.waits_in_get && !looker.waits_for_room) verdict.some_work = true;
    all_stuck = all_stuck && looker.executes_task && looker.waits_for_room;
  }
  if (verdict.some_work || !all_stuck) return verdict;
  for (auto it = waiting.rbegin(); it != waiting.rend(); ++it) {
    const ProcessId process = *it;
    const bool looks = std::any_of(lookers.begin(), lookers.end(),
                                   [&](const Looker& looker) { return looker.process == process; });
    if (!looks) continue;
    verdict.to_refuse = process;
    break;
  }
  return verdict;
}

}  // namespace mobula::store
