#include "core/actors/call_queue.h"

namespace mobula::actors {

using tasks::TaskNode;
using tasks::TaskState;

Fate CallQueue::submit(CallNode& call, bool ready, bool is_retried) {
  MOBULA_CHECK(call.state == TaskState::kHeld);
  if (reach_ == Reach::kDead) return Fate::kDead;
  if (reach_ == Reach::kRestarting && !is_retried) return Fate::kUnavailable;
  call.sequence = next_sequence_++;
  call.ready = ready;
  call.is_retried = is_retried;
  call.state = TaskState::kQueued;
  list_of(call).push_back(call);
  return Fate::kWaits;
}

void CallQueue::on_ready(CallNode& call) {
  MOBULA_CHECK(call.state == TaskState::kQueued && !call.ready);
  if (!any_order_) {
    call.ready = true;
    return;
  }
  unready_.remove(call);
  call.ready = true;
  line_.push_back(call);
}

CallNode* CallQueue::next() const {
  if (reach_ != Reach::kOpen || line_.empty()) return nullptr;
  auto* call = static_cast<CallNode*>(line_.front());
  return call->ready ? call : nullptr;
}

CallNode* CallQueue::next_unavailable() const {
  if (reach_ != Reach::kRestarting) return nullptr;
  for (TaskNode* node = line_.front(); node != nullptr; node = node->next) {
    auto* call = static_cast<CallNode*>(node);
    if (call->ready && !call->is_retried) return call;
  }
  return nullptr;
}

void CallQueue::on_sent(CallNode& call) {
  MOBULA_CHECK(line_.front() == &call && call.ready);
  line_.remove(call);
  call.state = TaskState::kInFlight;
  in_flight_.push_back(call);
}

void CallQueue::on_done(CallNode& call) {
  MOBULA_CHECK(call.state == TaskState::kInFlight);
  in_flight_.remove(call);
  call.state = TaskState::kHeld;
}

void CallQueue::withdraw(CallNode& call) {
  MOBULA_CHECK(call.state == TaskState::kQueued);
  list_of(call).remove(call);
  call.state = TaskState::kHeld;
}

Fate CallQueue::on_lost(CallNode& call, bool had_started, int32_t retries_left) {
  on_done(call);
  if (reach_ == Reach::kDead) return Fate::kDead;
  if (!call.is_retried || (had_started && retries_left == 0)) return Fate::kUnavailable;
  call.state = TaskState::kQueued;
  line_.push_front(call);
  return Fate::kWaits;
}

void CallQueue::check_invariants() const {
  uint64_t before = 0;
  for (const TaskNode* node = line_.front(); node != nullptr; node = node->next) {
    const auto* call = static_cast<const CallNode*>(node);
    MOBULA_CHECK(call->state == TaskState::kQueued);
    MOBULA_CHECK(!any_order_ || call->ready);
    MOBULA_CHECK(any_order_ || call->sequence > before);
    before = call->sequence;
  }
  if (!any_order_) MOBULA_CHECK(unready_.empty());
  for (const TaskNode* node = unready_.front(); node != nullptr; node = node->next) {
    const auto* call = static_cast<const CallNode*>(node);
    MOBULA_CHECK(call->state == TaskState::kQueued && !call->ready);
  }
  before = 0;
  for (const TaskNode* node = in_flight_.front(); node != nullptr; node = node->next) {
    const auto* call = static_cast<const CallNode*>(node);
    MOBULA_CHECK(call->state == TaskState::kInFlight && call->ready);
    MOBULA_CHECK(any_order_ || call->sequence > before);
    before = call->sequence;
  }
  if (!any_order_ && !in_flight_.empty() && !line_.empty()) {
    MOBULA_CHECK(before < static_cast<const CallNode*>(line_.front())->sequence);
  }
}

}  // namespace mobula::actors
