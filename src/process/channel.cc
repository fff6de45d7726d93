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

InboundChannel::InboundChannel(shm::Mapping channel_memory, shm::Mapping bell_memory)
    : ChannelEnd(std::move(channel_memory), std::move(bell_memory)),
      tasks(memory.data() + shm::kTaskRingOffset),
      results(memory.data() + shm::kResultRingOffset) {}

}  // namespace mobula::process
