#pragma once
// FreeSpace: the ranges of some segments, cut into used and free blocks.
//
// Blocks of a segment are a list in order of offset; free neighbours are always merged. Free blocks
// stand in size classes (each power of two cut into eight), last freed first. A request looks at a
// few blocks of its own class, then takes the first of the smallest class in which all fit, and only
// then at the rest of its own; what it does not need is cut off. So a request fails only if no block
// is large enough. Nothing but the order of calls decides.
//
// The scheme is that of "TLSF: a New Dynamic Memory Allocator for Real-Time Systems" (Masmano,
// Ripoll, Crespo, Real; ECRTS 2004), with blocks described outside of the memory they stand for.
//
// Threads: none.

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "shm/segment.h"

namespace mobula::store {

constexpr uint64_t kExtentAlignment = shm::kExtentAlignmentBytes;
constexpr uint32_t kNoBlock = ~uint32_t{0};

class FreeSpace {
 public:
  struct Block {
    SegmentId segment{};
    uint64_t offset = 0;
    uint64_t size = 0;
    bool used = false;
    uint32_t before = kNoBlock;  // Neighbours in the segment.
    uint32_t after = kNoBlock;
    uint32_t newer = kNoBlock;  // Free: neighbours in the size class.
    uint32_t older = kNoBlock;
  };

  FreeSpace();

  // A new segment's range, both multiples of kExtentAlignment. Returns its block.
  uint32_t add(SegmentId segment, uint64_t offset, uint64_t size);
  // A block of `size` bytes, a multiple of kExtentAlignment and not 0.
  std::optional<uint32_t> allocate(uint64_t size);
  // Returns the block that the freed one became part of.
  uint32_t free(uint32_t block);
  // Forgets a whole segment, given any of its blocks.
  void remove(uint32_t block);

  const Block& block(uint32_t index) const { return blocks_[index]; }
  uint64_t free_bytes() const { return free_bytes_; }
  // The largest request that succeeds now. O(blocks); for tests.
  uint64_t largest_free() const;

  // Aborts if the books do not balance. For tests.
  void check_invariants() const;

 private:
  static constexpr uint32_t kSteps = 8;  // Classes per power of two.
  static constexpr uint32_t kClasses = 64 * kSteps;
  static constexpr uint32_t kLooksMax = 8;  // Blocks of the own class that a request looks at.

  static uint32_t class_of(uint64_t size);
  uint32_t new_block();
  void push(uint32_t index);
  void unlink(uint32_t index);
  uint32_t find(uint64_t size) const;
  uint32_t find_in_class(uint32_t size_class, uint64_t size, uint32_t looks_max) const;
  void cut(uint32_t index, uint64_t size);
  void merge_after(uint32_t index);

  std::vector<Block> blocks_;
  std::vector<uint32_t> unused_;  // Slots of blocks_.
  std::array<uint32_t, kClasses> newest_;
  std::array<uint64_t, kClasses / 64> filled_;  // Bit: the class has a block.
  uint64_t free_bytes_ = 0;
};

}  // namespace mobula::store
