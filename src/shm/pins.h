#pragma once
// Pins: which extents of the object store a process is looking at, in its home region, so that
// nobody reuses them. One pin an extent; the process counts its own views of it.
//
//   reader: publish the pin ─► is the entry still sealed? ─► read        else: take the pin back
//   freer:  mark the entry evicting ─► scan all pin tables ─► no pin: reuse it
//
// All four are sequentially consistent, so one of the two sees the other (SegmentView, segment.h).
// Slot 0 holds the number of slots ever used, so that scans are short. A dead process's pins go
// with its home region.
//
// Threads: PinTable: one process, under its runtime's lock. PinScan: the node loop.
// Limits:  kPinSlots - 1 extents pinned at a time.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "shm/home.h"
#include "shm/segment.h"

namespace mobula::shm {

struct PinSlot {
  std::atomic<uint64_t> extent;      // Segment << 32 | entry. Slot 0: slots ever used.
  std::atomic<uint64_t> generation;  // Generation << 1 | 1; 0: no pin.
};
static_assert(sizeof(PinSlot) == 16);
static_assert(kPinSlots * sizeof(PinSlot) == kPinBytes);

class PinTable {
 public:
  // `memory`: the kPinBytes at kPinsOffset of a home region, zeroed when made.
  explicit PinTable(std::byte* memory);

  // Publishes the pin, then looks at the entry. The slot, to give back to unpin().
  // kNotFound: that generation is not sealed (any more). kRetryLater: all slots are in use.
  Result<uint32_t> pin(const SegmentView& segment, const wire::StoreLocation& location);
  void unpin(uint32_t slot);

  size_t pinned() const { return pinned_; }

 private:
  PinSlot* const slots_;
  std::vector<uint32_t> free_;  // A heap: the lowest slot is used first.
  uint32_t used_ = 1;
  size_t pinned_ = 0;
};

// One look at all pin tables. Mark extents as evicting before the first add().
class PinScan {
 public:
  // `memory`: as for PinTable, of a living process; read-only is enough.
  void add(const std::byte* memory);
  bool pinned(const wire::StoreLocation& location) const;
  size_t size() const { return pins_.size(); }

 private:
  struct Key {
    uint64_t extent;
    uint32_t generation;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return key.extent * 0x9E3779B97F4A7C15ULL ^ key.generation;
    }
  };
  std::unordered_set<Key, KeyHash> pins_;
};

}  // namespace mobula::shm
