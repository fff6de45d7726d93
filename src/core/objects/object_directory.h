#pragma once
// ObjectDirectory is a node daemon's table of *shared* objects (OWNERSHIP.md R10-R13, R18, R19,
// R22, R23 on one node): who holds them, what their values are, who waits for those, and when an
// object or an extent of the store is free. It never looks into values and touches no memory or
// process.
//
// An entry:  named ──SHARE──► pending ──READY / settle_estate──► ready
//              └────────SHARE with value───────────────────────────┘
//            from any state: no hold for a whole sweep ──► dropped
//
// Holds: a process (SHARE or CLAIM, until RELEASE or burial), a parcel (until CLOSE), a container
// (an entry with a value holds the refs inside), a spec (a pending entry holds those of its task),
// a job (until its end). Extents of the store are counted the same way: by parcels and entries.
//
// The sweep (R11). What lost its last hold is dropped only after everything that stood in any local
// uplink at that moment has been read. The shell proves that with passes:
//   begin_pass();  for every process not yet dead by on_process_died(): read its tail, *after*
//   begin_pass(), and hand over all records up to it;  complete_pass(effects).
// A pass may be spread over many turns of the loop. While wants_pass() is true another one is
// needed, also if no bell rings. A drop can take the last hold of something else: that waits for a
// pass more.
//
// Order of calls of the shell:
//   Welcome             add_process() before the first record of that uplink
//   ChannelOpened       on_channel_opened() before either side gets the descriptors
//   records             in the order of each uplink. An error means: that process is broken, kill
//   it;
//                       nothing was changed by the record (its list may have been handled in part)
//   pidfd fired         read the dead process's uplink to its end, then on_process_died()
//   SendPeerDied        to that peer; its Drained record comes back by on_drained()
//   OwedReady           settle_estate(), at once or after running the task again
//   Buried              the process's home region and private store memory may go (StoreBooks)
//   a driver ended      its workers killed; on_job_ended(); JobCollected follows when all are
//   buried AdoptExtent         StoreBooks::adopt();  FreeExtent  StoreBooks::free_extent()
//
// Threads: none. Owned and called by the node loop only.
// Limits:  Options. Values are shared_ptr to immutable data and never copied.

#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

#include "base/result.h"
#include "core/objects/directory_effects.h"
#include "core/objects/object_listing.h"

namespace mobula::objects {

class ObjectDirectory {
 public:
  struct Options {
    NodeId node{};
    size_t entries_max = 16'000'000;
    size_t early_closes_max = 1'000'000;  // CLOSEs before their parcels, a process.
    size_t waits_max = 16'000'000;        // Unanswered gets, a process.
  };

  explicit ObjectDirectory(Options options) : options_(options) {}

  // kCancelled: the job is over.
  Result<void> add_process(ProcessId process, JobId job);
  // kUnavailable: one of them is known to be dead; make no channel.
  Result<void> on_channel_opened(ProcessId one, ProcessId other);

  // Uplink records of `process`. kInvalidArgument: it broke the protocol.
  // ---------------------------

  Result<void> on_share(ProcessId process, ObjectId object, ValuePtr value, Effects& effects);
  Result<void> on_share_pending(ProcessId process, ObjectId object, std::vector<ObjectId> spec_refs,
                                SpecPtr spec = nullptr);
  Result<void> on_claim(ProcessId process, std::span<const ObjectId> objects);
  Result<void> on_release(ProcessId process, std::span<const ObjectId> objects);
  Result<void> on_job_holds(ProcessId process, std::span<const ObjectId> objects);
  Result<void> on_ready(ProcessId process, ObjectId object, ValuePtr value, Effects& effects);
  Result<void> on_parcel(const ParcelKey& key, std::vector<ObjectId> refs,
                         std::span<const wire::StoreLocation> locations, Effects& effects);
  Result<void> on_close(const ParcelKey& key);
  // Each object is answered by one DeliverValue, now or later, unless the process dies first. Asking
  // again before the answer changes nothing.
  Result<void> on_get(ProcessId process, std::span<const ObjectId> objects, Effects& effects);
  Result<void> on_drained(ProcessId process, ProcessId dead, std::span<const CallId> open_calls,
                          Effects& effects);
  // `process` found no bytes at this location of the object, nor has the store any (the shell has
  // looked). AskRebuild or LostForGood follows, once for all who find it; then the value as by
  // on_get(). If the object has another value by now, that is delivered at once.
  Result<void> on_lost(ProcessId process, ObjectId object, const wire::StoreLocation& location,
                       Effects& effects);
  // `process` had released these objects and would hold them again, if they exist. Unlike on_claim()
  // it needs nothing that protects them. Revived follows for each.
  Result<void> on_revive(ProcessId process, std::span<const ObjectId> objects, Effects& effects);

  // What the shell sees.
  // ----------------------------------------------------------------------------

  void begin_pass();
  void complete_pass(Effects& effects);
  bool wants_pass() const { return !sweep_.empty() || jobs_ending_ > 0; }

  // The process is gone and its uplink was read to the end. SendPeerDied goes to its ring peers;
  // when all have answered or died it is Buried, with OwedReady for what it owed.
  void on_process_died(ProcessId process, Effects& effects);

  // The end of this entry, which exists, is to be told by Dropped.
  void watch(ObjectId object) { entries_.at(object).watched = true; }

  // The value, or error, of an object named by OwedReady. kNotFound: nobody wants it any more.
  Result<void> settle_estate(ObjectId object, ValuePtr value, Effects& effects);

  // The job is over. Its holds end now; once its processes are buried its pending objects get
  // `error`, what no process, parcel or job outside reaches is dropped (cycles too), and
  // JobCollected follows.
  void on_job_ended(JobId job, ValuePtr error, Effects& effects);

  // Counters, for tests, state and metrics.
  // ---------------------------------------------------------

  size_t entry_count() const { return entries_.size(); }
  size_t parcel_count() const { return parcels_.size(); }
  size_t extent_count() const { return extents_.size(); }
  size_t early_close_count() const { return early_closes_.size(); }
  size_t process_count() const { return processes_.size(); }
  bool contains(ObjectId object) const { return entries_.contains(object); }
  bool has_value(ObjectId object) const;
  // Holds of every kind; 0 for an unknown object.
  uint32_t hold_count(ObjectId object) const;
  size_t holds_of(ProcessId process) const;
  // For people. O(everything).
  ObjectListing list_largest(size_t max) const;

  // Aborts if the books do not balance. O(everything); for tests.
  void check_invariants() const;

 private:
  enum class State { kNamed, kPending, kReady };
  struct Entry {
    State state = State::kNamed;
    bool owed = false;          // OwedReady or LostForGood was said.
    bool watched = false;       // Dropped is to be said.
    bool tell_creator = false;  // Unwanted is to be said.
    uint32_t holds = 0;
    uint64_t since = 0;  // Of its last Candidate.
    ValuePtr value;
    std::vector<ObjectId> spec_refs;
    SpecPtr spec;                     // While pending.
    std::vector<ObjectId> lost_refs;  // Of values that were lost: who read them relies on us (R6).
    std::vector<ProcessId> waiters;   // In order of asking.
  };
  enum class Life { kAlive, kDead };  // Dead: peers have yet to answer DRAINED.
  struct Process {
    JobId job{};
    Life life = Life::kAlive;
    std::unordered_set<ObjectId, ObjectIdHash> holds;
    std::unordered_set<ObjectId, ObjectIdHash> owes;   // Named or pending entries of its making.
    std::unordered_set<ObjectId, ObjectIdHash> waits;  // Gets without an answer.
    std::set<ProcessId> peers;                         // Not known dead.
    std::set<ProcessId> undrained;                     // Dead: who has not answered.
    size_t early_closes = 0;
  };
  struct Parcel {
    std::vector<ObjectId> refs;
    std::vector<wire::StoreLocation> locations;
  };
  struct ExtentKey {
    SegmentId segment{};
    uint32_t entry = 0;
    uint32_t generation = 0;
    auto operator<=>(const ExtentKey&) const = default;
  };
  struct Extent {
    wire::StoreLocation location{};
    uint32_t owners = 0;
    uint64_t since = 0;
  };
  struct Job {
    std::unordered_set<ObjectId, ObjectIdHash> holds;
    std::unordered_set<ProcessId> processes;  // Not buried.
    std::set<ProcessId> creators;             // All it ever had: whose objects are the job's.
    ValuePtr end_error;                       // Set once it ended.
    uint64_t collect_after_pass = 0;          // Set once nobody of it is left.
  };
  // What has lost its last hold or owner. It counts only if nothing was added since: `since` is also
  // in the entry or extent, and grows.
  struct Candidate {
    std::variant<ObjectId, ExtentKey> what;
    uint64_t since;  // passes_begun_ then: a pass begun later proves it.
  };
  using Entries = std::unordered_map<ObjectId, Entry, ObjectIdHash>;

  Result<Process*> live_process(ProcessId process);
  Result<Process*> check_own(ProcessId process, ObjectId object);
  Result<void> check_refs(std::span<const ObjectId> refs) const;
  Result<void> check_room(size_t more) const;
  bool creator_is_gone(ObjectId object) const { return !processes_.contains(object.creator); }

  Entry& name(ObjectId object);
  void add_hold(Process& process, ObjectId object);
  void add_holds(std::span<const ObjectId> refs, ObjectId except);
  void drop_hold(ObjectId object);
  void drop_holds(std::span<const ObjectId> refs, ObjectId except);
  void consider(ObjectId object, Entry& entry);
  void adopt(const wire::StoreLocation& location, Effects& effects);
  void disown(const wire::StoreLocation& location);
  void set_value(ObjectId object, Entry& entry, ValuePtr value, Effects& effects);
  void answer_waiters(ObjectId object, Entry& entry, const char* error, Effects& effects);
  void lose_value(ObjectId object, Entry& entry, Effects& effects);
  void forget_contents(ObjectId object, Entry& entry);
  void drop_parcel(std::map<ParcelKey, Parcel>::iterator parcel);
  void drop_entry(ObjectId object, Effects& effects);

  void bury_ready(Effects& effects);
  void bury(ProcessId process, Effects& effects);
  void start_collecting(Job& job, Effects& effects);
  void collect_job(JobId id, const Job& job, Effects& effects);
  std::unordered_set<ObjectId, ObjectIdHash> reached_from_outside(
      const std::vector<ObjectId>& objects) const;
  std::vector<ObjectId> objects_of(const Job& job) const;

  const Options options_;
  Entries entries_;
  std::map<ParcelKey, Parcel> parcels_;
  std::set<ParcelKey> early_closes_;
  std::map<ExtentKey, Extent> extents_;
  std::unordered_map<ProcessId, Process> processes_;  // Alive or dead, not buried.
  std::set<ProcessId> dead_;                          // Those of processes_ that are dead.
  ProcessId process_max_{};                           // No process ever had a higher number.
  std::map<JobId, Job> jobs_;
  size_t jobs_ending_ = 0;        // Jobs that wait for a pass.
  std::vector<Candidate> sweep_;  // In order of becoming candidates.
  uint64_t passes_begun_ = 1;
  bool in_pass_ = false;
};

}  // namespace mobula::objects
