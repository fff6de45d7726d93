#pragma once
// OutboundChannel and InboundChannel: this process's two kinds of conversation with a peer on its
// node, as caller and as callee (shm/channel.h has the memory).
//
// Threads: guarded by the runtime's lock; a bell may be rung outside it.
// Lifetime: a dead peer's channel is kept a while by the runtime, since another thread may be about to
//           ring its bell.

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "process/frame_stream.h"
#include "process/runtime.h"
#include "process/task.h"
#include "shm/bell.h"
#include "shm/channel.h"

namespace mobula::process {

// What both kinds have.
struct ChannelEnd {
  ChannelEnd(shm::Mapping channel_memory, shm::Mapping bell_memory)
      : memory(std::move(channel_memory)), peer_bell_memory(std::move(bell_memory)) {}
  virtual ~ChannelEnd() = default;

  ChannelId id{};
  ProcessId peer{};
  uint32_t peer_pid = 0;
  shm::Mapping memory;
  shm::Mapping peer_bell_memory;
  uint32_t own_bit = 0;   // By which the peer tells us of news.
  uint32_t peer_bit = 0;  // By which we tell the peer.
  bool listed = false;    // In the runtime's list of channels with news.
  bool gone = false;

  shm::BellPage& peer_bell() { return *reinterpret_cast<shm::BellPage*>(peer_bell_memory.data()); }
  shm::ChannelHeader& header() { return shm::channel_header(memory.data()); }
  shm::ClaimWord& claim(uint32_t slot) { return shm::channel_claim(memory.data(), slot); }
};

struct OutboundChannel final : ChannelEnd {
  OutboundChannel(shm::Mapping channel_memory, shm::Mapping bell_memory);

  void release_slot(Task& task);
  // nullptr: there is no such task.
  Task* find_in_flight(uint16_t slot, uint64_t tag);

  FrameSender tasks;
  MessageReader results;
  std::array<Task*, shm::kClaimSlots> slots{};
  std::vector<uint16_t> free_slots;
  uint64_t next_tag = 1;
  uint64_t results_seen = 0;
  std::vector<bool> functions_sent;  // By function number.
  uint32_t epoch_announced = 0;
  std::vector<uint32_t> gpus;                   // Of the current lease.
  ActorCalls* calls = nullptr;                  // The actor at the other end.
  std::unordered_map<uint64_t, Task*> started;  // Calls that gave their slots back, by tag.
  // What audit() saw last time, or how often.
  uint64_t unread_tag = 0;      // The first task that was read and not started; 0: none.
  uint32_t taken_back = 0;      // Such tasks were taken back.
  uint32_t foreign_epochs = 0;  // One after another.
};

struct InboundChannel final : ChannelEnd {
  InboundChannel(shm::Mapping channel_memory, shm::Mapping bell_memory);

  MessageReader tasks;
  FrameSender results;
  uint64_t results_pushed = 0;
  uint64_t last_tag = 0;  // Of the tasks that were read.
  std::unordered_map<uint32_t, std::unique_ptr<ReceivedFunction>> functions;
  LeaseInfo lease;
  bool lease_changed = false;
};

}  // namespace mobula::process
