#pragma once
// Spiller decides which stored values of shared objects lie in memory and which on disk: what is
// written when, what leaves memory, what comes back, and who waits for that.
//
//   memory ──write──► writing ──written──► both ──TryEvict, no pins──► disk ──restore──► reading
//      ▲                 │ failed           ▲ │ pinned                                      │
//      └─────────────────┘                  └─┴─────────────── read, checksum right ◄───────┘
//                                                                      wrong ──► lost
//   from any state: free() ──► gone, as soon as nothing of it is on its way
//   file   its segment is a file (StoreBooks): it stays there until it is freed. A value on disk that is
//          read back into such a segment, because memory has no room for it, becomes one of these
//
// A value keeps the name under which everybody knows it: its first place. Who finds nothing there asks
// by restore(), and is told where the bytes are now.
//
// When: above `threshold` of the store, values are copied to disk in the background, least recently
// used first, so that memory can be had at once later; only when somebody waits for room, they leave
// it. Then too, processes are asked to share private values: what the daemon does not know it cannot
// spill. For a request that the free parts of other processes' segments cannot serve, whole segments
// are emptied. What is pinned, or was asked for a moment ago, stays.
//
// Values that come back lie in segments of the daemon's own. With its copy on disk such a value costs
// nothing to evict again.
//
// What the shell does, besides what StoreBooks says: carry out SpillEffects (spill_effects.h); call
//   adopt(), free()       for AdoptExtent and FreeExtent of the ObjectDirectory
//   on_unpinned()         instead of StoreBooks::on_unpinned
//   on_own_segment()      CreateSegment for kDaemonProcess was carried out; on_own_refused() if refused
//   step()                after any change, and every 50 ms while busy()
//
// Threads: none. Owned and called by the node loop only.
// Time:    only from the `now` arguments, which never go backwards.
// Limits:  Options.

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "core/store/slab_allocator.h"
#include "core/store/spill_effects.h"
#include "core/store/spill_files.h"
#include "core/store/store_books.h"

namespace mobula::store {

class Spiller {
 public:
  struct Options {
    bool enabled = true;  // False: there is no directory to write to.
    double threshold = 0.8;
    uint64_t batch_bytes = 32ULL << 20;  // Of values written to one file, unless one is larger.
    size_t batch_count_max = 1024;
    size_t writes_max = 2;  // Batches on their way.
    size_t reads_max = 4;
    // A value that was asked for stays so long, twice as long each time that this was not enough for
    // whoever asked, up to `protect_max`.
    Duration protect = std::chrono::milliseconds(50);
    Duration protect_max = std::chrono::seconds(2);
    Duration settle = std::chrono::milliseconds(20);  // For what was evicted to be put to use.
    Duration ask_again = std::chrono::milliseconds(10);
    Duration write_again = std::chrono::seconds(1);  // After a failure.
    Duration keep_empty = std::chrono::seconds(10);  // Segments of our own.
    size_t restores_max = 1'000'000;                 // Waiting, of all processes.
  };
  using IsPinned = std::function<bool(const wire::StoreLocation&)>;
  // What a step looks at only if it has to.
  struct Outside {
    std::function<Headroom()> headroom;
    std::function<DiskRoom()> disk;
    IsPinned is_pinned;
  };

  // `books` must outlive it.
  Spiller(const Options& options, StoreBooks& books) : options_(options), books_(books) {}

  void adopt(const wire::StoreLocation& value, Instant now);
  // Nobody needs it any more.
  void free(const wire::StoreLocation& value, Effects& effects, SpillEffects& spill);
  void on_unpinned(const wire::StoreLocation& place, Instant now, Effects& effects);
  bool knows(const wire::StoreLocation& value) const { return values_.contains(name_of(value)); }

  // A process found no bytes in the place that the value is named after. TellPlace or TellNoPlace
  // follows, exactly once unless the process is buried before. kRetryLater: too many wait.
  Result<void> restore(ProcessId process, const wire::StoreLocation& value, Instant now,
                       SpillEffects& spill);
  // Somebody is about to ask. Only if there is room.
  void prefetch(const wire::StoreLocation& value, Instant now, SpillEffects& spill);
  void on_process_buried(ProcessId process);
  // Those who wait for a value for which there is no room yet.
  std::vector<ProcessId> waiting_for_room() const;
  // One of those is told that there is none.
  void refuse_restores(ProcessId process, const std::string& why, SpillEffects& spill);
  // Something is on its way to the disk or back, or leaves memory: there is room soon.
  bool is_moving() const { return !writes_.empty() || reads_ > 0 || evicted_bytes_ > 0; }

  void on_own_segment(SegmentId segment, const SegmentShape& shape, Instant now);
  void on_own_refused(const std::string& why, SpillEffects& spill);

  void on_written(SpillFileId file, const WriteOutcome& outcome, Instant now, Effects& effects,
                  SpillEffects& spill);
  void on_read(const ValueName& value, const ReadOutcome& outcome, Instant now, Effects& effects,
               SpillEffects& spill);
  void on_evicted(const ValueName& value, Instant now, Effects& effects, SpillEffects& spill);
  void on_kept(const ValueName& value, Instant now, Effects& effects, SpillEffects& spill);

  // Whatever is to be done now.
  void step(Instant now, const Outside& outside, Effects& effects, SpillEffects& spill);
  // step() is to be called again in a while.
  bool busy() const;

  // Why nothing is spilled any more, for people; empty while all is well.
  const std::string& trouble() const { return trouble_; }
  bool disk_is_full() const { return disk_full_; }

  // A value for people: see `mobula memory`.
  struct Seen {
    enum class Where : uint8_t { kMemory, kMemoryAndDisk, kDisk, kFile, kMoving, kLost };
    Where where = Where::kMemory;
    Instant since{0};  // It is where it is.
    Instant made{0};   // It became the daemon's.
    std::optional<wire::StoreLocation> place;
  };
  std::optional<Seen> look(const wire::StoreLocation& value) const;
  template <typename Visit>
  void for_each(Visit visit) const {
    for (const auto& [name, value] : values_) visit(value.name, seen(value));
  }
  struct Totals {
    uint64_t values = 0;
    uint64_t memory_bytes = 0;
    uint64_t in_file_values = 0;  // In file-backed segments.
    uint64_t in_file_bytes = 0;
    uint64_t disk_values = 0;  // On disk only.
    uint64_t disk_bytes = 0;   // Of all copies on disk.
    uint64_t files = 0;
    uint64_t spilled_bytes = 0;  // Since the start.
    uint64_t restored_bytes = 0;
    uint64_t spilled_values = 0;
    uint64_t restored_values = 0;
    uint64_t lost_values = 0;
  };
  Totals totals() const;
  // Of all values in memory.
  std::vector<wire::StoreLocation> places() const;

  // Aborts if the books do not balance. For tests.
  void check_invariants() const;

 private:
  enum class State : uint8_t { kMemory, kWriting, kBoth, kDisk, kReading, kFile, kLost };
  struct Value {
    wire::StoreLocation name{};
    State state = State::kMemory;
    bool evicting = false;        // TryEvict was said.
    bool freed = false;           // Goes once nothing of it is on its way.
    bool queued = false;          // In restores_.
    wire::StoreLocation place{};  // Memory, writing, both, file.
    DiskCopy copy;                // Both, disk, reading.
    uint64_t order = 0;           // In lru_; 0: not there.
    Instant protected_until{0};
    Duration protect{0};  // The last time.
    Instant since{0};
    Instant made{0};
    std::vector<ProcessId> waiting;
    std::string why_lost;
  };
  using Values = std::map<ValueName, Value>;
  struct Batch {
    std::vector<ValueName> values;
    uint64_t bytes = 0;
  };

  static bool in_memory(State state) {
    return state == State::kMemory || state == State::kWriting || state == State::kBoth;
  }
  static Seen seen(const Value& value);
  void set_state(Value& value, State state, Instant now);
  void touch(Value& value);
  void enter_memory(Value& value, const wire::StoreLocation& place);
  void enter_file(Value& value, const wire::StoreLocation& place, Instant now);
  std::optional<Extent> allocate_own(uint64_t size);
  bool owns(SegmentId segment) const { return slabs_.owns(segment) || file_slabs_.owns(segment); }
  void free_own(const wire::StoreLocation& place, Instant now);
  void leave_memory(Value& value);
  void forget(Values::iterator value, Effects& effects, SpillEffects& spill);
  void drop_copy(Value& value, SpillEffects& spill);
  void tell(Value& value, Instant now, SpillEffects& spill);
  void lengthen_protection(Value& value, Instant now);
  void queue_restore(Value& value);
  void fail_restore(Value& value, RestoreProblem problem, const std::string& why,
                    SpillEffects& spill);
  bool start_read(Value& value, Instant now, SpillEffects& spill);
  void start_reads(Instant now, const Outside& outside, Effects& effects, SpillEffects& spill);

  // step()'s parts (spiller_room.cc).
  struct Choice;
  bool may_write(Instant now) const;
  void make_room(Instant now, const Outside& outside, Effects& effects, SpillEffects& spill);
  void write_ahead(Instant now, const Outside& outside, Effects& effects, SpillEffects& spill);
  void forget_served(std::span<const SegmentRequest> waiting);
  void consider(Value& value, Choice& choice, SpillEffects& spill);
  void consider_segment(SegmentId segment, Choice& choice, SpillEffects& spill);
  bool serves_directly(SegmentId segment, std::span<const SegmentRequest> waiting) const;
  void fill_batch(Choice& choice, uint64_t bytes);
  void write(const std::vector<ValueName>& chosen, const Outside& outside, Instant now,
             SpillEffects& spill);
  void ask_to_share(uint64_t bytes, Instant now, Effects& effects);
  void return_own_segments(Instant now, Effects& effects);

  const Options options_;
  StoreBooks& books_;
  SlabAllocator slabs_{{}};       // Segments of our own: in memory,
  SlabAllocator file_slabs_{{}};  // in files.
  SpillFiles files_;
  Values values_;
  std::map<ValueName, ValueName> places_;  // Who lies where.
  std::map<uint64_t, ValueName> lru_;      // Those in memory, least recently used first.
  std::map<SpillFileId, Batch> writes_;
  std::deque<ValueName> restores_;  // On disk and wanted, in order.
  size_t restores_waiting_ = 0;     // Processes in Value::waiting.
  size_t reads_ = 0;
  std::optional<SegmentRequest> own_request_;
  uint64_t next_order_ = 1;
  uint64_t next_file_ = 1;
  uint64_t next_own_request_ = 1;
  uint64_t clean_bytes_ = 0;   // kBoth.
  uint64_t memory_bytes_ = 0;  // In memory in any state.
  uint64_t writing_bytes_ = 0;
  uint64_t evicted_bytes_ = 0;  // For those who wait, since settle_at_ was set.
  std::map<std::pair<ProcessId, uint64_t>, uint64_t>
      served_;  // Those who waited then, and for how much.
  Instant settle_at_{0};
  Instant ask_at_{0};
  uint64_t granted_when_asked_ = 0;
  Instant write_at_{0};
  std::string trouble_;
  bool disk_full_ = false;
  Totals totals_;
};

}  // namespace mobula::store
