#include "process/loop_queues.h"

#include <fcntl.h>

#include <utility>

namespace mobula::process {

Result<uint32_t> LoopQueues::open(int event) {
  shm::Fd copy(::fcntl(event, F_DUPFD_CLOEXEC, 3));
  if (!copy.valid()) return fail(ErrorCode::kInvalidArgument, "not an open descriptor");
  const std::lock_guard lock(lock_);
  queues_[++last_].event = std::make_shared<const shm::Fd>(std::move(copy));
  return last_;
}

void LoopQueues::close(uint32_t queue) {
  const std::lock_guard lock(lock_);
  queues_.erase(queue);
}

std::vector<uint64_t> LoopQueues::take(uint32_t queue) {
  const std::lock_guard lock(lock_);
  const auto found = queues_.find(queue);
  return found == queues_.end() ? std::vector<uint64_t>() : std::exchange(found->second.tokens, {});
}

LoopQueues::Event LoopQueues::add(uint32_t queue, uint64_t token) {
  const std::lock_guard lock(lock_);
  const auto found = queues_.find(queue);
  if (found == queues_.end()) return nullptr;
  found->second.tokens.push_back(token);
  return found->second.tokens.size() == 1 ? found->second.event : nullptr;
}

}  // namespace mobula::process
