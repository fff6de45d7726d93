#pragma once
// StoreClient is a process's part in the object store: its own segments, which it carves up, views of
// stored objects, its own and others', and the pins that protect those.
//
//   put:   create() ─► copy, outside any lock ─► seal() ─► the location; private
//            private ──give_away() (before SHARE or PARCEL)──► the daemon's ──on_extents_freed()──► free
//               └──drop()──► free once no view of it is left
//   get:   open() ─► a view (bytes stay as they are until unpin()), or: open the segment first
//
// Where a segment is needed the call says so and changes nothing; the runtime asks the daemon (under
// its lock), waits, maps what it got (OwnSegment::map, ReadSegment::map: *not* under the lock), adds
// it under the lock and calls again.
//
// Threads: every function under the runtime's lock, none makes a system call. The exceptions, which
//          must *not* be called under it: WritableExtent::copy, and the destruction of what
//          take_empty() and take_retired() return (they unmap).
// Limits:  shm::kPinSlots - 1 different objects viewed at a time.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "core/store/slab_allocator.h"
#include "process/populator.h"
#include "process/store_segment.h"
#include "shm/pins.h"

namespace mobula::process {

// Space for one stored value, 64-byte aligned, the caller's alone until seal() or abandon().
struct WritableExtent {
  wire::StoreLocation location{};
  std::byte* data = nullptr;
  std::shared_ptr<OwnSegment> segment;
  Populator* populator = nullptr;

  // By the fastest means for this memory. Plain stores to `data` are equally right. No lock.
  void copy(uint64_t offset, std::span<const std::byte> from) const {
    segment->copy(data + offset, from, segment, populator);
  }
};

// Ask the daemon for a segment (SegmentRequest with these bytes), then add_own(). `for_one`: of a large value.
struct NeedSegment {
  uint64_t bytes = 0;
  bool for_one = false;
};
// Where a viewed value lies, for a mapping of one's own.
struct PlaceInFile {
  std::shared_ptr<const shm::Fd> file;
  uint64_t offset = 0;
  uint64_t size = 0;
};
// Ask the daemon for a descriptor (SegmentOpen), then add_readable().
struct NeedOpen {
  SegmentId segment{};
};

struct StoredView {
  std::span<const std::byte> bytes;
  uint32_t pin = 0;
};

class StoreClient {
 public:
  struct Options {
    ProcessId process{};
    store::SlabAllocator::Options slabs;
    std::atomic<uint64_t>* stored_bytes = nullptr;  // Where others see what lies in memory.
    // The largest value for whose like memory is asked for ahead. Bytes.
    uint64_t ahead_max = 256ULL << 20;
    // An empty segment is kept this long: it is warm.
    Duration keep_empty = std::chrono::seconds(10);
    // Descriptors of others' segments that are kept.
    size_t files_kept_max = 128;
  };
  // Things to be destroyed outside of the lock.
  struct Retired {
    std::vector<std::shared_ptr<OwnSegment>> own;
    std::vector<std::unique_ptr<ReadSegment>> readable;
  };

  // `pins`: at kPinsOffset of the home region.
  StoreClient(const Options& options, std::byte* pins);

  // Writing. --------------------------------------------------------------------------------------

  // `size` bytes, not 0.
  std::variant<WritableExtent, NeedSegment> create(uint64_t size);
  // kInvalidArgument: the daemon granted something else.
  // One in a file is used once, and given back as soon as nothing is in it.
  Result<void> add_own(std::shared_ptr<OwnSegment> segment, const NeedSegment& asked, Instant now);
  // A value of `size` bytes was stored. More large ones than ever before are there, and no memory is
  // left for the next: what to ask for ahead, as this request, so that it can be mapped meanwhile.
  std::optional<NeedSegment> want_ahead(uint64_t size, uint64_t request);
  // That request was answered. Nothing if it was another.
  std::optional<NeedSegment> end_ahead(uint64_t request);
  // All is written: others may read it.
  void seal(const WritableExtent& extent);
  // Instead of seal().
  void abandon(const WritableExtent& extent, Instant now);

  // What is to be shared when the daemon asks for it: `holder` is handed out by oldest_private().
  void set_holder(const wire::StoreLocation& location, void* holder, Instant now);
  // Holders of private values that nobody views, least recently made first, up to so many bytes.
  std::vector<void*> oldest_private(uint64_t bytes) const;

  // For people: of all private values; does a view look at this one; when was it made (0: not known here)?
  uint64_t private_bytes() const;
  bool is_viewed(const wire::StoreLocation& value) const;
  Instant made(const wire::StoreLocation& value);

  // The daemon decides from now on when it is free. Does nothing for an extent of another process.
  void give_away(const wire::StoreLocation& location);
  // The object is gone and was private. Does nothing for an extent that is not private and our own.
  void drop(const wire::StoreLocation& location, Instant now);
  // ExtentsFreed. kInvalidArgument: one of them was not given away.
  Result<void> on_extents_freed(std::span<const wire::StoreLocation> locations, Instant now);

  // Reading. --------------------------------------------------------------------------------------

  // kNotFound: the bytes are gone. kInvalidArgument: no such place. kRetryLater: no pin is left; the
  // caller may read and copy without one while it holds the ref.
  Result<std::variant<StoredView, NeedOpen>> open(const wire::StoreLocation& location);
  void add_readable(std::unique_ptr<ReadSegment> segment);
  // Is the descriptor of one more such segment to be kept?
  bool wants_file() const { return readable_.size() < options_.files_kept_max; }
  // Nothing: its descriptor was not kept.
  std::optional<PlaceInFile> file_of(uint32_t pin) const;
  // The daemon says where the value is that is not there any more. Believed until it is wrong.
  void set_place(const wire::StoreLocation& value, const wire::StoreLocation& place);
  // No ref to the value is left here.
  void forget_place(const wire::StoreLocation& value) { places_.erase(key_of(value)); }
  // False: the bytes are surely not where this process believes them to be.
  bool may_be_here(const wire::StoreLocation& value) const;
  void unpin(uint32_t pin, Instant now);
  // SegmentGone: unmapped once no view of it is left.
  void on_segment_gone(SegmentId segment);

  // Giving back. ----------------------------------------------------------------------------------

  // Removes the segments that were empty for keep_empty (`wanted`: all empty ones, SegmentsWanted;
  // files: always).
  // Send SegmentReturn for each, and destroy them outside of the lock.
  std::vector<std::shared_ptr<OwnSegment>> take_empty(Instant now, bool wanted);
  bool has_retired() const { return !retired_.own.empty() || !retired_.readable.empty(); }
  // Something is to be given back or unmapped now, as it may take up a disk.
  bool has_rest() const { return has_retired() || has_empty_file_; }
  Retired take_retired() { return std::exchange(retired_, {}); }

  uint64_t bytes_in_use() const { return slabs_.bytes_in_use() + file_slabs_.bytes_in_use(); }
  size_t own_segments() const { return own_.size(); }
  size_t views() const { return pin_of_.size(); }
  Populator& populator() { return populator_; }
  void check_invariants() const;

 private:
  enum class Owner : uint8_t { kNobody, kWriting, kPrivate, kDaemon };
  struct OwnExtent {
    uint32_t generation = 0;
    Owner owner = Owner::kNobody;
    uint64_t order = 0;  // In private_; 0: not there.
  };
  struct Private {
    wire::StoreLocation location{};
    void* holder = nullptr;
    Instant made{};
  };
  struct Own {
    std::shared_ptr<OwnSegment> segment;
    std::vector<OwnExtent> extents;  // By entry.
  };
  struct Readable {
    std::unique_ptr<ReadSegment> segment;
    uint32_t views = 0;
    bool gone = false;
  };
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
  struct View {
    wire::StoreLocation location{};
    uint32_t count = 0;
    bool dropped = false;  // drop() came while it was viewed.
  };

  static Key key_of(const wire::StoreLocation& location);
  // The extent, if it is ours and of that generation.
  OwnExtent* own_extent(const wire::StoreLocation& location);
  void free_own(const wire::StoreLocation& location, Instant now);
  void forget_holder(OwnExtent& extent);
  void tell_bytes();
  Result<std::variant<StoredView, NeedOpen>> open_place(const wire::StoreLocation& place);
  const wire::StoreLocation& place_of(const wire::StoreLocation& value) const;
  void retire(SegmentId segment);

  const Options options_;
  shm::PinTable pins_;
  store::SlabAllocator slabs_;       // In memory.
  store::SlabAllocator file_slabs_;  // In files.
  bool has_empty_file_ = false;
  std::unordered_map<SegmentId, Own> own_;
  std::unordered_map<SegmentId, Readable> readable_;
  std::unordered_map<Key, uint32_t, KeyHash> pin_of_;
  std::unordered_map<Key, wire::StoreLocation, KeyHash> places_;  // Of values that have moved.
  std::map<uint64_t, Private> private_;                           // In the order of being made.
  uint64_t next_order_ = 1;
  uint64_t ahead_request_ = 0;  // 0: none is open.
  NeedSegment ahead_;           // What it asks for.
  size_t ahead_mark_ = 0;       // So many large values at once are no news.
  std::vector<View> views_;     // By pin; as long as the highest one that there was.
  Retired retired_;
  Populator populator_;  // Last: its thread stops first.
};

}  // namespace mobula::process
