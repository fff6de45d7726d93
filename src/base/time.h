#pragma once
// Instant: nanoseconds of CLOCK_MONOTONIC, the same for every process of a machine.
// Core code takes `now` as an argument; only shells call monotonic_now().

#include <chrono>
#include <cstdint>
#include <ctime>

namespace mobula {

using Instant = std::chrono::nanoseconds;
using Duration = std::chrono::nanoseconds;

inline Instant monotonic_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace mobula
