#include <map>

#include "base/check.h"
#include "core/scheduler/scheduler.h"

namespace mobula::scheduler {

namespace {

// What is available and what leases hold is what there is, in amounts and GPU by GPU.
void check_ledger(const Ledger& ledger, const Leases& leases) {
  ResourceSet balance = ledger.available();
  std::map<uint32_t, ResourceAmount> gpu_used;
  for (const auto& [id, lease] : leases.all()) {
    balance.add(lease.holding.amounts);
    if (lease.is_blocked) balance.set(kCpu, balance.get(kCpu) - lease.cpus);
    ResourceAmount on_gpus = 0;
    for (const GpuShare& share : lease.holding.gpus) {
      gpu_used[share.index] += share.amount;
      on_gpus += share.amount;
    }
    MOBULA_CHECK(on_gpus == lease.holding.amounts.get(kGpu));
    MOBULA_CHECK(lease.cpus == (lease.is_for_life ? 0 : lease.holding.amounts.get(kCpu)));
  }
  MOBULA_CHECK(balance == ledger.total());
  for (const auto& [name, amount] : ledger.available().amounts()) {
    MOBULA_CHECK(amount >= 0 || name == kCpu);
  }
  const Gpus& gpus = ledger.gpus();
  for (uint32_t index = 0; index < gpus.count(); ++index) {
    MOBULA_CHECK(gpus.left(index) >= 0);
    MOBULA_CHECK(gpus.left(index) + gpu_used[index] == kResourceUnit);
  }
  MOBULA_CHECK(gpu_used.size() == gpus.count());
}

// Demands and caps count the leases that there are.
void check_counts(const Demands& demands, const Caps& caps, const Leases& leases) {
  std::map<DemandId, ResourceAmount> shares;
  std::map<ClassId, uint32_t> in_use;
  std::map<DemandId, size_t> held;
  for (const auto& [id, lease] : leases.all()) {
    if (!lease.is_for_life) ++in_use[lease.cap_class];
    if (lease.is_orphan) continue;
    MOBULA_CHECK(demands.at(lease.demand).leases.contains(id));
    shares[lease.demand] += lease.share_now();
    ++held[lease.demand];
  }
  for (const auto& [owner_id, owner] : demands.owners()) {
    for (const auto& [shape, demand] : owner.shapes) {
      const DemandId id{owner_id, shape};
      MOBULA_CHECK(demand.leases.size() == held[id]);
      MOBULA_CHECK(demand.share == shares[id]);
      MOBULA_CHECK(caps.in_use(demand.cap_class) == in_use[demand.cap_class]);
    }
  }
}

}  // namespace

void NodeScheduler::check_invariants() const {
  pool_.check_invariants();
  environments_.check_invariants();
  caps_.check_invariants();
  demands_.check_invariants();
  leases_.check_invariants();
  check_ledger(ledger_, leases_);
  check_counts(demands_, caps_, leases_);
  for (const auto& [id, lease] : leases_.all()) MOBULA_CHECK(pool_.holds_lease(lease.worker));
  for (const auto& [id, owner] : demands_.owners()) {
    MOBULA_CHECK(processes_.contains(id));
    MOBULA_CHECK(jobs_.contains(owner.job));
    const auto lease = leases_.id_of_worker(id);
    MOBULA_CHECK(owner.is_blocked == (lease && leases_.at(*lease).is_blocked));
  }
}

}  // namespace mobula::scheduler
