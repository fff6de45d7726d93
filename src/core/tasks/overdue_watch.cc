#include "core/tasks/overdue_watch.h"

#include <iterator>
#include <utility>

namespace mobula::tasks {

bool OverdueWatch::saw(ChannelId channel, uint64_t tag, Duration limit, Instant now) {
  Sight& sight = seen_[channel];
  if (sight.tag != tag) sight = {.tag = tag, .first = now};
  sight.is_fresh = true;
  if (sight.is_told || now - sight.first < limit + slack_) return false;
  sight.is_told = true;
  return true;
}

void OverdueWatch::end_round() {
  for (auto at = seen_.begin(); at != seen_.end();) {
    at = std::exchange(at->second.is_fresh, false) ? std::next(at) : seen_.erase(at);
  }
}

}  // namespace mobula::tasks
