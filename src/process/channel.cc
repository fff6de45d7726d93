#include "process/channel.h"

namespace mobula::process {

OutboundChannel::OutboundChannel(shm::Mapping channel_memory, shm::Mapping bell_memory)
    : ChannelEnd(std::move(channel_memory), std::move(bell_memory)),
      tasks(memory.data() + shm::kTaskRingOffset),
      results(memory.data() + shm::kResultRingOffset) {
  free_slots.reserve(shm::kClaimSlots);
  // Slots taken one after another lie on different cache lines anyway; lowest first.
  for (uint32_t slot = shm::kClaimSlots; slot > 0; --slot) {
    free_slots.push_back(static_cast<uint16_t>(slot - 1));
  }
}

void OutboundChannel::release_slot(Task& task) {
  if (task.slot == kNoSlot) {
    started.erase(task.tag);
    return;
  }
  slots[task.slot] = nullptr;
  free_slots.push_back(task.slot);
}

Task* OutboundChannel::find_in_flight(uint16_t slot, uint64_t tag) {
  Task* task = slots[slot];
  if (task != nullptr && task->tag == tag) [[likely]] {
    return task;
  }
  const auto found = started.find(tag);
  return found == started.end() ? nullptr : found->second;
}

InboundChannel::InboundChannel(shm::Mapping channel_memory, shm::Mapping bell_memory)
    : ChannelEnd(std::move(channel_memory), std::move(bell_memory)),
      tasks(memory.data() + shm::kTaskRingOffset),
      results(memory.data() + shm::kResultRingOffset) {}

}  // namespace mobula::process
