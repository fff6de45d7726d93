#pragma once
// copy_streaming: a copy of many bytes that leaves the caches alone.
//
// An ordinary store first reads the line that it is about to overwrite, and a large copy pushes out of
// the caches what the program was working on. Streaming (non-temporal) stores do neither; with the
// source prefetched they copy 100 MiB 1.7 times as fast as memcpy. What was copied is then read from
// memory, not from a cache: below kStreamingCopyBytes that costs the reader more than the writer gains
// (docs/decisions/streaming-copies.md has the measurements).
//
// It is memcpy where the processor is no x86-64.
//
// Threads: any. All of it is visible to others after the caller's next release store.

#include <cstddef>
#include <span>

namespace mobula::shm {

// From here on copying and reading once take less time together than with memcpy. Bytes.
constexpr size_t kStreamingCopyBytes = 2 * 1024 * 1024;

// The two do not overlap. Alignment does not matter. Sizes below kStreamingCopyBytes go through memcpy.
void copy_streaming(std::byte* to, std::span<const std::byte> from);

}  // namespace mobula::shm
