#include "node/channels.h"

#include <array>
#include <string>

namespace mobula::node {

namespace {

std::optional<uint32_t> free_bit(const Session& session, uint32_t from = 0) {
  for (uint32_t bit = from; bit < shm::kBellBits; ++bit) {
    if (!session.bell_bits[bit]) return bit;
  }
  return std::nullopt;
}

}  // namespace

Result<ChannelId> Channels::open(ProcessId caller_id, ProcessId callee_id) {
  const auto known = channels_.find({caller_id, callee_id});
  if (known != channels_.end()) return known->second.id;
  Session* caller = sessions_.find(caller_id);
  Session* callee = sessions_.find(callee_id);
  if (caller == nullptr || callee == nullptr || !caller->welcomed || !callee->welcomed ||
      !caller->socket || !callee->socket) {
    return fail(ErrorCode::kUnavailable, "a process of the channel is gone");
  }
  const auto caller_bit = free_bit(*caller);
  const bool is_own = caller == callee;  // An actor that calls itself.
  const auto callee_bit =
      is_own && caller_bit ? free_bit(*callee, *caller_bit + 1) : free_bit(*callee);
  if (!caller_bit || !callee_bit) {
    return fail(ErrorCode::kRetryLater, "a process has no room for another channel");
  }
  auto memory = shm::create_memory("mobula-channel", shm::kChannelBytes);
  MOBULA_TRY(memory);
  auto head = shm::Mapping::map(*memory, shm::kTaskRingOffset, shm::Access::kReadWrite);
  MOBULA_TRY(head);
  caller->bell_bits.set(*caller_bit);
  callee->bell_bits.set(*callee_bit);
  const Channel& channel =
      channels_
          .emplace(Key{caller_id, callee_id},
                   Channel{ChannelId{next_++}, *caller_bit, *callee_bit, std::move(*head)})
          .first->second;
  announce(channel, wire::fb::ChannelRole::callee, *callee, *caller, memory->get());
  announce(channel, wire::fb::ChannelRole::caller, *caller, *callee, memory->get());
  return channel.id;
}

void Channels::announce(const Channel& channel, wire::fb::ChannelRole role, Session& to,
                        Session& peer, int memory) {
  const std::array<int, 2> descriptors = {memory, peer.bell_fd.get()};
  const bool is_callee = role == wire::fb::ChannelRole::callee;
  const uint32_t own_bit = is_callee ? channel.callee_bit : channel.caller_bit;
  const uint32_t peer_bit = is_callee ? channel.caller_bit : channel.callee_bit;
  sessions_.send(
      to,
      [&](wire::Builder& builder) {
        return wire::fb::CreateChannelOpened(builder, number(channel.id), number(peer.id),
                                             static_cast<uint32_t>(peer.pid), role, own_bit,
                                             peer_bit);
      },
      descriptors);
}

Result<ChannelId> Channels::find(ProcessId caller, ProcessId callee) const {
  const auto found = channels_.find({caller, callee});
  if (found == channels_.end()) return fail(ErrorCode::kNotFound, "there is no such channel");
  return found->second.id;
}

void Channels::set_epoch(ProcessId caller, ProcessId callee, uint32_t epoch) {
  const auto found = channels_.find({caller, callee});
  if (found == channels_.end()) return;
  shm::channel_header(found->second.memory.data()).lease_epoch.store(epoch);
}

Channels::Started Channels::started(ProcessId callee) const {
  Started started;
  for (const auto& [key, channel] : channels_) {
    if (key.second != callee) continue;
    for (uint32_t slot = 0; slot < shm::kClaimSlots; ++slot) {
      const shm::ClaimWord& claim = shm::channel_claim(channel.memory.data(), slot);
      if (shm::claim_state(claim.word.load()) != shm::ClaimState::kStarted) continue;
      started.any = true;
      started.retriable = started.retriable && claim.retriable.load() != 0;
    }
  }
  return started;
}

void Channels::revoke_queued(Channel& channel) {
  for (uint32_t slot = 0; slot < shm::kClaimSlots; ++slot) {
    shm::ClaimWord& claim = shm::channel_claim(channel.memory.data(), slot);
    const uint64_t word = claim.word.load();
    if (shm::claim_state(word) == shm::ClaimState::kQueued) {
      claim.move(shm::claim_tag(word), shm::ClaimState::kRevoked);
    }
  }
}

void Channels::forget(ProcessId process) {
  for (auto entry = channels_.begin(); entry != channels_.end();) {
    const auto& [caller, callee] = entry->first;
    if (caller != process && callee != process) {
      ++entry;
      continue;
    }
    Channel& channel = entry->second;
    shm::channel_header(channel.memory.data()).lease_epoch.store(0);
    if (caller == process) revoke_queued(channel);
    if (Session* session = sessions_.find(caller)) session->bell_bits.reset(channel.caller_bit);
    if (Session* session = sessions_.find(callee)) session->bell_bits.reset(channel.callee_bit);
    entry = channels_.erase(entry);
  }
}

}  // namespace mobula::node
