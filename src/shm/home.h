#pragma once
// A process's home region: memory shared by a process and its node daemon only.
//
//   HomeHeader | uplink ring (process -> daemon) | pin table | trace | metrics
//
// Made by the daemon at Welcome. After the process's death the daemon reads the uplink to its end,
// drops the pins, and keeps trace and metrics for those who ask. Others may be given it to read.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "shm/channel.h"

namespace mobula::shm {

// The task that a worker executes now.
struct RunningTask {
  uint64_t task = 0;           // Index of its id; its creator is `caller`. 0: none.
  uint64_t start_ns = 0;       // CLOCK_MONOTONIC.
  uint64_t children_from = 0;  // Tasks that it made have indices from here on.
  uint32_t caller = 0;
  uint32_t name = 0;  // Index in the trace's table of names.
  uint16_t attempt = 0;
  uint16_t is_call = 0;  // Of an actor.
  uint64_t group = 0;    // The placement group in which it is.
};

// One writer, which publishes whole values; readers see one of them, or nothing.
class RunningCell {
 public:
  void store(const RunningTask& value) {
    const uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    const auto words = std::bit_cast<Words>(value);
    for (size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_relaxed);
    version_.store(version + 2, std::memory_order_release);
  }
  // nullopt: it was written all the while, or the writer died in the middle.
  std::optional<RunningTask> load() const {
    for (int tries = 0; tries < 100; ++tries) {
      const uint64_t before = version_.load(std::memory_order_acquire);
      Words words;
      for (size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (before % 2 == 0 && version_.load(std::memory_order_relaxed) == before)
        return std::bit_cast<RunningTask>(words);
    }
    return std::nullopt;
  }

 private:
  static constexpr size_t kWords = sizeof(RunningTask) / sizeof(uint64_t);
  using Words = std::array<uint64_t, kWords>;
  static_assert(sizeof(Words) == sizeof(RunningTask));

  std::atomic<uint64_t> version_{0};
  std::array<std::atomic<uint64_t>, kWords> words_{};
};

// Of the tasks that the process has submitted: how many there are in each state now.
struct LiveTasks {
  std::atomic<uint64_t> unfinished;  // All of them.
  std::atomic<uint64_t> queued;      // Wait for a worker.
  std::atomic<uint64_t> in_flight;   // Sent to one.
  std::atomic<uint64_t> calls;       // Of actors, in any state; in no other figure but the first.
};

// Whose output it is that is written from now on on a worker's streams (process/output_label.h). One
// writer; readers see one name or another, or nothing.
class OutputLabelCell {
 public:
  static constexpr size_t kBytesMax = 1024;

  // At most kBytesMax bytes.
  void store(std::string_view name) {
    const uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    size_.store(static_cast<uint32_t>(name.size()), std::memory_order_relaxed);
    for (size_t i = 0; i < name.size(); ++i) text_[i].store(name[i], std::memory_order_relaxed);
    version_.store(version + 2, std::memory_order_release);
  }
  // nullopt: there never was one, or it was written all the while.
  std::optional<std::string> load() const {
    for (int tries = 0; tries < 100; ++tries) {
      const uint64_t before = version_.load(std::memory_order_acquire);
      if (before == 0) return std::nullopt;
      std::string name(std::min<size_t>(size_.load(std::memory_order_relaxed), kBytesMax), '\0');
      for (size_t i = 0; i < name.size(); ++i) name[i] = text_[i].load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (before % 2 == 0 && version_.load(std::memory_order_relaxed) == before) return name;
    }
    return std::nullopt;
  }

 private:
  std::atomic<uint64_t> version_{0};
  std::atomic<uint32_t> size_{0};
  std::array<std::atomic<char>, kBytesMax> text_{};
};

// What the main thread of a worker waits in, so long that its CPUs were given back.
enum class WaitsIn : uint32_t { kNothing, kGet, kWait };

struct HomeHeader {
  uint32_t pid;
  uint32_t process;
  std::atomic<WaitsIn> waits_in;
  alignas(64) RunningCell running;
  alignas(64) LiveTasks live;
  // By the daemon: how often it began and ended to read the worker's streams. Odd: it reads now.
  alignas(64) std::atomic<uint64_t> stream_reads;
  OutputLabelCell output;
};

constexpr size_t kPinSlots = size_t{1} << 20;  // Pages that were never used take no memory.
constexpr size_t kPinBytes = kPinSlots * 16;

constexpr size_t kUplinkOffset = kPageBytes;
static_assert(sizeof(HomeHeader) <= kUplinkOffset);
constexpr size_t kPinsOffset = kUplinkOffset + kRingSpan;
constexpr size_t kTraceOffset = kPinsOffset + kPinBytes;
constexpr size_t kTraceBytes = 2 * 1024 * 1024;
constexpr size_t kMetricsOffset = kTraceOffset + kTraceBytes;
constexpr size_t kMetricsBytes = 1024 * 1024;
constexpr size_t kHomeBytes = kMetricsOffset + kMetricsBytes;

inline HomeHeader& home_header(std::byte* home) { return *reinterpret_cast<HomeHeader*>(home); }
inline const HomeHeader& home_header(const std::byte* home) {
  return *reinterpret_cast<const HomeHeader*>(home);
}

}  // namespace mobula::shm
