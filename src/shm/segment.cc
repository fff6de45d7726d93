#include "shm/segment.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "shm/channel.h"

namespace mobula::shm {

namespace {

constexpr uint64_t kMagic = 0x47455341'4C55424DULL;
constexpr uint32_t kVersion = 1;
constexpr uint64_t kBytesPerEntry = 16 * 1024;

constexpr uint64_t entry_word(uint32_t generation, EntryState state) {
  return uint64_t{generation} << 8 | static_cast<uint64_t>(state);
}

constexpr uint64_t round_up(uint64_t bytes, uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

Result<NewSegment> with_header(Fd fd, SegmentId segment, uint64_t data_bytes, uint32_t in_file) {
  const uint32_t entries = segment_entries_for(data_bytes);
  Result<Mapping> table = Mapping::map(fd, segment_data_offset(entries), Access::kReadWrite);
  if (!table) return tl::unexpected(table.error());
  const SegmentHeader header{kMagic, kVersion, number(segment), data_bytes, entries, in_file};
  std::memcpy(table->data(), &header, sizeof(header));
  return NewSegment{std::move(fd), std::move(*table)};
}

}  // namespace

uint32_t segment_entries_for(uint64_t data_bytes) {
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(data_bytes / kBytesPerEntry, kSegmentEntriesMin, kSegmentEntriesMax));
}

uint64_t segment_data_offset(uint32_t entry_count) {
  return kPageBytes + round_up(entry_count * sizeof(SegmentEntry), kPageBytes);
}

Result<NewSegment> create_segment(SegmentId segment, uint64_t data_bytes) {
  if (data_bytes == 0 || data_bytes > kSegmentBytesMax || data_bytes % kPageBytes != 0) {
    return fail(ErrorCode::kInvalidArgument,
                "a segment of " + std::to_string(data_bytes) + " bytes");
  }
  Result<Fd> fd = create_memory("mobula-segment",
                                segment_file_bytes(data_bytes, segment_entries_for(data_bytes)));
  if (!fd) return tl::unexpected(fd.error());
  return with_header(std::move(*fd), segment, data_bytes, 0);
}

Result<NewSegment> create_segment_in(Fd file, SegmentId segment, uint64_t data_bytes) {
  return with_header(std::move(file), segment, data_bytes, 1);
}

Result<SegmentView> SegmentView::attach(std::byte* memory, uint64_t mapped_bytes,
                                        SegmentId segment) {
  SegmentHeader header{};
  if (mapped_bytes < kPageBytes) return fail(ErrorCode::kInvalidArgument, "segment too small");
  std::memcpy(&header, memory, sizeof(header));
  if (header.magic != kMagic || header.version != kVersion || header.segment != number(segment) ||
      header.in_file > 1 || header.data_bytes == 0 || header.data_bytes > kSegmentBytesMax ||
      header.entry_count != segment_entries_for(header.data_bytes) ||
      mapped_bytes < segment_data_offset(header.entry_count)) {
    return fail(ErrorCode::kInvalidArgument,
                "segment " + std::to_string(number(segment)) + " has a bad header");
  }
  return SegmentView(memory, header, segment);
}

SegmentView::SegmentView(std::byte* memory, const SegmentHeader& header, SegmentId segment)
    : memory_(memory),
      segment_(segment),
      data_offset_(segment_data_offset(header.entry_count)),
      data_bytes_(header.data_bytes),
      entry_count_(header.entry_count),
      in_file_(header.in_file == 1) {}

Result<void> SegmentView::check_location(const wire::StoreLocation& location) const {
  const uint64_t end = data_offset_ + data_bytes_;
  if (location.segment != segment_ || location.entry >= entry_count_ || location.size == 0 ||
      location.offset % kExtentAlignmentBytes != 0 || location.offset < data_offset_ ||
      location.offset >= end || location.size > end - location.offset) {
    return fail(ErrorCode::kInvalidArgument, "a location outside of its segment");
  }
  return {};
}

bool SegmentView::is_sealed(const wire::StoreLocation& location) const {
  return location.entry < entry_count_ &&
         entry(location.entry)->word.load() == entry_word(location.generation, EntryState::kSealed);
}

wire::StoreLocation SegmentView::begin_write(uint32_t index, uint64_t offset, uint64_t size,
                                             ProcessId creator) {
  SegmentEntry* slot = entry(index);
  const uint32_t next = generation(index) + 1;
  slot->offset = offset;
  slot->size = size;
  slot->creator = number(creator);
  slot->word.store(entry_word(next, EntryState::kWriting));
  return {segment_, index, next, 0, offset, size};
}

bool SegmentView::seal(const wire::StoreLocation& location) {
  return move(location, EntryState::kWriting, EntryState::kSealed);
}

bool SegmentView::drop(const wire::StoreLocation& location) {
  return move(location, EntryState::kSealed, EntryState::kFree) ||
         move(location, EntryState::kWriting, EntryState::kFree);
}

bool SegmentView::evict(const wire::StoreLocation& location) {
  return move(location, EntryState::kSealed, EntryState::kEvicting);
}

bool SegmentView::release(const wire::StoreLocation& location) {
  return move(location, EntryState::kEvicting, EntryState::kFree);
}

bool SegmentView::keep(const wire::StoreLocation& location) {
  return move(location, EntryState::kEvicting, EntryState::kSealed);
}

EntryState SegmentView::state(uint32_t index) const {
  return static_cast<EntryState>(entry(index)->word.load() & 0xFF);
}

uint32_t SegmentView::generation(uint32_t index) const {
  return static_cast<uint32_t>(entry(index)->word.load() >> 8);
}

SegmentEntry* SegmentView::entry(uint32_t index) const {
  return reinterpret_cast<SegmentEntry*>(memory_ + kPageBytes) + index;
}

bool SegmentView::move(const wire::StoreLocation& location, EntryState from, EntryState to) {
  if (location.entry >= entry_count_) return false;
  uint64_t expected = entry_word(location.generation, from);
  return entry(location.entry)
      ->word.compare_exchange_strong(expected, entry_word(location.generation, to));
}

}  // namespace mobula::shm
