#pragma once
// A segment of the object store: one memfd with a header, an entry table and data. What memory has no
// room for lies in a file on disk of the same form. Such a file cannot be sealed: it has no name, so
// that nobody else can cut it, all of its blocks from the start, and only its writer may write it.
//
//   SegmentHeader (4 KiB) | entry_count x SegmentEntry, padded to 4 KiB | data
//
// One process has it writable and carves it up (core/store/slab_allocator.h); readers get read-only
// descriptors; the daemon maps header and table. An entry describes one extent:
//
//   free ──begin_write──► writing ──seal──► sealed ──drop (private, by the writer)──► free
//                            └──drop──► free   └──evict (daemon)──► evicting ──release──► free
//                                                                   └──keep──► sealed
//
// The generation goes up with begin_write, so a location (segment, entry, generation) never means
// two things. A reader trusts the location it was given for offset and size, after checking them
// against its mapping; the entry only says whether that generation is still sealed. All transitions
// are one sequentially consistent operation: together with pins (pins.h), whoever wants to reuse an
// extent sees the reader's pin or the reader sees that the extent is going.
//
// Threads: any; one writer process, one daemon, any readers.
// Limits:  kSegmentEntriesMax entries a segment.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/ids.h"
#include "base/result.h"
#include "shm/memory.h"
#include "wire/frames.h"

namespace mobula::shm {

constexpr uint32_t kSegmentEntriesMax = 4096;
constexpr uint32_t kSegmentEntriesMin = 64;
constexpr uint64_t kSegmentUnitBytes = 2ULL << 20;
constexpr uint64_t kExtentAlignmentBytes = 64;
constexpr uint64_t kSegmentBytesMax = 1ULL << 46;

enum class EntryState : uint8_t { kFree = 0, kWriting = 1, kSealed = 2, kEvicting = 3 };

struct SegmentHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t segment;
  uint64_t data_bytes;
  uint32_t entry_count;
  uint32_t in_file;  // 1: not in memory.
};

struct SegmentEntry {
  std::atomic<uint64_t> word;  // Generation << 8 | state.
  uint64_t offset;
  uint64_t size;
  uint32_t creator;
  uint32_t reserved;
};
static_assert(sizeof(SegmentEntry) == 32);

// Entries for so many data bytes: one per 16 KiB, within the limits.
uint32_t segment_entries_for(uint64_t data_bytes);
// Where data starts, and the size of the whole file.
uint64_t segment_data_offset(uint32_t entry_count);
inline uint64_t segment_file_bytes(uint64_t data_bytes, uint32_t entry_count) {
  return segment_data_offset(entry_count) + data_bytes;
}

// The daemon makes a segment. kRetryLater: out of descriptors or address space.
struct NewSegment {
  Fd fd;
  Mapping table;  // Header and entries, writable.
};
Result<NewSegment> create_segment(SegmentId segment, uint64_t data_bytes);
// The same in a file of segment_file_bytes() zero bytes.
Result<NewSegment> create_segment_in(Fd file, SegmentId segment, uint64_t data_bytes);

// View of a segment's memory (mapped from its start). Does not own the mapping.
class SegmentView {
 public:
  // Checks the header against what the daemon said. `mapped_bytes` may cover the table alone.
  // kInvalidArgument: they disagree.
  static Result<SegmentView> attach(std::byte* memory, uint64_t mapped_bytes, SegmentId segment);

  uint64_t data_offset() const { return data_offset_; }
  uint64_t data_bytes() const { return data_bytes_; }
  uint32_t entry_count() const { return entry_count_; }
  bool is_in_file() const { return in_file_; }
  // In the data range, aligned and not empty? Says nothing about its entry.
  Result<void> check_location(const wire::StoreLocation& location) const;
  bool is_sealed(const wire::StoreLocation& location) const;

  // The writer.
  wire::StoreLocation begin_write(uint32_t entry, uint64_t offset, uint64_t size,
                                  ProcessId creator);
  // False: the location is not being written.
  bool seal(const wire::StoreLocation& location);
  // From writing or sealed to free. False: it is neither (the daemon is evicting it).
  bool drop(const wire::StoreLocation& location);

  // The daemon.
  bool evict(const wire::StoreLocation& location);
  bool release(const wire::StoreLocation& location);
  // Instead of release(): somebody still looks at it.
  bool keep(const wire::StoreLocation& location);

  EntryState state(uint32_t entry) const;
  uint32_t generation(uint32_t entry) const;

 private:
  SegmentView(std::byte* memory, const SegmentHeader& header, SegmentId segment);
  SegmentEntry* entry(uint32_t index) const;
  bool move(const wire::StoreLocation& location, EntryState from, EntryState to);

  std::byte* memory_;
  SegmentId segment_;
  uint64_t data_offset_;
  uint64_t data_bytes_;
  uint32_t entry_count_;
  bool in_file_;
};

}  // namespace mobula::shm
