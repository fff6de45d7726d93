#pragma once
// A process's home region: memory shared by a process and its node daemon only.
//
//   HomeHeader | uplink ring (process -> daemon) | pin table | trace
//
// Made by the daemon at Welcome. After the process's death the daemon reads the uplink to its end,
// drops the pins, and keeps the trace for timeline().

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "shm/channel.h"

namespace mobula::shm {

struct HomeHeader {
  uint32_t pid;
  uint32_t process;
  // The function that the process runs now, for `(function pid=N)` and for messages about deaths;
  // index in the trace's name table, 0: none.
  alignas(64) std::atomic<uint32_t> running_name;
};

constexpr size_t kPinSlots = 4096;
constexpr size_t kPinBytes = kPinSlots * 16;

constexpr size_t kUplinkOffset = kPageBytes;
constexpr size_t kPinsOffset = kUplinkOffset + kRingSpan;
constexpr size_t kTraceOffset = kPinsOffset + kPinBytes;
constexpr size_t kTraceBytes = 2 * 1024 * 1024;
constexpr size_t kHomeBytes = kTraceOffset + kTraceBytes;

}  // namespace mobula::shm
