#pragma once
// Moves the bytes of stored values between segments of the store and files on disk, with their checksum
// (XXH3, 64 bits) on the way. Each call moves one batch.
//
// The page cache is left out (O_DIRECT) wherever the file system allows that: what is spilled is not
// looked at again soon, a cached copy would take the memory that spilling is to free, and to fill fresh
// cache pages costs more than the disk does. While one buffer is on its way from or to the disk
// (aio(7)), the other is filled or emptied.
//
// Threads: any; the calls block.
// Limits:  two buffers of kSpillChunkBytes a thread that calls.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/store/spill_effects.h"
#include "shm/memory.h"

namespace mobula::node {

inline constexpr uint64_t kSpillChunkBytes = 4ULL << 20;

// A part of a segment.
struct SpillPart {
  std::shared_ptr<shm::Fd> segment;
  uint64_t offset;
  uint64_t size;
};
// Set: leave off.
using SpillStop = std::atomic<bool>;

// Writes the parts one behind the other into a new file, and removes it again if that fails.
store::WriteOutcome write_values(const std::string& path, const std::vector<SpillPart>& parts,
                                 const SpillStop& stop);

// Reads one value back into its part of a segment. Not ok: the file does not have these bytes any more.
store::ReadOutcome read_value(const std::string& path, const store::DiskCopy& from,
                              const SpillPart& to, const SpillStop& stop);

}  // namespace mobula::node
