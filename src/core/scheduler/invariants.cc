#include <map>

#include "base/check.h"
#include "core/scheduler/scheduler.h"

namespace mobula::scheduler {

namespace {

// What leases have of the node, or of a bundle.
struct Held {
  ResourceSet amounts;  // Less what is lent.
  std::map<uint32_t, ResourceAmount> gpus;
};

void check_pool(const Ledger::Pool& pool, Held held) {
  held.amounts.add(pool.available);
  MOBULA_CHECK(held.amounts == pool.total);
  for (const auto& [name, amount] : pool.available.amounts()) {
    MOBULA_CHECK(amount >= 0 || name == kCpu);
  }
}

// What is available and what leases hold is what there is, in amounts and GPU by GPU.
void check_ledger(const Ledger& ledger, const Leases& leases) {
  std::map<BundleId, Held> held;
  for (const auto& [id, lease] : leases.all()) {
    const bool of_bundle = ledger.bundles().contains(lease.holding.bundle);
    Held& its = held[of_bundle ? lease.holding.bundle : BundleId{}];
    its.amounts.add(lease.holding.amounts);
    if (lease.is_blocked) its.amounts.set(kCpu, its.amounts.get(kCpu) - lease.cpus);
    ResourceAmount on_gpus = 0;
    for (const GpuShare& share : lease.holding.gpus) {
      its.gpus[share.index] += share.amount;
      on_gpus += share.amount;
    }
    MOBULA_CHECK(on_gpus == lease.holding.amounts.get(kGpu));
    MOBULA_CHECK(lease.cpus == (lease.is_for_life ? 0 : lease.holding.amounts.get(kCpu)));
  }
  Held& of_node = held[BundleId{}];
  size_t overdrawn = ledger.overdrawn().contains(BundleId{}) ? 1 : 0;
  MOBULA_CHECK((ledger.available().get(kCpu) < 0) == (overdrawn == 1));
  for (const auto& [id, bundle] : ledger.bundles()) {
    const bool is_overdrawn = bundle.available.get(kCpu) < 0;
    MOBULA_CHECK(ledger.overdrawn().contains(id) == is_overdrawn);
    overdrawn += is_overdrawn ? 1 : 0;
    check_pool(bundle, held[id]);
    of_node.amounts.add(bundle.total);
    ResourceAmount on_gpus = 0;
    for (uint32_t index = 0; index < bundle.gpus.count(); ++index) {
      MOBULA_CHECK(bundle.gpus.left(index) >= 0);
      const ResourceAmount reserved = bundle.gpus.left(index) + held[id].gpus[index];
      of_node.gpus[index] += reserved;
      on_gpus += reserved;
    }
    MOBULA_CHECK(on_gpus == bundle.total.get(kGpu));
  }
  MOBULA_CHECK(ledger.overdrawn().size() == overdrawn);
  check_pool({ledger.total(), ledger.available(), ledger.gpus()}, of_node);
  const Gpus& gpus = ledger.gpus();
  for (uint32_t index = 0; index < gpus.count(); ++index) {
    MOBULA_CHECK(gpus.left(index) >= 0);
    MOBULA_CHECK(gpus.left(index) + of_node.gpus[index] == kResourceUnit);
  }
  MOBULA_CHECK(of_node.gpus.size() == gpus.count());
}

// Those that are placed have their bundles in the ledger, and nobody else.
void check_groups(const PlacementGroups& groups, const Ledger& ledger) {
  size_t bundles = 0;
  for (const auto& [id, group] : groups.all()) {
    if (group.state != GroupState::kPlaced) continue;
    bundles += group.bundles.size();
    for (uint32_t index = 0; index < group.bundles.size(); ++index) {
      MOBULA_CHECK(ledger.bundles().at({id, index}).total == group.bundles[index]);
    }
  }
  MOBULA_CHECK(bundles == ledger.bundles().size());
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
  groups_.check_invariants();
  check_ledger(ledger_, leases_);
  check_groups(groups_, ledger_);
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
