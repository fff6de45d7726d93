#pragma once
// SlabAllocator carves one process's store segments into extents, without a round trip to anybody.
//
// Standard segments hold many extents: free space is kept in size classes, freed neighbours merge,
// and within a class the space freed last is used first, because its pages are warm (HOTPATH.md
// R8). An object above own_segment_min gets a large segment to itself; an empty one that fits well
// is used again. The allocator touches no memory; offsets are from the start of a segment's file.
//
// Threads: none; guarded by the runtime's lock.
// Limits:  entry indices of a segment (shm/segment.h) bound its extents.

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "core/store/free_space.h"

namespace mobula::store {

struct Extent {
  SegmentId segment{};
  uint32_t entry = 0;
  uint64_t offset = 0;
  uint64_t size = 0;  // As asked for; the space taken is rounded up.
};

// What a process knows of a segment that it was granted.
struct SegmentShape {
  uint64_t data_offset = 0;
  uint64_t data_bytes = 0;
  uint32_t entry_count = 0;
  bool for_one = false;  // Asked for an object above own_segment_min: holds that one alone.
};

// An extent takes at least this much, so that entries never run out before space does.
constexpr uint64_t kExtentBytesMin = 16 * 1024;

class SlabAllocator {
 public:
  struct Options {
    // Larger objects get a segment of their own. Half of a standard segment, so that at most half
    // of one is lost at its end.
    uint64_t own_segment_min = 32ULL << 20;
    // An empty large segment is used again for an object of at least this part of it (1/n).
    uint64_t reuse_waste_max = 2;
  };

  explicit SlabAllocator(Options options) : options_(options) {}

  // kInvalidArgument: known already, or of an impossible shape.
  Result<void> add_segment(SegmentId segment, const SegmentShape& shape, Instant now);

  // Space for `size` bytes, not 0; nullopt: another segment is needed, of at least
  // segment_bytes_for(size) data bytes, and for_one if wants_own_segment(size).
  std::optional<Extent> allocate(uint64_t size);
  bool wants_own_segment(uint64_t size) const { return size > options_.own_segment_min; }
  uint64_t segment_bytes_for(uint64_t size) const;
  // Segments that hold one large object each, and whether one of them is empty and fits.
  size_t large_in_use() const;
  bool has_empty_large(uint64_t size) const;

  // kNotFound: no such extent (freed twice, or not of these segments).
  Result<void> free(SegmentId segment, uint32_t entry, Instant now);

  // Removes and returns the segments that have been empty since `empty_since` or longer.
  std::vector<SegmentId> take_empty(Instant empty_since);
  // The segment is gone, whatever was in it.
  void remove_segment(SegmentId segment);

  bool owns(SegmentId segment) const { return segments_.contains(segment); }
  // One of these segments; does nothing lie in it?
  bool is_empty(SegmentId segment) const { return segments_.at(segment).extents == 0; }
  uint64_t bytes_in_use() const { return bytes_in_use_; }
  uint64_t bytes_owned() const;
  size_t segment_count() const { return segments_.size(); }

  // Aborts if the books do not balance. For tests.
  void check_invariants() const;

 private:
  struct Segment {
    SegmentShape shape;
    std::vector<uint32_t> blocks;        // Per entry: its block in space_; kNoBlock: not in use.
    std::vector<uint64_t> sizes;         // Per entry: as asked for; 0: not in use.
    std::vector<uint32_t> free_entries;  // Last freed, first used.
    uint32_t any_block = kNoBlock;       // Some block of it in space_; not for_one.
    uint32_t extents = 0;
    Instant empty_since{0};
    uint64_t last_used = 0;  // Order of the last free.
  };

  bool fits_large(const Segment& segment, uint64_t size) const;
  std::optional<Extent> allocate_large(uint64_t size);
  Extent take(SegmentId id, Segment& segment, uint64_t size, uint32_t block, uint64_t offset);
  void forget(std::map<SegmentId, Segment>::iterator segment);

  const Options options_;
  std::map<SegmentId, Segment> segments_;
  FreeSpace space_;  // Of the standard segments.
  uint64_t bytes_in_use_ = 0;
  uint64_t uses_ = 0;
};

}  // namespace mobula::store
