#include "core/scheduler/ledger.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"

namespace mobula::scheduler {

namespace {

bool is_short_of(const Ledger::Pool& pool, const std::string& name, ResourceAmount amount) {
  return name == kGpu ? !pool.gpus.fits(amount) : amount > pool.available.get(name);
}

}  // namespace

Ledger::Ledger(ResourceSet total) : node_{std::move(total), {}, Gpus(0)} {
  const ResourceAmount gpus = node_.total.get(kGpu);
  MOBULA_CHECK(gpus % kResourceUnit == 0);
  node_.available = node_.total;
  node_.gpus = Gpus(static_cast<size_t>(gpus / kResourceUnit));
}

bool Ledger::Pool::fits(const ResourceSet& request) const {
  return available.covers(request) && gpus.fits(request.get(kGpu));
}

Holding Ledger::Pool::take(const ResourceSet& request) {
  MOBULA_CHECK(fits(request));
  available.subtract(request);
  return {request, gpus.take(request.get(kGpu)), {}};
}

Ledger::Pool& Ledger::pool(const BundleId& id) {
  if (id.group == kNoGroup) return node_;
  const auto found = bundles_.find(id);
  return found == bundles_.end() ? node_ : found->second;
}

const Ledger::Pool& Ledger::pool(const BundleId& id) const {
  return const_cast<Ledger*>(this)->pool(id);  // NOLINT: the same search.
}

template <typename Accept>
const BundleId* Ledger::find_bundle(const BundleRef& where, Accept accepts) const {
  const bool any = where.index == kAnyBundle;
  const auto first = static_cast<uint32_t>(any ? 0 : where.index);
  for (auto at = bundles_.lower_bound({where.group, first}); at != bundles_.end(); ++at) {
    const BundleId& id = at->first;
    if (id.group != where.group || (!any && id.index != first)) break;
    if (accepts(at->second)) return &id;
  }
  return nullptr;
}

bool Ledger::fits(const ResourceSet& request, const BundleRef& where) const {
  if (!where.in_group()) return node_.fits(request);
  return find_bundle(where, [&](const Pool& bundle) { return bundle.fits(request); }) != nullptr;
}

bool Ledger::would_help(const Holding& held, const ResourceSet& request,
                        const BundleRef& where) const {
  const bool other_index = where.in_group() && where.index != kAnyBundle &&
                           held.bundle.index != static_cast<uint32_t>(where.index);
  if (held.bundle.group != where.group || other_index) return false;
  const Pool& from = pool(held.bundle);
  if (!from.total.covers(request)) return false;
  return std::ranges::any_of(request.amounts(), [&](const auto& entry) {
    return held.amounts.get(entry.first) > 0 && is_short_of(from, entry.first, entry.second);
  });
}

Holding Ledger::take(const ResourceSet& request, const BundleRef& where) {
  if (!where.in_group()) return node_.take(request);
  const BundleId* found =
      find_bundle(where, [&](const Pool& bundle) { return bundle.fits(request); });
  MOBULA_CHECK(found != nullptr);
  const BundleId id = *found;
  Holding holding = pool(id).take(request);
  holding.bundle = id;
  return holding;
}

Holding Ledger::withhold(const ResourceSet& request, const BundleRef& where) {
  Holding holding;
  if (where.in_group()) {
    const BundleId* found =
        find_bundle(where, [&](const Pool& bundle) { return bundle.total.covers(request); });
    if (found == nullptr) return holding;
    holding.bundle = *found;
  }
  Pool& from = pool(holding.bundle);
  for (const auto& [name, amount] : request.amounts()) {
    if (!is_short_of(from, name, amount)) continue;
    if (name == kGpu) {
      holding.gpus = from.gpus.withhold(amount);
      ResourceAmount withheld = 0;
      for (const GpuShare& share : holding.gpus) withheld += share.amount;
      holding.amounts.set(name, withheld);
    } else {
      holding.amounts.set(name, std::max<ResourceAmount>(from.available.get(name), 0));
    }
  }
  from.available.subtract(holding.amounts);
  return holding;
}

void Ledger::give_back(const Holding& holding) {
  Pool& to = pool(holding.bundle);
  to.available.add(holding.amounts);
  to.gpus.give_back(holding.gpus);
  note_balance(holding.bundle);
}

void Ledger::lend_cpus(const BundleId& from, ResourceAmount amount) {
  Pool& lender = pool(from);
  lender.available.set(kCpu, lender.available.get(kCpu) + amount);
  note_balance(from);
}

void Ledger::take_cpus_again(const BundleId& from, ResourceAmount amount) {
  lend_cpus(from, -amount);
}

bool Ledger::reserve(PlacementGroupId group, std::span<const ResourceSet> bundles) {
  // Whole GPUs first: fractions break into what they leave.
  std::vector<uint32_t> order(bundles.size());
  for (uint32_t index = 0; index < order.size(); ++index) order[index] = index;
  std::ranges::stable_sort(
      order, [&](uint32_t a, uint32_t b) { return bundles[a].get(kGpu) > bundles[b].get(kGpu); });
  std::vector<std::pair<uint32_t, Holding>> taken;
  for (const uint32_t index : order) {
    if (!node_.fits(bundles[index])) {
      for (const auto& [other, holding] : taken) give_back(holding);
      return false;
    }
    taken.emplace_back(index, node_.take(bundles[index]));
  }
  for (const auto& [index, holding] : taken) {
    const Pool made{holding.amounts, holding.amounts, Gpus(node_.gpus.count(), holding.gpus)};
    MOBULA_CHECK(bundles_.emplace(BundleId{group, index}, made).second);
  }
  return true;
}

void Ledger::dissolve(PlacementGroupId group) {
  auto at = bundles_.lower_bound({group, 0});
  while (at != bundles_.end() && at->first.group == group) {
    node_.available.add(at->second.available);
    node_.gpus.give_back(at->second.gpus.all_left());
    overdrawn_.erase(at->first);
    at = bundles_.erase(at);
  }
  note_balance({});
}

// Nobody who takes something may overdraw: only what comes back or is lent changes this.
void Ledger::note_balance(const BundleId& id) {
  const BundleId at = pool_of(id);
  if (pool(at).available.get(kCpu) < 0) {
    overdrawn_.insert(at);
  } else {
    overdrawn_.erase(at);
  }
}

}  // namespace mobula::scheduler
