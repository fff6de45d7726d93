#include "shm/pins.h"

#include <algorithm>
#include <functional>

namespace mobula::shm {

namespace {

constexpr uint64_t extent_of(const wire::StoreLocation& location) {
  return uint64_t{number(location.segment)} << 32 | location.entry;
}

}  // namespace

PinTable::PinTable(std::byte* memory) : slots_(reinterpret_cast<PinSlot*>(memory)) {
  slots_[0].extent.store(used_);
}

Result<uint32_t> PinTable::pin(const SegmentView& segment, const wire::StoreLocation& location) {
  uint32_t slot = 0;
  if (!free_.empty()) {
    std::pop_heap(free_.begin(), free_.end(), std::greater<>());
    slot = free_.back();
    free_.pop_back();
  } else if (used_ < kPinSlots) {
    slot = used_++;
    slots_[0].extent.store(used_);
  } else {
    return fail(ErrorCode::kRetryLater,
                "this process looks at too many values of the object store at once: 1,048,575");
  }
  slots_[slot].extent.store(extent_of(location), std::memory_order_relaxed);
  slots_[slot].generation.store(uint64_t{location.generation} << 1 | 1);
  pinned_++;
  if (segment.is_sealed(location)) return slot;
  unpin(slot);
  return fail(ErrorCode::kNotFound, "the stored object is gone");
}

void PinTable::unpin(uint32_t slot) {
  slots_[slot].generation.store(0);
  free_.push_back(slot);
  std::push_heap(free_.begin(), free_.end(), std::greater<>());
  pinned_--;
}

void PinScan::add(const std::byte* memory) {
  const PinSlot* slots = reinterpret_cast<const PinSlot*>(memory);
  const uint64_t used = std::min<uint64_t>(slots[0].extent.load(), kPinSlots);
  for (uint64_t slot = 1; slot < used; slot++) {
    // A slot that is being taken for another extent meanwhile belongs to a reader that will see the
    // mark: whatever is read here for it, a true pin is not missed.
    const uint64_t generation = slots[slot].generation.load();
    if ((generation & 1) == 0) continue;
    const uint64_t extent = slots[slot].extent.load(std::memory_order_relaxed);
    pins_.insert({extent, static_cast<uint32_t>(generation >> 1)});
  }
}

bool PinScan::pinned(const wire::StoreLocation& location) const {
  return pins_.contains({extent_of(location), location.generation});
}

}  // namespace mobula::shm
