#pragma once
// StoreBooks is a node daemon's account of the object store: which process has which segment, which
// extents belong to shared objects, and whether memory may grow.
//
// A segment belongs to one process, its only writer, which carves it up by itself (SlabAllocator).
// Extents that the directory adopted live on after their writer; the segment stays until they are
// free. A memfd does not fail when memory runs out, so growth is refused before: against the
// store's capacity, and against what the machine and the cgroup can still give (Headroom).
//
// What memory has no room for goes on in a segment that is a file on disk, if there is a disk: at once
// if it is larger than the store, else when nothing has become free for a while. Such segments do not
// count as memory, are used for what lies in them and nothing later, and stay where they are.
//
//   segment:  granted ──return_segment, empty──► destroyed
//                └──writer buried──► orphan ──last adopted extent free──► destroyed
//   extent:   (the writer's own) ──adopt──► adopted ──free_extent──► evicting ──no pins──► released
//                                              └──────────────drop_extent─────────────────────┘
//
// Segments that were requested for kDaemonProcess hold values that came back from disk (Spiller).
//
// What the shell does:
//   SegmentRequest   measure Headroom, request(); a request waits up to wait_max for memory
//   CreateSegment    make it (shm::create_segment), send SegmentGranted; else on_create_failed().
//                    In a file: with all its blocks, as a full disk would mean SIGBUS later
//   RefuseSegment    SegmentRefused
//   AskForEmpty      SegmentsWanted to that process: it is to return empty segments at once, and to
//                    share so many bytes of private values, so that they can be spilled
//   SegmentOpen      open(): then SegmentOpened with a read-only descriptor
//   AdoptExtent      adopt();  FreeExtent: free_extent()   (from ObjectDirectory)
//   MarkEvicting     mark the entry in the segment's table, before any scan for it
//   in every turn of the loop, at least every 50 ms, while evicting() is not empty: collect all pin
//                    tables (shm/pins.h), then on_unpinned() for each that has no pin
//   ReleaseExtent    mark the entry free; tell the writer, if it lives (ExtentsFreed)
//   DestroySegment   close and unmap it, SegmentGone to its readers
//   Buried           on_process_buried()
//   at least every 100 ms while waiting() > 0: tick()
//
// Threads: none. Owned and called by the node loop only.
// Time:    only from the `now` arguments, which never go backwards.
// Limits:  Options.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "core/store/spill_effects.h"
#include "wire/frames.h"

namespace mobula::store {

// What the machine can still give, measured by the shell just before the call. Bytes.
struct Headroom {
  uint64_t memory_available = ~uint64_t{0};  // MemAvailable.
  uint64_t cgroup_available = ~uint64_t{0};  // Limit less use, of the tightest cgroup above us.
  // Pages that the store's segments really have (fstat st_blocks), to tell what is promised but not
  // yet taken out of the two above.
  uint64_t store_resident = ~uint64_t{0};
  std::optional<DiskRoom> files =
      std::nullopt;  // For file-backed segments; nothing: there are none.
};

struct SegmentRequest {
  ProcessId process;
  uint64_t number;  // The requester's own.
  uint64_t bytes;
  bool ahead = false;  // Nobody waits for it: refused unless much is left.
};

struct CreateSegment {
  ProcessId process;
  uint64_t request;
  SegmentId segment;
  uint64_t data_bytes;
  bool in_file = false;
};
struct RefuseSegment {
  ProcessId process;
  uint64_t request;
  std::string message;
  bool ahead = false;      // Nobody waited for it: nothing is wrong.
  bool disk_full = false;  // It would have gone to a file.
};
struct AskForEmpty {
  ProcessId process;
  uint64_t share_bytes = 0;
};
struct DestroySegment {
  SegmentId segment;
  std::vector<ProcessId> readers;
};
struct MarkEvicting {
  wire::StoreLocation location;
};
// `writer` is kDaemonProcess if it is dead.
struct ReleaseExtent {
  wire::StoreLocation location;
  ProcessId writer;
};
using Effect = std::variant<CreateSegment, RefuseSegment, AskForEmpty, DestroySegment, MarkEvicting,
                            ReleaseExtent>;
using Effects = std::vector<Effect>;

class StoreBooks {
 public:
  struct Options {
    uint64_t capacity_bytes = 0;            // object_store_memory.
    uint64_t standard_bytes = 64ULL << 20;  // Of a segment; less if capacity is small.
    uint64_t reserve_bytes = 256ULL << 20;  // Of the machine's memory, never given to the store.
    Duration wait_max = std::chrono::seconds(5);  // Without any progress.
    // From then on nobody passes the request that waits longest.
    Duration pass_max = std::chrono::seconds(1);
    // Until a request goes to a file: without any progress, while others work, after another that did.
    Duration file_after = std::chrono::seconds(2);
    Duration file_after_work = std::chrono::seconds(10);
    Duration file_after_file = std::chrono::milliseconds(100);
    uint64_t file_standard_bytes = 16ULL << 20;  // Of a file-backed segment for small values.
    uint64_t files_bytes_max = 1ULL << 46;       // Of all file-backed segments.
    uint32_t files_max = 16'384;                 // Each takes a descriptor.
    uint32_t waiting_max = 4096;
    uint32_t segments_max = 100'000;
  };

  explicit StoreBooks(Options options);

  // A segment with at least request.bytes of data. CreateSegment or RefuseSegment follows, exactly
  // once unless the process is buried before. One ahead is answered at once, and granted if then as
  // much again is left, and half of the store. kInvalidArgument: no bytes.
  Result<void> request(const SegmentRequest& request, const Headroom& headroom, Instant now,
                       Effects& effects);
  // The process needs it no more. Does nothing for a request that was answered.
  void cancel(ProcessId process, uint64_t number);
  // The shell could not make it. RefuseSegment follows.
  void on_create_failed(const CreateSegment& created, const Error& why, Effects& effects);
  // Serves requests that waited for memory, refuses those that waited too long.
  void tick(const Headroom& headroom, Instant now, Effects& effects);
  size_t waiting() const { return waiting_.size(); }
  // The one that waits longest has waited so long without any progress; 0 while nobody waits.
  Duration waited(Instant now) const;
  // In order of asking.
  std::vector<SegmentRequest> waiting_requests() const;
  // Memory is short elsewhere: everybody is asked for empty segments.
  void reclaim(Effects& effects) const { ask_for_empty(effects); }
  // Something became free, or is about to: nobody is refused for wait_max from now on.
  void on_progress(Instant now);
  // The same, but others work with what takes the room: who can goes to a file after file_after_work.
  void on_work(Instant now);
  // Values are on their way to the disk or back: who can go to a file is to wait for that a while.
  void on_moving(Instant now);
  // What this process waits for longest is granted in a file at once. False: that cannot be.
  bool go_to_file(ProcessId process, const Headroom& headroom, Effects& effects);

  // The writer gives an empty segment back; tick() then serves who waits. kInvalidArgument: not its own, or shared extents in it.
  Result<void> return_segment(ProcessId process, SegmentId segment, Effects& effects);
  // `process` is to get a read-only descriptor; its data bytes. kNotFound: no such segment.
  Result<uint64_t> open(ProcessId process, SegmentId segment);

  // A process named this location: does it lie within a segment? kInvalidArgument: no.
  Result<void> check_location(const wire::StoreLocation& location) const;
  void adopt(const wire::StoreLocation& location);
  void free_extent(const wire::StoreLocation& location, Effects& effects);
  const std::vector<wire::StoreLocation>& evicting() const { return evicting_; }
  // An adopted extent's bytes are on disk and nobody has it pinned: it is free at once.
  void drop_extent(const wire::StoreLocation& location, Effects& effects);
  // No process has this evicting extent pinned.
  void on_unpinned(const wire::StoreLocation& location, Effects& effects);

  // Its requests are forgotten, its segments go as soon as no shared object needs them.
  void on_process_buried(ProcessId process, Effects& effects);

  // kDaemonProcess: dead, or a segment of the daemon's own, or there is none.
  ProcessId writer_of(SegmentId segment) const;
  bool exists(SegmentId segment) const { return segments_.contains(segment); }
  bool is_in_file(SegmentId segment) const;
  // Bytes of living processes' segments that no shared object takes: private values, or nothing.
  std::map<ProcessId, uint64_t> unshared_bytes() const;
  // What values take in memory. `used_by`: what a process says of its own, believed up to its grants.
  uint64_t taken_bytes(const std::function<uint64_t(ProcessId)>& used_by) const;
  std::vector<SegmentId> segments_in_files(size_t max) const;

  uint64_t granted_bytes() const { return granted_bytes_; }  // Of memory.
  uint64_t in_file_bytes() const { return in_file_bytes_; }
  uint64_t capacity_bytes() const { return options_.capacity_bytes; }
  size_t segment_count() const { return segments_.size(); }
  size_t adopted_count() const { return adopted_count_; }
  // "4.0 GiB of 6.8 GiB granted: process 12 has 3.0 GiB, ..." for people.
  std::string who_has_what() const;

  // Aborts if the books do not balance. For tests.
  void check_invariants() const;

 private:
  struct ExtentKey {
    uint32_t entry = 0;
    uint32_t generation = 0;
    auto operator<=>(const ExtentKey&) const = default;
  };
  struct Segment {
    ProcessId writer{};  // kDaemonProcess: dead, or:
    bool is_daemons = false;
    bool in_file = false;
    uint64_t data_bytes = 0;
    uint64_t file_bytes = 0;
    uint32_t entry_count = 0;
    std::map<ExtentKey, uint64_t> adopted;  // With their sizes; evicting ones included.
    uint64_t adopted_bytes = 0;
    std::set<ProcessId> readers;
  };
  struct Waiting {
    SegmentRequest request;
    Instant since;
    Instant deadline;
    Instant progress;  // Something became free last.
    Instant file_at;   // Then it goes to a file.
  };
  using Segments = std::map<SegmentId, Segment>;

  uint64_t left_to_give(const Headroom& headroom) const;
  bool may_grant_ahead(uint64_t bytes, const Headroom& headroom) const;
  bool try_grant(const SegmentRequest& wanted, const Headroom& headroom, Effects& effects);
  bool try_grant_in_file(const SegmentRequest& wanted, const Headroom& headroom, Effects& effects);
  void grant(const SegmentRequest& wanted, uint64_t data_bytes, bool in_file, Effects& effects);
  bool fits_no_store(uint64_t bytes) const;
  void refuse_too_large(const SegmentRequest& request, const Headroom& headroom, Effects& effects);
  std::string refusal(uint64_t bytes, const Headroom& headroom) const;
  void ask_for_empty(Effects& effects) const;
  void destroy(Segments::iterator segment, Effects& effects);
  void forget(Segments::iterator segment);
  void release(const wire::StoreLocation& location, Effects& effects);

  const Options options_;
  Segments segments_;
  std::deque<Waiting> waiting_;
  std::vector<wire::StoreLocation> evicting_;
  size_t adopted_count_ = 0;
  uint64_t granted_bytes_ = 0;  // Whole bytes of all segments in memory,
  uint64_t in_file_bytes_ = 0;  // in files,
  uint32_t in_file_count_ = 0;
  bool stuck_ = false;  // One who waited went to a file, and nothing has become free since.
  uint32_t next_segment_ = 1;
};

}  // namespace mobula::store
