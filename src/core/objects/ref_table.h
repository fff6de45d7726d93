#pragma once
// RefTable is a process's side of shared ownership (OWNERSHIP.md R2-R8): for each ref that came
// from, or went to, another process it knows whether this process *holds* it or only a *guard*
// does, and says which records must stand in the uplink, in which order.
//
//   private (not in this table) ──on_shared──► held ──on_count_zero──► forgotten
//   received ──► guarded ──guard ends, still alive / before_send──► held
//                   └──guard ends, not alive──► forgotten
//
// It does not count refs and knows nothing of private objects: the runtime does both. "Alive" below
// means that the runtime has a local count for the object: user refs, pins of tasks sent (R5),
// values kept here that contain it, views of its bytes.
//
// What the runtime does, always under its lock, and in this order. `records` goes to the uplink as
// it is, before anything published afterwards (R3):
//   a TASK arrives with refs       on_task(caller, call, refs)
//   a task was executed            drop arguments, locals; end_task(); SHARE new refs of the result
//                                  (share_order); PARCEL; drop the result (on_count_zero); RESULT
//   a RESULT arrives with parcel   complete the objects (counts for the refs inside); READY for
//   each
//                                  that is shared; on_parcel()
//   a VALUE arrives for y          if y is alive: keep it (counts for the refs inside), on_value()
//   a frame with refs is sent      SHARE private ones (share_order, on_shared), before_send(), push
//   a local count reaches zero     drop the counts that its value holds (if any), on_count_zero()
//   PEER_DIED p                    read p's ring to its end, fail calls to p, on_peer_died()
//
// Threads: none; guarded by the runtime's lock.
// Limits:  kIdsPerRecord ids in one record; longer lists become several.

#include <compare>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/ids.h"

namespace mobula::objects {

// Well below the largest uplink record.
constexpr size_t kIdsPerRecord = 2000;

// Uplink records, in the order in which they must be published. Names as in wire/control.fbs.
struct ClaimsRecord {
  std::vector<ObjectId> objects;
};
struct ReleasesRecord {
  std::vector<ObjectId> objects;
};
struct CloseRecord {
  ProcessId callee;
  CallId call;
};
struct DrainedRecord {
  ProcessId peer;
  std::vector<CallId> open_calls;
};
using UplinkRecord = std::variant<ClaimsRecord, ReleasesRecord, CloseRecord, DrainedRecord>;
using UplinkRecords = std::vector<UplinkRecord>;

// One return of a call whose result came with a parcel.
struct ParcelPart {
  ObjectId result;
  std::span<const ObjectId> refs;
  // The object is shared, and its READY (value or location, refs) is already in the uplink.
  bool handed_over = false;
};

// Everything private that `roots` drag along, inner objects first: the
// order of SHAREs (R2).
// `private_contents` gives the refs inside a private object's value or, if it is pending, in its
// task's arguments; nullopt for an object that is not private here. Each object comes once.
std::vector<ObjectId> share_order(
    std::span<const ObjectId> roots,
    const std::function<std::optional<std::span<const ObjectId>>(ObjectId)>& private_contents);

class RefTable {
 public:
  enum class State { kUnknown, kGuarded, kHeld };  // kUnknown: private, or not here at all.
  using IsAlive = std::function<bool(ObjectId)>;

  // `is_alive` is asked during calls and must not call back.
  explicit RefTable(IsAlive is_alive) : is_alive_(std::move(is_alive)) {}

  // Guards. ---------------------------------------------------------------------------------------

  // A task with these refs in its arguments is about to run here. Nothing to do without refs.
  void on_task(ProcessId caller, CallId call, std::span<const ObjectId> refs);
  // The task's arguments were dropped; what is alive nevertheless is claimed. Before PARCEL,
  // RESULT.
  void end_task(ProcessId caller, CallId call, UplinkRecords& records);

  // The result of a call of ours came with a parcel. Each part's object must be alive (a count of the
  // task that made it, if nobody else's); the parcel stays open until all of them have been dropped or
  // shared. With no part that is private it is closed here and now.
  void on_parcel(ProcessId callee, CallId call, std::span<const ParcelPart> parts,
                 UplinkRecords& records);

  // The daemon delivered the value of shared object `container`, with these refs inside.
  void on_value(ObjectId container, std::span<const ObjectId> refs);

  // Refs that leave. ------------------------------------------------------------------------------

  // The SHARE of this private object is in the uplink. Its parcel, if it had one, is closed: from
  // now on the daemon's entry holds the refs inside.
  void on_shared(ObjectId object, UplinkRecords& records);
  // Refs of a frame that is about to be sent: claims those that only a guard protects (R4).
  void before_send(std::span<const ObjectId> refs, UplinkRecords& records);

  // The value of `object` is lost; the object is not. What its guard protected is claimed where it is
  // alive, and its parcel, if it had one, is closed. Drop the counts that the value held before.
  void on_value_lost(ObjectId object, UplinkRecords& records);
  // The daemon says that this process holds the object again, which it had released.
  void on_revived(ObjectId object);

  // Ends. -----------------------------------------------------------------------------------------

  // Nothing here refers to this object any more. For every object, private results included.
  void on_count_zero(ObjectId object, UplinkRecords& records);
  // The dead peer's ring was read to its end. Ends the guards of tasks that it sent, then DRAINED.
  // Its parcels stay open; later results of calls to it are never to arrive.
  void on_peer_died(ProcessId peer, UplinkRecords& records);

  State state(ObjectId object) const;
  size_t ref_count() const { return refs_.size(); }
  size_t guard_count() const { return guards_.size(); }
  size_t parcel_count() const { return parcels_.size(); }
  // Aborts if the books do not balance. O(refs); for tests.
  void check_invariants() const;

 private:
  struct Ref {
    bool held = false;
    uint32_t guards = 0;  // Guard lists that name it, each occurrence counted.
  };
  // What protects received refs: a task, one return of a parcel, or a container.
  struct TaskGuard {
    ProcessId caller;
    CallId call;
    auto operator<=>(const TaskGuard&) const = default;
  };
  struct PartGuard {
    ObjectId result;
    auto operator<=>(const PartGuard&) const = default;
  };
  struct ContainerGuard {
    ObjectId container;
    auto operator<=>(const ContainerGuard&) const = default;
  };
  using Guard = std::variant<TaskGuard, PartGuard, ContainerGuard>;
  struct ParcelKey {
    ProcessId callee;
    CallId call;
    auto operator<=>(const ParcelKey&) const = default;
  };

  void open_guard(const Guard& guard, std::span<const ObjectId> refs);
  void end_guard(const Guard& guard, UplinkRecords& records);
  void end_part(ObjectId object, UplinkRecords& records);
  void claim(ObjectId object, UplinkRecords& records);
  void close_if_done(const ParcelKey& key, UplinkRecords& records);

  const IsAlive is_alive_;
  std::unordered_map<ObjectId, Ref, ObjectIdHash> refs_;
  std::map<Guard, std::vector<ObjectId>> guards_;
  std::map<ParcelKey, uint32_t> parcels_;  // Open parcels and the parts that keep them open.
  std::unordered_map<ObjectId, ParcelKey, ObjectIdHash> part_of_;
};

}  // namespace mobula::objects
