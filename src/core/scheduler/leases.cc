#include "core/scheduler/leases.h"

#include <utility>

#include "base/check.h"

namespace mobula::scheduler {

LeaseId Leases::add(Lease lease) {
  const LeaseId id{next_lease_++};
  MOBULA_CHECK(by_worker_.emplace(lease.worker, id).second);
  leases_.emplace(id, std::move(lease));
  return id;
}

void Leases::remove(LeaseId id) {
  const auto found = leases_.find(id);
  MOBULA_CHECK(found != leases_.end());
  MOBULA_CHECK(by_worker_.erase(found->second.worker) == 1);
  leases_.erase(found);
}

Lease* Leases::find(LeaseId id) {
  const auto found = leases_.find(id);
  return found == leases_.end() ? nullptr : &found->second;
}

Lease& Leases::at(LeaseId id) { return leases_.at(id); }
const Lease& Leases::at(LeaseId id) const { return leases_.at(id); }

Lease* Leases::of_worker(ProcessId worker) {
  const auto found = by_worker_.find(worker);
  return found == by_worker_.end() ? nullptr : &leases_.at(found->second);
}

std::optional<LeaseId> Leases::id_of_worker(ProcessId worker) const {
  const auto found = by_worker_.find(worker);
  if (found == by_worker_.end()) return std::nullopt;
  return found->second;
}

void Leases::check_invariants() const {
  MOBULA_CHECK(by_worker_.size() == leases_.size());
  for (const auto& [worker, id] : by_worker_) MOBULA_CHECK(leases_.at(id).worker == worker);
}

}  // namespace mobula::scheduler
