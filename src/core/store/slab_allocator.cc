#include "core/store/slab_allocator.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mobula::store {

namespace {

constexpr uint64_t round_up(uint64_t bytes, uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// What an extent takes of a standard segment.
constexpr uint64_t taken(uint64_t size) {
  return std::max(round_up(size, kExtentAlignment), kExtentBytesMin);
}

}  // namespace

Result<void> SlabAllocator::add_segment(SegmentId segment, const SegmentShape& shape, Instant now) {
  const bool fits = shape.data_bytes > 0 && shape.data_bytes % kExtentAlignment == 0 &&
                    shape.data_offset % kExtentAlignment == 0 && shape.entry_count > 0;
  const bool enough = shape.for_one || shape.entry_count >= shape.data_bytes / kExtentBytesMin;
  if (segments_.contains(segment) || !fits || !enough) {
    return fail(ErrorCode::kInvalidArgument, "a segment of an impossible shape");
  }
  Segment& added = segments_[segment];
  added.shape = shape;
  added.empty_since = now;
  added.blocks.assign(shape.entry_count, kNoBlock);
  added.sizes.assign(shape.entry_count, 0);
  for (uint32_t entry = shape.entry_count; entry > 0; entry--) {
    added.free_entries.push_back(entry - 1);
  }
  if (!shape.for_one) {
    added.any_block = space_.add(segment, shape.data_offset, shape.data_bytes);
  }
  return {};
}

std::optional<Extent> SlabAllocator::allocate(uint64_t size) {
  MOBULA_CHECK(size > 0);
  if (wants_own_segment(size)) return allocate_large(size);
  const std::optional<uint32_t> block = space_.allocate(taken(size));
  if (!block) return std::nullopt;
  const FreeSpace::Block& place = space_.block(*block);
  return take(place.segment, segments_.at(place.segment), size, *block, place.offset);
}

bool SlabAllocator::fits_large(const Segment& segment, uint64_t size) const {
  const uint64_t bytes = segment.shape.data_bytes;
  return segment.shape.for_one && segment.extents == 0 && bytes >= size &&
         bytes / options_.reuse_waste_max <= size;
}

size_t SlabAllocator::large_in_use() const {
  return static_cast<size_t>(std::ranges::count_if(segments_, [](const auto& entry) {
    return entry.second.shape.for_one && entry.second.extents > 0;
  }));
}

bool SlabAllocator::has_empty_large(uint64_t size) const {
  return std::ranges::any_of(segments_,
                             [&](const auto& entry) { return fits_large(entry.second, size); });
}

// The smallest empty segment that fits without much waste; of equals, the one used last.
std::optional<Extent> SlabAllocator::allocate_large(uint64_t size) {
  SegmentId best{};
  Segment* found = nullptr;
  for (auto& [id, segment] : segments_) {
    const uint64_t bytes = segment.shape.data_bytes;
    if (!fits_large(segment, size)) continue;
    if (found != nullptr &&
        (bytes > found->shape.data_bytes ||
         (bytes == found->shape.data_bytes && segment.last_used < found->last_used))) {
      continue;
    }
    best = id;
    found = &segment;
  }
  if (found == nullptr) return std::nullopt;
  return take(best, *found, size, kNoBlock, found->shape.data_offset);
}

Extent SlabAllocator::take(SegmentId id, Segment& segment, uint64_t size, uint32_t block,
                           uint64_t offset) {
  MOBULA_CHECK(!segment.free_entries.empty());
  const uint32_t entry = segment.free_entries.back();
  segment.free_entries.pop_back();
  segment.blocks[entry] = block;
  segment.sizes[entry] = size;
  if (block != kNoBlock) segment.any_block = block;
  segment.extents++;
  bytes_in_use_ += size;
  return {id, entry, offset, size};
}

uint64_t SlabAllocator::segment_bytes_for(uint64_t size) const {
  return wants_own_segment(size) ? round_up(size, shm::kSegmentUnitBytes) : taken(size);
}

Result<void> SlabAllocator::free(SegmentId id, uint32_t entry, Instant now) {
  const auto found = segments_.find(id);
  if (found == segments_.end() || entry >= found->second.sizes.size() ||
      found->second.sizes[entry] == 0) {
    return fail(ErrorCode::kNotFound, "no such extent");
  }
  Segment& segment = found->second;
  bytes_in_use_ -= segment.sizes[entry];
  segment.sizes[entry] = 0;
  const uint32_t block = std::exchange(segment.blocks[entry], kNoBlock);
  // Blocks merge, so the one that represents the segment must be one that still exists.
  if (block != kNoBlock) segment.any_block = space_.free(block);
  segment.free_entries.push_back(entry);
  segment.last_used = ++uses_;
  if (--segment.extents == 0) segment.empty_since = now;
  return {};
}

std::vector<SegmentId> SlabAllocator::take_empty(Instant empty_since) {
  std::vector<SegmentId> taken_out;
  for (auto it = segments_.begin(); it != segments_.end();) {
    const auto next = std::next(it);
    if (it->second.extents == 0 && it->second.empty_since <= empty_since) {
      taken_out.push_back(it->first);
      forget(it);
    }
    it = next;
  }
  return taken_out;
}

void SlabAllocator::remove_segment(SegmentId segment) {
  if (const auto found = segments_.find(segment); found != segments_.end()) forget(found);
}

void SlabAllocator::forget(std::map<SegmentId, Segment>::iterator segment) {
  for (const uint64_t size : segment->second.sizes) bytes_in_use_ -= size;
  if (segment->second.any_block != kNoBlock) space_.remove(segment->second.any_block);
  segments_.erase(segment);
}

uint64_t SlabAllocator::bytes_owned() const {
  uint64_t bytes = 0;
  for (const auto& [id, segment] : segments_) bytes += segment.shape.data_bytes;
  return bytes;
}

void SlabAllocator::check_invariants() const {
  space_.check_invariants();
  uint64_t in_use = 0;
  uint64_t free_bytes = 0;
  for (const auto& [id, segment] : segments_) {
    uint32_t extents = 0;
    uint64_t in_blocks = 0;
    for (uint32_t entry = 0; entry < segment.sizes.size(); entry++) {
      if (segment.sizes[entry] == 0) {
        MOBULA_CHECK(segment.blocks[entry] == kNoBlock);
        continue;
      }
      extents++;
      in_use += segment.sizes[entry];
      if (segment.shape.for_one) continue;
      const FreeSpace::Block& block = space_.block(segment.blocks[entry]);
      MOBULA_CHECK(block.used && block.segment == id && block.size >= segment.sizes[entry]);
      MOBULA_CHECK(block.offset >= segment.shape.data_offset);
      MOBULA_CHECK(block.offset + block.size <=
                   segment.shape.data_offset + segment.shape.data_bytes);
      in_blocks += block.size;
    }
    MOBULA_CHECK(extents == segment.extents);
    MOBULA_CHECK(extents + segment.free_entries.size() == segment.shape.entry_count);
    MOBULA_CHECK(!segment.shape.for_one || extents <= 1);
    if (!segment.shape.for_one) {
      MOBULA_CHECK(space_.block(segment.any_block).segment == id);
      free_bytes += segment.shape.data_bytes - in_blocks;
    }
  }
  MOBULA_CHECK(in_use == bytes_in_use_);
  MOBULA_CHECK(free_bytes == space_.free_bytes());
}

}  // namespace mobula::store
