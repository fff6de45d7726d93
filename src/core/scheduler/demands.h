#pragma once
// Demands keeps what every owner wants and holds, and says whose turn it is.
//
// A demand is an (owner, shape): a target, the leases held, and its share: the CPUs that its
// running leases hold (a lease without CPUs counts as one CPU, one with a blocked worker as none).
// Shares add up to those of owners and jobs. Rank orders waiting demands; the smallest is served
// first.
//
// Threads: none. Time: only from the `now` arguments.
// Cost:    every change is O(log demands); iterating waiting() is O(waiting demands).

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/bundle.h"
#include "base/ids.h"
#include "base/resources.h"
#include "base/time.h"
#include "core/scheduler/caps.h"

namespace mobula::scheduler {

enum class ShapeId : uint32_t {};  // The owner's own numbering.

struct DemandId {
  ProcessId owner{};
  ShapeId shape{};
  auto operator<=>(const DemandId&) const = default;
};

// What one lease of this shape counts in shares.
ResourceAmount share_of(const ResourceSet& resources);

struct Demand {
  ResourceSet resources;
  uint32_t depth = 0;
  int32_t priority = 0;
  EnvironmentId environment{};
  BundleRef bundle;
  ClassId cap_class{};
  bool is_feasible = false;
  bool is_warned = false;
  uint32_t target = 0;
  uint32_t planned = 0;  // Leases that wait for a worker to start; within one pass only.
  ResourceAmount share = 0;
  uint64_t served = 0;  // Sequence number of its last grant.
  std::set<LeaseId> leases;
  ResourceAmount cpus_for_life = 0;      // Of an actor: what it keeps of its CPUs once it is made.
  std::optional<Instant> waiting_since;  // Since the last grant, or since it began to wait.
  Instant next_reclaim{0};
  Duration reclaim_delay{0};  // Doubles while it waits; zero: none was sent since the last grant.
  // When nothing could be asked back for it: the state of things then. It is looked at again after a
  // change.
  std::optional<std::pair<uint64_t, bool>> fruitless;
};

enum class OwnerKind { kDriver, kWorker, kActor };

struct Rank {
  ResourceAmount job_share = 0;
  uint64_t job_served = 0;
  JobId job{};
  int64_t minus_priority = 0;
  Instant impatient_since{0};  // Instant::max() unless it has waited too long with nothing.
  ResourceAmount owner_share = 0;
  bool owner_is_running = false;  // A blocked owner's children come first,
  int64_t minus_depth = 0;        // the deepest before all others.
  uint64_t owner_served = 0;
  ResourceAmount share = 0;
  uint64_t served = 0;
  DemandId id;
  auto operator<=>(const Rank&) const = default;
};

class Demands {
 public:
  struct Owner {
    JobId job{};
    OwnerKind kind{};
    bool is_blocked = false;
    ResourceAmount share = 0;
    uint64_t served = 0;
    uint32_t leases = 0;
    uint32_t wanting = 0;  // Demands with a target.
    std::map<ShapeId, Demand> shapes;
  };

  void add_owner(ProcessId owner, JobId job, OwnerKind kind);
  // Its leases must have been removed.
  void remove_owner(ProcessId owner);
  Owner* find_owner(ProcessId owner);
  const Owner& owner(ProcessId owner) const { return owners_.at(owner); }

  Demand& add(DemandId id, Demand demand);
  Demand* find(DemandId id);
  Demand& at(DemandId id);
  const Demand& at(DemandId id) const;

  void set_target(DemandId id, uint32_t target);
  void lease_granted(DemandId id, LeaseId lease, Instant now);
  void lease_over(DemandId id, LeaseId lease);
  // A running lease's worker blocks (minus), wakes (plus), a lease begins or ends.
  void change_share(DemandId id, ResourceAmount change);

  // Demands that want more than they hold and could ever get it.
  const std::set<DemandId>& waiting() const { return waiting_; }
  // Demands that hold leases.
  const std::set<DemandId>& holding() const { return holding_; }
  ResourceAmount job_share(JobId job) const;
  Rank rank(DemandId id, Instant now, Duration patience) const;

  const std::map<ProcessId, Owner>& owners() const { return owners_; }
  void check_invariants() const;

 private:
  struct Job {
    ResourceAmount share = 0;
    uint64_t served = 0;
    uint32_t owners = 0;
  };
  void note_waiting(DemandId id, Demand& demand);

  uint64_t next_served_ = 1;
  std::map<JobId, Job> jobs_;
  std::map<ProcessId, Owner> owners_;
  std::set<DemandId> waiting_;
  std::set<DemandId> holding_;
};

}  // namespace mobula::scheduler
