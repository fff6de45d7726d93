#include "core/store/free_space.h"

#include <algorithm>
#include <bit>
#include <map>

#include "base/check.h"

namespace mobula::store {

FreeSpace::FreeSpace() : filled_{} { newest_.fill(kNoBlock); }

uint32_t FreeSpace::class_of(uint64_t size) {
  const uint64_t units = size / kExtentAlignment;
  if (units < kSteps) return static_cast<uint32_t>(units);
  const uint32_t power = static_cast<uint32_t>(std::bit_width(units)) - 1;  // At least 3.
  return (power - 2) * kSteps + static_cast<uint32_t>(units >> (power - 3) & (kSteps - 1));
}

uint32_t FreeSpace::add(SegmentId segment, uint64_t offset, uint64_t size) {
  MOBULA_CHECK(size > 0 && size % kExtentAlignment == 0);
  const uint32_t index = new_block();
  Block& block = blocks_[index];
  block.segment = segment;
  block.offset = offset;
  block.size = size;
  push(index);
  return index;
}

std::optional<uint32_t> FreeSpace::allocate(uint64_t size) {
  MOBULA_CHECK(size > 0 && size % kExtentAlignment == 0);
  const uint32_t index = find(size);
  if (index == kNoBlock) return std::nullopt;
  unlink(index);
  blocks_[index].used = true;
  if (blocks_[index].size > size) cut(index, size);
  return index;
}

uint32_t FreeSpace::free(uint32_t index) {
  MOBULA_CHECK(blocks_[index].used);
  blocks_[index].used = false;
  const uint32_t after = blocks_[index].after;
  if (after != kNoBlock && !blocks_[after].used) {
    unlink(after);
    merge_after(index);
  }
  const uint32_t before = blocks_[index].before;
  if (before != kNoBlock && !blocks_[before].used) {
    unlink(before);
    merge_after(before);
    index = before;
  }
  push(index);
  return index;
}

void FreeSpace::remove(uint32_t index) {
  while (blocks_[index].before != kNoBlock) index = blocks_[index].before;
  while (index != kNoBlock) {
    const uint32_t after = blocks_[index].after;
    if (!blocks_[index].used) unlink(index);
    blocks_[index] = Block{};
    unused_.push_back(index);
    index = after;
  }
}

uint32_t FreeSpace::new_block() {
  if (unused_.empty()) {
    blocks_.emplace_back();
    return static_cast<uint32_t>(blocks_.size() - 1);
  }
  const uint32_t index = unused_.back();
  unused_.pop_back();
  return index;
}

void FreeSpace::push(uint32_t index) {
  Block& block = blocks_[index];
  const uint32_t size_class = class_of(block.size);
  block.newer = kNoBlock;
  block.older = newest_[size_class];
  if (block.older != kNoBlock) blocks_[block.older].newer = index;
  newest_[size_class] = index;
  filled_[size_class / 64] |= uint64_t{1} << (size_class % 64);
  free_bytes_ += block.size;
}

void FreeSpace::unlink(uint32_t index) {
  Block& block = blocks_[index];
  const uint32_t size_class = class_of(block.size);
  if (block.newer != kNoBlock) {
    blocks_[block.newer].older = block.older;
  } else {
    newest_[size_class] = block.older;
    if (block.older == kNoBlock) filled_[size_class / 64] &= ~(uint64_t{1} << (size_class % 64));
  }
  if (block.older != kNoBlock) blocks_[block.older].newer = block.newer;
  block.newer = block.older = kNoBlock;
  free_bytes_ -= block.size;
}

uint32_t FreeSpace::find_in_class(uint32_t size_class, uint64_t size, uint32_t looks_max) const {
  uint32_t index = newest_[size_class];
  for (uint32_t look = 0; index != kNoBlock && look < looks_max; look++) {
    if (blocks_[index].size >= size) return index;
    index = blocks_[index].older;
  }
  return kNoBlock;
}

uint32_t FreeSpace::find(uint64_t size) const {
  const uint32_t own = class_of(size);
  if (const uint32_t near = find_in_class(own, size, kLooksMax); near != kNoBlock) return near;
  uint32_t word = (own + 1) / 64;
  uint64_t mask = ~uint64_t{0} << ((own + 1) % 64);
  for (; word < filled_.size(); word++, mask = ~uint64_t{0}) {
    if (const uint64_t bits = filled_[word] & mask) {
      return newest_[word * 64 + static_cast<uint32_t>(std::countr_zero(bits))];
    }
  }
  return find_in_class(own, size, ~uint32_t{0});
}

// Block `index`, not in a class, keeps `size` bytes; the rest becomes a free block after it.
void FreeSpace::cut(uint32_t index, uint64_t size) {
  const uint32_t rest = new_block();  // May move blocks_.
  Block& block = blocks_[index];
  Block& tail = blocks_[rest];
  tail.segment = block.segment;
  tail.offset = block.offset + size;
  tail.size = block.size - size;
  tail.before = index;
  tail.after = block.after;
  if (tail.after != kNoBlock) blocks_[tail.after].before = rest;
  block.after = rest;
  block.size = size;
  push(rest);
}

// Both blocks are free and in no class.
void FreeSpace::merge_after(uint32_t index) {
  Block& block = blocks_[index];
  const uint32_t gone = block.after;
  block.size += blocks_[gone].size;
  block.after = blocks_[gone].after;
  if (block.after != kNoBlock) blocks_[block.after].before = index;
  blocks_[gone] = Block{};
  unused_.push_back(gone);
}

uint64_t FreeSpace::largest_free() const {
  uint64_t largest = 0;
  for (const Block& block : blocks_) {
    if (!block.used) largest = std::max(largest, block.size);
  }
  return largest;
}

void FreeSpace::check_invariants() const {
  uint64_t free_bytes = 0;
  std::vector<bool> listed(blocks_.size());
  for (uint32_t size_class = 0; size_class < kClasses; size_class++) {
    uint32_t newer = kNoBlock;
    for (uint32_t index = newest_[size_class]; index != kNoBlock; index = blocks_[index].older) {
      const Block& block = blocks_[index];
      MOBULA_CHECK(!block.used && class_of(block.size) == size_class && block.newer == newer);
      free_bytes += block.size;
      listed[index] = true;
      newer = index;
    }
    const bool filled = (filled_[size_class / 64] >> (size_class % 64) & 1) != 0;
    MOBULA_CHECK(filled == (newest_[size_class] != kNoBlock));
  }
  MOBULA_CHECK(free_bytes == free_bytes_);
  for (uint32_t index = 0; index < blocks_.size(); index++) {
    const Block& block = blocks_[index];
    MOBULA_CHECK(listed[index] == (!block.used && block.size > 0));
    if (block.after == kNoBlock) continue;
    const Block& after = blocks_[block.after];
    MOBULA_CHECK(after.before == index && after.segment == block.segment);
    MOBULA_CHECK(after.offset == block.offset + block.size);  // No gap, no overlap,
    MOBULA_CHECK(block.used || after.used);                   // and neighbours are merged.
  }
}

}  // namespace mobula::store
