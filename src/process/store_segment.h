#pragma once
// Mappings of store segments in one process, and how bytes get into them.
//
// OwnSegment is one that this process alone may write. It remembers which of its memory is *mapped*
// (has been touched through this mapping): only there a memcpy is fast. Elsewhere a large copy goes
// through the file (pwrite: no page faults, no zeroing; 1.8 times as fast on untouched memory), and a
// Populator maps those pages afterwards for whoever uses the space next. Where it has not come to that
// by the next large copy, the copy maps them itself: it costs once what pwrite would cost every time.
//
// Threads: a segment is shared by the runtime, by threads that copy into extents (each into its own)
//          and by the populator, hence shared_ptr; the last one unmaps it. The map of what is touched
//          is atomic. Never unmap under the runtime's lock.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "shm/memory.h"
#include "shm/segment.h"

namespace mobula::process {

class Populator;

// Memory is tracked, and populated, in pieces of this size.
constexpr uint64_t kGranuleBytes = 64 * 1024;
// From here on it pays to ask whether memory is mapped. Bytes.
constexpr size_t kLargeCopyBytes = 256 * 1024;

class OwnSegment {
 public:
  // Maps a segment granted by the daemon. System calls: not under the lock.
  // kInvalidArgument: the descriptor is not what the daemon said. kRetryLater: no address space.
  static Result<std::shared_ptr<OwnSegment>> map(SegmentId id, shm::Fd fd, uint64_t data_bytes);

  SegmentId id() const { return id_; }
  shm::SegmentView& view() { return view_; }
  const shm::SegmentView& view() const { return view_; }
  const std::shared_ptr<const shm::Fd>& file() const { return fd_; }
  std::byte* data() const { return mapping_.data(); }
  uint64_t file_bytes() const { return mapping_.size(); }

  // Copies to `to`, which lies in an extent that the caller has to itself. Not under the lock.
  // `populator` is told of what should be mapped soon; may be null.
  void copy(std::byte* to, std::span<const std::byte> from, const std::shared_ptr<OwnSegment>& self,
            Populator* populator);

  // Offsets are from the start of the file. Granules that are only in part in the range count for
  // is_mapped and not for set_mapped.
  bool is_mapped(uint64_t begin, uint64_t end) const;
  void set_mapped(uint64_t begin, uint64_t end);

  // Maps the granules of the range that are not mapped yet, at most `bytes_max` of them. Returns
  // where it stopped; `end` if all is done, or nothing is to be. kUnavailable: this kernel cannot.
  Result<uint64_t> populate(uint64_t begin, uint64_t end, uint64_t bytes_max);
  // The segment goes back to the daemon: nothing more is to be mapped, whatever was asked for.
  void stop_populating() { stopped_.store(true, std::memory_order_relaxed); }

 private:
  OwnSegment(SegmentId id, shm::Fd fd, shm::Mapping mapping, const shm::SegmentView& view);
  bool granule_mapped(uint64_t granule) const;
  void copy_unmapped(uint64_t offset, std::span<const std::byte> from);
  void write_through_file(uint64_t offset, std::span<const std::byte> from);
  void ask_for_population(uint64_t begin, uint64_t end, const std::shared_ptr<OwnSegment>& self,
                          Populator& populator);

  const SegmentId id_;
  const std::shared_ptr<const shm::Fd> fd_;
  const shm::Mapping mapping_;
  shm::SegmentView view_;
  // A bit per granule.
  std::vector<std::atomic<uint64_t>> mapped_;
  std::vector<std::atomic<uint64_t>> written_;  // Through the file.
  std::atomic<bool> stopped_{false};
  std::atomic<uint64_t> asked_end_{0};  // Populated ahead, or asked for, up to here.
};

// A segment of another process, read-only.
struct ReadSegment {
  // As OwnSegment::map.
  static Result<std::unique_ptr<ReadSegment>> map(SegmentId id, const shm::Fd& fd,
                                                  uint64_t data_bytes);
  SegmentId id;
  shm::Mapping mapping;
  shm::SegmentView view;
  std::shared_ptr<const shm::Fd> file;  // For private mappings; null: there are many segments.
};

}  // namespace mobula::process
