// NodeScheduler: placement groups.

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/scheduler/pass.h"

namespace mobula::scheduler {

Result<PlacementGroupId> NodeScheduler::add_group(PlacementGroup group, Instant now) {
  const bool needs_nodes =
      group.strategy == GroupStrategy::kStrictSpread && group.bundles.size() > 1;
  const Result<PlacementGroupId> id = groups_.add(std::move(group), now);
  MOBULA_TRY(id);
  PlacementGroup& added = groups_.at(*id);
  added.is_feasible = added.is_feasible && !needs_nodes && ledger_.could_ever_fit(added.sum) &&
                      Ledger(options_.total).reserve(*id, added.bundles);
  return *id;
}

Result<void> NodeScheduler::remove_group(PlacementGroupId id) {
  if (!groups_.is_here(id)) {
    return fail(ErrorCode::kNotFound, "no placement group " + std::to_string(number(id)));
  }
  for (const auto& [lease_id, lease] : leases_.all()) {
    if (lease.holding.bundle.group != id) continue;
    pool_.stop(lease.worker, StopReason::kGroupRemoved, pool_effects_);
  }
  ledger_.dissolve(id);
  groups_.set_removed(id);
  removed_groups_.push_back(id);
  ++changes_;
  return {};
}

std::string NodeScheduler::describe_bundles(const BundleRef& where) const {
  const PlacementGroup* group = groups_.find(where.group);
  if (group == nullptr) return "its placement group is gone";
  const auto index = static_cast<size_t>(where.index);
  if (where.index != kAnyBundle) {
    if (index >= group->bundles.size()) return "its placement group has no such bundle";
    return "bundle " + std::to_string(where.index) + " of its placement group has {" +
           group->bundles[index].to_string() + "} in all: it can never run there";
  }
  constexpr size_t kNamedMax = 8;
  std::string text;
  for (size_t i = 0; i < std::min(group->bundles.size(), kNamedMax); ++i) {
    text += (i > 0 ? ", {" : "{") + group->bundles[i].to_string() + "}";
  }
  if (group->bundles.size() > kNamedMax) text += ", ...";
  return "the bundles of its placement group are " + text + ": it can never run there";
}

// The oldest that could be placed has room made for it; others go first if they fit meanwhile.
void NodeScheduler::Pass::place_groups() {
  for (const PlacementGroupId id : std::exchange(s_.removed_groups_, {})) {
    effects_.emplace_back(GroupChanged{id});
  }
  bool is_first = true;
  const std::set<PlacementGroupId> pending = s_.groups_.pending();
  for (const PlacementGroupId id : pending) {
    PlacementGroup& group = s_.groups_.at(id);
    if (!group.is_feasible) continue;
    const bool fits = s_.ledger_.available().covers(group.sum);
    if (fits && s_.ledger_.reserve(id, group.bundles)) {
      s_.groups_.set_placed(id, now_);
      ++s_.changes_;
      effects_.emplace_back(GroupChanged{id});
    } else if (std::exchange(is_first, false)) {
      make_room_for(group);
    }
  }
}

void NodeScheduler::Pass::make_room_for(PlacementGroup& group) {
  const Ledger& ledger = s_.ledger_;
  const Instant patient_until = group.created + s_.options_.patience;
  const bool is_impatient = now_ >= patient_until;
  // Leases that are asked back already count as free, until patience ends: they may be slow.
  ResourceSet coming;
  if (!is_impatient) {
    for (const auto& [id, lease] : s_.leases_.all()) {
      const bool of_node = lease.holding.bundle.group == kNoGroup;
      if (lease.is_reclaimed && !lease.is_blocked && of_node) coming.add(lease.holding.amounts);
    }
  }
  ResourceSet missing;
  for (const auto& [name, amount] : group.sum.amounts()) {
    const ResourceAmount lacks = amount - ledger.available().get(name) - coming.get(name);
    if (lacks > 0) missing.set(name, lacks);
  }
  if (ledger.available().covers(group.sum)) missing.set(kGpu, group.sum.get(kGpu));  // In pieces.
  while (!missing.empty() && now_ >= group.next_reclaim && searches_ < kSearchesMax) {
    ++searches_;
    const Reclaims::Choice choice = reclaims_.choose_for_group(missing, now_);
    if (!choice.victim) {
      group.next_reclaim =
          std::max(choice.retry_at.value_or(now_), now_) + s_.options_.reclaim_delay;
      break;
    }
    reclaim(*choice.victim);
    const ResourceSet& held = s_.leases_.at(*choice.victim).holding.amounts;
    for (const auto& [name, amount] : held.amounts()) {
      if (missing.get(name) > 0) {
        missing.set(name, std::max<ResourceAmount>(missing.get(name) - amount, 0));
      }
    }
    if (missing.empty()) group.next_reclaim = now_ + s_.options_.reclaim_delay_max;
  }
  if (!missing.empty() || is_impatient) {
    wake_at(std::max(group.next_reclaim, now_ + s_.options_.reclaim_delay));
  }
  if (is_impatient) {
    withheld_[kNoGroup] = s_.ledger_.withhold(group.sum);
  } else {
    wake_at(patient_until);
  }
}

// Who waits in a group that was removed is told, and waits no more.
void NodeScheduler::Pass::tell_gone_groups() {
  std::vector<DemandId> gone;
  for (const DemandId id : s_.demands_.waiting()) {
    const BundleRef& where = s_.demands_.at(id).bundle;
    if (where.in_group() && !s_.groups_.is_here(where.group)) gone.push_back(id);
  }
  for (const DemandId id : gone) {
    s_.demands_.set_target(id, static_cast<uint32_t>(s_.demands_.at(id).leases.size()));
    s_.note_needed(id.owner);
    ++s_.changes_;
    effects_.emplace_back(GroupGone{id});
  }
}

}  // namespace mobula::scheduler
