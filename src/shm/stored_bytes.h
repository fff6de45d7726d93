#pragma once
// How much of a process's own store memory is taken by values: one number in its home region, which the
// process writes and the daemon reads.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "shm/home.h"

namespace mobula::shm {

// In the header's page, behind the header.
constexpr size_t kStoredBytesOffset = 2048;
static_assert(sizeof(HomeHeader) <= kStoredBytesOffset &&
              kStoredBytesOffset + sizeof(uint64_t) <= kUplinkOffset);

inline std::atomic<uint64_t>& stored_bytes(std::byte* home) {
  return *reinterpret_cast<std::atomic<uint64_t>*>(home + kStoredBytesOffset);
}

}  // namespace mobula::shm
