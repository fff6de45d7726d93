#include "process/store_segment.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/check.h"
#include "process/populator.h"
#include "shm/streaming_copy.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace mobula::process {

namespace {

// How far ahead of what is used memory is mapped: as much as was used so far, within these bounds.
constexpr uint64_t kAheadBytesMin = 2ULL << 20;
constexpr uint64_t kAheadBytesMax = 16ULL << 20;
// Mapped at a time by a copy; the kernel holds a lock on the address space meanwhile.
constexpr uint64_t kMapStepBytes = 1ULL << 20;

constexpr uint64_t granules_of(uint64_t bytes) {
  return (bytes + kGranuleBytes - 1) / kGranuleBytes;
}

using Bits = std::vector<std::atomic<uint64_t>>;

bool has_bit(const Bits& bits, uint64_t at) {
  return (bits[at / 64].load(std::memory_order_relaxed) >> (at % 64) & 1) != 0;
}
void set_bits(Bits& bits, uint64_t begin, uint64_t end) {
  for (uint64_t at = begin; at < end; at++) {
    bits[at / 64].fetch_or(uint64_t{1} << (at % 64), std::memory_order_relaxed);
  }
}

}  // namespace

Result<std::shared_ptr<OwnSegment>> OwnSegment::map(SegmentId id, shm::Fd fd, uint64_t data_bytes) {
  if (data_bytes == 0 || data_bytes > shm::kSegmentBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "a segment of an impossible size");
  }
  const uint64_t bytes = shm::segment_file_bytes(data_bytes, shm::segment_entries_for(data_bytes));
  Result<shm::Mapping> mapping =
      shm::Mapping::map(fd, bytes, shm::Access::kReadWrite, shm::OnFork::kKeep);
  if (!mapping) return tl::unexpected(mapping.error());
  const Result<shm::SegmentView> view = shm::SegmentView::attach(mapping->data(), bytes, id);
  if (!view) return tl::unexpected(view.error());
  if (view->data_bytes() != data_bytes) {
    return fail(ErrorCode::kInvalidArgument, "a segment of another size than announced");
  }
  return std::shared_ptr<OwnSegment>(
      new OwnSegment(id, std::move(fd), std::move(*mapping), *view));  // Private constructor.
}

OwnSegment::OwnSegment(SegmentId id, shm::Fd fd, shm::Mapping mapping, const shm::SegmentView& view)
    : id_(id),
      fd_(std::make_shared<const shm::Fd>(std::move(fd))),
      mapping_(std::move(mapping)),
      view_(view),
      mapped_(granules_of(mapping_.size()) / 64 + 1),
      written_(mapped_.size()),
      asked_end_(view_.data_offset()) {}

bool OwnSegment::granule_mapped(uint64_t granule) const { return has_bit(mapped_, granule); }

bool OwnSegment::is_mapped(uint64_t begin, uint64_t end) const {
  for (uint64_t granule = begin / kGranuleBytes; granule < granules_of(end); granule++) {
    if (!granule_mapped(granule)) return false;
  }
  return true;
}

void OwnSegment::set_mapped(uint64_t begin, uint64_t end) {
  const uint64_t last = end == file_bytes() ? granules_of(end) : end / kGranuleBytes;
  set_bits(mapped_, granules_of(begin), last);
}

void OwnSegment::copy(std::byte* to, std::span<const std::byte> from,
                      const std::shared_ptr<OwnSegment>& self, Populator* populator) {
  if (from.empty()) return;
  const uint64_t begin = static_cast<uint64_t>(to - data());
  const uint64_t end = begin + from.size();
  MOBULA_CHECK(end <= file_bytes());
  if (from.size() < kLargeCopyBytes) {
    std::memcpy(to, from.data(), from.size());
    set_mapped(begin, end);
  } else {
    for (uint64_t at = begin; at < end;) {
      // As long a run as possible of memory that is mapped, or that is not.
      const bool mapped = granule_mapped(at / kGranuleBytes);
      uint64_t stop = at;
      do {
        stop = (stop / kGranuleBytes + 1) * kGranuleBytes;
      } while (stop < end && granule_mapped(stop / kGranuleBytes) == mapped);
      stop = std::min(stop, end);
      const std::span<const std::byte> run = from.subspan(at - begin, stop - at);
      if (mapped) {
        shm::copy_streaming(data() + at, run);
      } else {
        copy_unmapped(at, run);
      }
      at = stop;
    }
  }
  if (populator != nullptr) ask_for_population(begin, end, self, *populator);
}

// Of memory that is not mapped. Written before: it is being used again, so mapping it pays.
void OwnSegment::copy_unmapped(uint64_t offset, std::span<const std::byte> from) {
  const uint64_t end = offset + from.size();
  const uint64_t middle = (offset + from.size() / 2) / kGranuleBytes;
  const bool again = has_bit(written_, middle);
  for (uint64_t at = offset; again && at < end;) {
    const Result<uint64_t> reached = populate(at, end, kMapStepBytes);
    if (!reached) break;
    at = *reached;
  }
  if (is_mapped(offset, end)) {
    shm::copy_streaming(data() + offset, from);
    return;
  }
  write_through_file(offset, from);
  set_bits(written_, offset / kGranuleBytes, granules_of(end));
}

void OwnSegment::write_through_file(uint64_t offset, std::span<const std::byte> from) {
  while (!from.empty()) {
    const ssize_t written =
        ::pwrite(fd_->get(), from.data(), from.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      // Not expected of a memfd; the mapping leads to the same memory.
      std::memcpy(data() + offset, from.data(), from.size());
      return;
    }
    offset += static_cast<uint64_t>(written);
    from = from.subspan(static_cast<size_t>(written));
  }
}

void OwnSegment::ask_for_population(uint64_t begin, uint64_t end,
                                    const std::shared_ptr<OwnSegment>& self, Populator& populator) {
  const uint64_t used = end - view_.data_offset();
  const uint64_t ahead = std::clamp(used, kAheadBytesMin, kAheadBytesMax);
  const uint64_t want = std::min(end + ahead, file_bytes());
  uint64_t asked = asked_end_.load(std::memory_order_relaxed);
  // A new stretch of at least half of the lead, so that small puts ask rarely.
  const bool more = want > asked && (want - asked >= ahead / 2 || want == file_bytes());
  if (more && asked_end_.compare_exchange_strong(asked, want)) {
    populator.ask(self, std::min(begin, asked), want);
  } else if (end - begin >= kLargeCopyBytes && !is_mapped(begin, end)) {
    populator.ask(self, begin, end);
  }
}

Result<uint64_t> OwnSegment::populate(uint64_t begin, uint64_t end, uint64_t bytes_max) {
  if (stopped_.load(std::memory_order_relaxed)) return end;
  uint64_t granule = begin / kGranuleBytes;
  const uint64_t last = granules_of(std::min(end, file_bytes()));
  while (granule < last && granule_mapped(granule)) granule++;
  if (granule == last) return end;
  uint64_t stop = granule;
  while (stop < last && !granule_mapped(stop) && (stop - granule) * kGranuleBytes < bytes_max)
    stop++;
  const uint64_t from = granule * kGranuleBytes;
  const uint64_t to = std::min(stop * kGranuleBytes, file_bytes());
  if (::madvise(data() + from, to - from, MADV_POPULATE_WRITE) != 0) {
    return fail(ErrorCode::kUnavailable,
                std::string("MADV_POPULATE_WRITE: ") + std::strerror(errno));
  }
  set_mapped(from, to);
  return stop == last ? end : to;
}

Result<std::unique_ptr<ReadSegment>> ReadSegment::map(SegmentId id, const shm::Fd& fd,
                                                      uint64_t data_bytes) {
  if (data_bytes == 0 || data_bytes > shm::kSegmentBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "a segment of an impossible size");
  }
  const uint64_t bytes = shm::segment_file_bytes(data_bytes, shm::segment_entries_for(data_bytes));
  Result<shm::Mapping> mapping =
      shm::Mapping::map(fd, bytes, shm::Access::kReadOnly, shm::OnFork::kKeep);
  if (!mapping) return tl::unexpected(mapping.error());
  const Result<shm::SegmentView> view = shm::SegmentView::attach(mapping->data(), bytes, id);
  if (!view) return tl::unexpected(view.error());
  if (view->data_bytes() != data_bytes) {
    return fail(ErrorCode::kInvalidArgument, "a segment of another size than announced");
  }
  return std::unique_ptr<ReadSegment>(new ReadSegment{id, std::move(*mapping), *view, nullptr});
}

}  // namespace mobula::process
