#pragma once
// A packet that is too large for a socket lies in memory of its own; a small packet, with that memory
// as its last descriptor, goes in its place. Both ends of a socket know these, so whoever sends a
// message need not know its size.
//
// Threads: none; values.
// Limits:  kPacketBytesMax bytes as it is, kLargePacketBytesMax in memory.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/packet_socket.h"
#include "shm/memory.h"

namespace mobula::io {

constexpr size_t kLargePacketBytesMax = size_t{256} << 20;

struct LargePacket {
  std::array<std::byte, 16> stand_in;
  shm::Fd memory;
};

// Memory with these bytes, to be read from its start. kRetryLater: out of descriptors or memory.
Result<shm::Fd> fill_memory(std::string_view name, std::span<const std::byte> bytes);

// kInvalidArgument: larger than may be. kRetryLater: out of descriptors or memory.
Result<LargePacket> put_into_memory(std::span<const std::byte> bytes);

// No message of ours begins like a stand-in.
bool is_stand_in(std::span<const std::byte> packet);

// Takes the memory from `descriptors`. kInvalidArgument: it is not what the packet says it is.
Result<std::vector<std::byte>> take_from_memory(std::span<const std::byte> packet,
                                                std::vector<shm::Fd>& descriptors);

// Sends on a blocking socket, in one way or the other. kUnavailable: what the system said; the other
// end being gone is no failure here: what it said last is there to be read.
Result<void> send_packet(const shm::Fd& socket, std::span<const std::byte> bytes);

}  // namespace mobula::io
