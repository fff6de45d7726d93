#pragma once
// How large messages may be in all, in whatever way they travel. docs/limits.md says what users see.
//
// Threads: none; values.

#include <cstddef>

namespace mobula::wire {

// A control message: one that is larger than a packet or a frame travels in memory of its own, or in
// parts.
constexpr size_t kLargeControlBytesMax = size_t{256} << 20;
// The spec of a runtime environment.
constexpr size_t kRuntimeEnvironmentBytesMax = size_t{16} << 20;
// The names of what the bundles of a placement group reserve, in all, with so many bytes more for
// each amount.
constexpr size_t kGroupTextBytesMax = size_t{64} << 20;
constexpr size_t kGroupAmountBytes = 32;
// The arguments of a task, or its results, that travel in its frame.
constexpr size_t kValuesBytesMax = size_t{512} << 20;

}  // namespace mobula::wire
