#pragma once
// Picks the lease to ask back when somebody waits.
//
// For a waiting demand, a lease of another demand is a candidate if its resources would help, and
// - its demand holds more than its target, or
// - it is of the same job and of a lower priority (the lowest first), or
// - its holder (job, else owner, else shape: the first in which the two differ) would, after giving it
//   up, still hold as much as the waiting one with one lease more, and has no higher priority; or
// - the waiting holder holds nothing at all, and the lease is at least `slice` old or probably idle.
// Probably idle is a lease whose owner is a worker that is not waiting for anything: it keeps the
// lease for its next child. Of its own job a demand takes no deeper one's lease of its priority, unless
// that is probably idle or the waiting one has lost patience. Leases of blocked workers are never candidates: they
// have no CPUs, and what else they hold they cannot give up before they wake.
//
// Threads: none. Cost: O(demands that hold leases + their leases).

#include <optional>

#include "base/ids.h"
#include "base/time.h"
#include "core/scheduler/demands.h"
#include "core/scheduler/leases.h"
#include "core/scheduler/ledger.h"

namespace mobula::scheduler {

class Reclaims {
 public:
  struct Want {
    DemandId demand;
    bool is_impatient = false;
    bool same_class = false;  // Only a running lease of its own cap class helps.
  };
  struct Choice {
    std::optional<LeaseId> victim;
    std::optional<Instant> retry_at;  // No victim now, but one that is too young.
  };

  Reclaims(const Demands& demands, const Leases& leases, const Ledger& ledger, Duration slice)
      : demands_(demands), leases_(leases), ledger_(ledger), slice_(slice) {}

  Choice choose_for(const Want& want, Instant now) const;
  // For a placement group that lacks this much of the node: any running lease that holds some of it and
  // is at least `slice` old or probably idle; of those that are probably idle first, of whoever holds
  // most, the oldest. Groups are no rivals of leases: what they reserve is not shared out any more.
  Choice choose_for_group(const ResourceSet& missing, Instant now) const;
  // When the CPUs of the node or of a bundle are overdrawn: a running lease with CPUs from there, a
  // probably idle one first; among those one of whoever holds most, the deepest.
  std::optional<LeaseId> choose_for_overdraft(const BundleId& where) const;

 private:
  // What the two hold at the first level in which they differ.
  struct Contest {
    ResourceAmount waiting = 0;
    ResourceAmount holding = 0;
  };
  Contest contest(DemandId waiting, DemandId holding) const;
  // Of the waiting one above the holding one, within a job; else 0.
  int64_t priority_over(DemandId waiting, DemandId holding) const;
  bool could_help(const Want& want, DemandId holding) const;
  bool is_actor(DemandId holding) const;
  bool is_probably_idle(DemandId holding) const;
  std::optional<LeaseId> oldest_running(const Demand& demand) const;
  template <typename Accept>
  std::optional<LeaseId> oldest_running(const Demand& demand, Accept accepts) const;

  const Demands& demands_;
  const Leases& leases_;
  const Ledger& ledger_;
  const Duration slice_;
};

}  // namespace mobula::scheduler
