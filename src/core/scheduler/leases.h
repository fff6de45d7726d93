#pragma once
// Leases is the table of who works for whom. A worker has at most one lease.
//
// Threads: none; a value.

#include <cstdint>
#include <map>
#include <optional>

#include "base/ids.h"
#include "base/time.h"
#include "core/scheduler/demands.h"
#include "core/scheduler/ledger.h"

namespace mobula::scheduler {

struct Lease {
  DemandId demand;
  ClassId cap_class{};
  ProcessId worker{};
  Holding holding;
  ResourceAmount cpus = 0;   // Given back while blocked.
  ResourceAmount share = 0;  // What it counts while it runs.
  bool is_blocked = false;
  bool is_reclaimed = false;
  bool is_for_life = false;  // Of an actor that is made: nothing of it is lent, no cap counts it.
  bool is_orphan = false;    // Its owner is gone and its worker is being stopped.
  Instant granted_at{0};

  ResourceAmount share_now() const { return is_blocked ? 0 : share; }
};

class Leases {
 public:
  LeaseId add(Lease lease);
  void remove(LeaseId id);
  Lease* find(LeaseId id);
  Lease& at(LeaseId id);
  const Lease& at(LeaseId id) const;
  // Null if it has none.
  Lease* of_worker(ProcessId worker);
  std::optional<LeaseId> id_of_worker(ProcessId worker) const;

  size_t size() const { return leases_.size(); }
  const std::map<LeaseId, Lease>& all() const { return leases_; }
  void check_invariants() const;

 private:
  uint64_t next_lease_ = 1;
  std::map<LeaseId, Lease> leases_;
  std::map<ProcessId, LeaseId> by_worker_;
};

}  // namespace mobula::scheduler
