#pragma once
// What a Spiller asks of its shell, and what the shell reports back.

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "wire/frames.h"

namespace mobula::store {

enum class SpillFileId : uint64_t {};

// A stored value is named by the place where it was first: no other one ever has that name.
struct ValueName {
  SegmentId segment{};
  uint32_t entry = 0;
  uint32_t generation = 0;
  auto operator<=>(const ValueName&) const = default;
};
inline ValueName name_of(const wire::StoreLocation& location) {
  return {location.segment, location.entry, location.generation};
}

// Where a value lies on disk, and the checksum of its bytes there.
struct DiskCopy {
  SpillFileId file{};
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t checksum = 0;
};

// Values to be written to a new file, one behind the other. on_written() follows.
struct WriteOut {
  SpillFileId file;
  std::vector<wire::StoreLocation> from;
};
// A value to be read into this extent of a segment of the daemon's own. on_read() follows.
struct ReadIn {
  ValueName value;
  DiskCopy from;
  SegmentId segment;
  uint32_t entry;
  uint64_t offset;
};
// Mark the extent as evicting, then look for pins: on_evicted() or on_kept() follows.
struct TryEvict {
  ValueName value;
  wire::StoreLocation location;
};
struct RemoveFile {
  SpillFileId file;
};
// This part of the file is not needed any more; give its blocks back, if the file system can.
struct PunchHole {
  SpillFileId file;
  uint64_t offset;
  uint64_t size;
};
// Answers one restore().
struct TellPlace {
  ProcessId process;
  wire::StoreLocation value;
  wire::StoreLocation place;
};
enum class RestoreProblem : uint8_t { kLost, kStoreFull };
struct TellNoPlace {
  ProcessId process;
  wire::StoreLocation value;
  RestoreProblem problem;
  std::string why;
};
// The only copy of a value is gone.
struct ValueLost {
  wire::StoreLocation value;
  std::string why;
};
using SpillEffect = std::variant<WriteOut, ReadIn, TryEvict, RemoveFile, PunchHole, TellPlace,
                                 TellNoPlace, ValueLost>;
using SpillEffects = std::vector<SpillEffect>;

// How writing a file ended.
struct WriteOutcome {
  enum class Kind : uint8_t { kDone, kDiskFull, kFailed };
  Kind kind = Kind::kDone;
  std::vector<uint64_t> checksums;  // kDone: of each value, in order.
  std::string why;                  // Else.
};
struct ReadOutcome {
  bool ok = false;
  std::string why;                // If not: the bytes are lost.
  wire::StoreLocation place = {};  // Where it was to be read to.
};

// What the shell knows of the disk that files are written to.
struct DiskRoom {
  uint64_t bytes_left = 0;  // That may be written before the disk counts as full.
  std::string text;         // "/tmp/spill: 95 % of 50 GiB used" for people.
};

}  // namespace mobula::store
