// RuntimeImpl: a look at all channels, ten times a second while anything is waited for.
//
// Whoever shares a bell or a channel with us can write over all of it, by mistake or not. What is read
// is checked when it is read; what then never comes is found here: a bell that is not rung, a position
// or a claim of ours that is not what we wrote, a task that was read and not started.

#include "process/runtime_impl.h"

namespace mobula::process {

namespace {

// A task is sent so often to one worker that reads it and does not start it.
constexpr uint32_t kTakenBackMax = 3;
// Looks. The daemon changes the epoch of a lease a moment before it tells of it.
constexpr uint32_t kForeignEpochsMax = 10;

template <typename Channel>
bool rings_intact(const Channel& channel) {
  return channel.tasks.intact() && channel.results.intact();
}

bool claim_intact(const Task& task, const shm::ClaimWord& claim) {
  const uint64_t word = claim.word.load(std::memory_order_relaxed);
  return word == shm::claim_word(task.tag, shm::ClaimState::kQueued) ||
         word == shm::claim_word(task.tag, shm::ClaimState::kStarted);
}

// Of a channel with tasks in flight: what was written over; nullptr: nothing.
const char* fault_of(OutboundChannel& channel, uint32_t epoch) {
  if (!rings_intact(channel)) return "a position in a ring was written over";
  for (uint32_t slot = 0; slot < shm::kClaimSlots; ++slot) {
    const Task* task = channel.slots[slot];
    if (task == nullptr) continue;
    if (!claim_intact(*task, channel.claim(slot))) return "a claim was written over";
    const Stream* stream = task->stream.get();
    if (stream == nullptr || (stream->ahead_max == 0 && !stream->abandoned)) continue;
    if (channel.claim(slot).consumed.load() != stream->consumed()) {
      return "a stream's count was written over";
    }
  }
  const bool is_ours = channel.header().lease_epoch.load(std::memory_order_relaxed) == epoch;
  channel.foreign_epochs = is_ours ? 0 : channel.foreign_epochs + 1;
  return channel.foreign_epochs > kForeignEpochsMax ? "the epoch of its lease was written over"
                                                    : nullptr;
}

// The first task that is still queued though all frames have been read; 0: none. An actor may set
// calls aside.
uint64_t first_unread(OutboundChannel& channel) {
  if (channel.calls != nullptr || !channel.tasks.drained()) return 0;
  uint64_t first = 0;
  for (uint32_t slot = 0; slot < shm::kClaimSlots; ++slot) {
    const Task* task = channel.slots[slot];
    if (task == nullptr || (first != 0 && task->tag >= first)) continue;
    const uint64_t word = channel.claim(slot).word.load();
    if (word == shm::claim_word(task->tag, shm::ClaimState::kQueued)) first = task->tag;
  }
  return first;
}

// They are sent again, to this worker or another one. False: that happened too often.
bool take_back_unread(OutboundChannel& channel, tasks::Dispatcher& dispatcher) {
  if (++channel.taken_back > kTakenBackMax) return false;
  for (uint32_t slot = 0; slot < shm::kClaimSlots; ++slot) {
    Task* task = channel.slots[slot];
    if (task == nullptr || !channel.claim(slot).move(task->tag, shm::ClaimState::kRevoked))
      continue;
    channel.release_slot(*task);
    dispatcher.on_revoked(*task);
  }
  return true;
}

}  // namespace

// With the lock, before news is collected.
void RuntimeImpl::audit(Instant now) {
  audited_ = now;
  if (uplink_->mend()) ring_daemon_later();
  for (ChannelEnd* channel : by_bit_) {
    if (channel == nullptr) continue;
    shm::announce(*bell_, channel->own_bit);
    auto* outbound = dynamic_cast<OutboundChannel*>(channel);
    if (outbound == nullptr) {
      if (!rings_intact(*static_cast<InboundChannel*>(channel))) {
        cut_off(*channel, "a position in a ring was written over");
      }
      continue;
    }
    const tasks::Lease* lease = dispatcher_.lease_of(channel->id);
    if (outbound->calls == nullptr && lease == nullptr) continue;
    const uint32_t epoch = outbound->calls != nullptr ? outbound->calls->epoch : lease->epoch;
    if (const char* fault = fault_of(*outbound, epoch)) {
      cut_off(*channel, fault);
      continue;
    }
    const uint64_t unread = first_unread(*outbound);
    const bool again = unread != 0 && outbound->unread_tag == unread;
    outbound->unread_tag = unread;
    if (again && !take_back_unread(*outbound, dispatcher_)) {
      cut_off(*channel, "it does not start what it is sent");
    }
  }
}

}  // namespace mobula::process
