#include "core/scheduler/demands.h"

#include "base/check.h"

namespace mobula::scheduler {

ResourceAmount share_of(const ResourceSet& resources) {
  const ResourceAmount cpus = resources.get(kCpu);
  return cpus > 0 ? cpus : kResourceUnit;
}

void Demands::add_owner(ProcessId id, JobId job, OwnerKind kind) {
  Owner owner;
  owner.job = job;
  owner.kind = kind;
  MOBULA_CHECK(owners_.emplace(id, std::move(owner)).second);
  ++jobs_[job].owners;
}

void Demands::remove_owner(ProcessId id) {
  const auto found = owners_.find(id);
  MOBULA_CHECK(found != owners_.end() && found->second.leases == 0);
  MOBULA_CHECK(found->second.share == 0);
  for (const auto& [shape, demand] : found->second.shapes) waiting_.erase({id, shape});
  const auto job = jobs_.find(found->second.job);
  if (--job->second.owners == 0) jobs_.erase(job);
  owners_.erase(found);
}

Demands::Owner* Demands::find_owner(ProcessId owner) {
  const auto found = owners_.find(owner);
  return found == owners_.end() ? nullptr : &found->second;
}

Demand& Demands::add(DemandId id, Demand demand) {
  const auto [added, is_new] = owners_.at(id.owner).shapes.emplace(id.shape, std::move(demand));
  MOBULA_CHECK(is_new);
  return added->second;
}

Demand* Demands::find(DemandId id) {
  Owner* owner = find_owner(id.owner);
  if (owner == nullptr) return nullptr;
  const auto found = owner->shapes.find(id.shape);
  return found == owner->shapes.end() ? nullptr : &found->second;
}

Demand& Demands::at(DemandId id) { return owners_.at(id.owner).shapes.at(id.shape); }
const Demand& Demands::at(DemandId id) const { return owners_.at(id.owner).shapes.at(id.shape); }

void Demands::set_target(DemandId id, uint32_t target) {
  Owner& owner = owners_.at(id.owner);
  Demand& demand = owner.shapes.at(id.shape);
  if (demand.target == 0 && target > 0) ++owner.wanting;
  if (demand.target > 0 && target == 0) --owner.wanting;
  demand.target = target;
  note_waiting(id, demand);
}

void Demands::lease_granted(DemandId id, LeaseId lease, Instant now) {
  Owner& owner = owners_.at(id.owner);
  Demand& demand = owner.shapes.at(id.shape);
  MOBULA_CHECK(demand.leases.insert(lease).second);
  ++owner.leases;
  demand.served = owner.served = jobs_.at(owner.job).served = next_served_++;
  demand.waiting_since = now;
  demand.next_reclaim = now;
  demand.reclaim_delay = Duration(0);
  holding_.insert(id);
  note_waiting(id, demand);
}

void Demands::lease_over(DemandId id, LeaseId lease) {
  Owner& owner = owners_.at(id.owner);
  Demand& demand = owner.shapes.at(id.shape);
  MOBULA_CHECK(demand.leases.erase(lease) == 1);
  --owner.leases;
  if (demand.leases.empty()) holding_.erase(id);
  note_waiting(id, demand);
}

void Demands::change_share(DemandId id, ResourceAmount change) {
  Owner& owner = owners_.at(id.owner);
  owner.shapes.at(id.shape).share += change;
  owner.share += change;
  jobs_.at(owner.job).share += change;
}

ResourceAmount Demands::job_share(JobId job) const { return jobs_.at(job).share; }

Rank Demands::rank(DemandId id, Instant now, Duration patience) const {
  const Owner& owner = owners_.at(id.owner);
  const Job& job = jobs_.at(owner.job);
  const Demand& demand = owner.shapes.at(id.shape);
  Rank rank;
  rank.job_share = job.share;
  rank.job_served = job.served;
  rank.job = owner.job;
  rank.minus_priority = -static_cast<int64_t>(demand.priority);
  const Instant since = demand.waiting_since.value_or(now);
  rank.impatient_since = demand.share == 0 && now - since >= patience ? since : Instant::max();
  rank.owner_share = owner.share;
  rank.owner_is_running = !owner.is_blocked;
  rank.minus_depth = -static_cast<int64_t>(demand.depth);
  rank.owner_served = owner.served;
  rank.share = demand.share;
  rank.served = demand.served;
  rank.id = id;
  return rank;
}

void Demands::note_waiting(DemandId id, Demand& demand) {
  if (demand.is_feasible && demand.target > demand.leases.size()) {
    waiting_.insert(id);
  } else {
    waiting_.erase(id);
    demand.waiting_since.reset();
    demand.reclaim_delay = Duration(0);
  }
}

void Demands::check_invariants() const {
  std::map<JobId, Job> counted;
  size_t waiting = 0;
  size_t holding = 0;
  for (const auto& [id, owner] : owners_) {
    ResourceAmount share = 0;
    size_t leases = 0;
    size_t wanting = 0;
    for (const auto& [shape, demand] : owner.shapes) {
      const bool waits = demand.is_feasible && demand.target > demand.leases.size();
      MOBULA_CHECK(waits == waiting_.contains({id, shape}));
      MOBULA_CHECK(demand.leases.empty() != holding_.contains({id, shape}));
      MOBULA_CHECK(demand.share >= 0 && demand.planned == 0);
      MOBULA_CHECK(demand.is_feasible || demand.leases.empty());
      share += demand.share;
      leases += demand.leases.size();
      wanting += demand.target > 0 ? 1 : 0;
      waiting += waits ? 1 : 0;
      holding += demand.leases.empty() ? 0 : 1;
    }
    MOBULA_CHECK(share == owner.share);
    MOBULA_CHECK(leases == owner.leases);
    MOBULA_CHECK(wanting == owner.wanting);
    ++counted[owner.job].owners;
    counted[owner.job].share += share;
  }
  MOBULA_CHECK(waiting == waiting_.size() && holding == holding_.size());
  MOBULA_CHECK(counted.size() == jobs_.size());
  for (const auto& [id, job] : jobs_) {
    MOBULA_CHECK(job.owners == counted[id].owners && job.share == counted[id].share);
  }
}

}  // namespace mobula::scheduler
