#include "core/scheduler/groups.h"

#include <algorithm>

#include "base/check.h"
#include "core/scheduler/gpus.h"

namespace mobula::scheduler {

namespace {

bool is_valid(const ResourceSet& bundle) {
  const bool has_negative =
      std::ranges::any_of(bundle.amounts(), [](const auto& entry) { return entry.second < 0; });
  return !bundle.empty() && !has_negative && Gpus::is_valid(bundle.get(kGpu));
}

}  // namespace

Result<PlacementGroupId> PlacementGroups::add(PlacementGroup group, Instant now) {
  if (group.bundles.empty() || group.bundles.size() > options_.bundles_max) {
    return fail(ErrorCode::kInvalidArgument,
                "a placement group has 1 to " + std::to_string(options_.bundles_max) + " bundles");
  }
  for (const ResourceSet& bundle : group.bundles) {
    if (!is_valid(bundle)) {
      return fail(ErrorCode::kInvalidArgument, "no bundle can be {" + bundle.to_string() + "}");
    }
  }
  if (groups_.size() - removed_.size() >= options_.groups_max) {
    return fail(ErrorCode::kRetryLater, "there are " + std::to_string(options_.groups_max) +
                                            " placement groups: that is all there can be");
  }
  const PlacementGroupId id{next_group_};
  if (!group.name.empty() && !names_.try_emplace({group.name_space, group.name}, id).second) {
    return fail(ErrorCode::kInvalidArgument, "name '" + group.name + "' already exists");
  }
  ++next_group_;
  group.state = GroupState::kPending;
  group.created = now;
  group.sum = {};
  for (const ResourceSet& bundle : group.bundles) group.sum.add(bundle);
  groups_.emplace(id, std::move(group));
  pending_.insert(id);
  return id;
}

void PlacementGroups::set_placed(PlacementGroupId id, Instant now) {
  PlacementGroup& group = groups_.at(id);
  MOBULA_CHECK(group.state == GroupState::kPending);
  group.state = GroupState::kPlaced;
  group.placed = now;
  pending_.erase(id);
}

void PlacementGroups::set_removed(PlacementGroupId id) {
  PlacementGroup& group = groups_.at(id);
  MOBULA_CHECK(group.state != GroupState::kRemoved);
  group.state = GroupState::kRemoved;
  pending_.erase(id);
  if (!group.name.empty()) names_.erase({group.name_space, group.name});
  removed_.push_back(id);
  if (removed_.size() <= options_.removed_max) return;
  groups_.erase(removed_.front());
  removed_.pop_front();
}

const PlacementGroup* PlacementGroups::find(PlacementGroupId id) const {
  const auto found = groups_.find(id);
  return found == groups_.end() ? nullptr : &found->second;
}

bool PlacementGroups::is_here(PlacementGroupId id) const {
  const PlacementGroup* group = find(id);
  return group != nullptr && group->state != GroupState::kRemoved;
}

bool PlacementGroups::is_placed(PlacementGroupId id) const {
  const PlacementGroup* group = find(id);
  return group != nullptr && group->state == GroupState::kPlaced;
}

bool PlacementGroups::could_ever_fit(const BundleRef& where, const ResourceSet& request) const {
  const PlacementGroup* group = find(where.group);
  if (group == nullptr) return true;
  if (where.index == kAnyBundle) {
    return std::ranges::any_of(group->bundles,
                               [&](const ResourceSet& bundle) { return bundle.covers(request); });
  }
  const auto index = static_cast<size_t>(where.index);
  return where.index >= 0 && index < group->bundles.size() && group->bundles[index].covers(request);
}

std::vector<PlacementGroupId> PlacementGroups::of_job(JobId job) const {
  std::vector<PlacementGroupId> ids;
  for (const auto& [id, group] : groups_) {
    const bool is_over = group.state == GroupState::kRemoved;
    if (group.job == job && !group.detached && !is_over) ids.push_back(id);
  }
  return ids;
}

void PlacementGroups::check_invariants() const {
  size_t pending = 0;
  size_t removed = 0;
  size_t names = 0;
  for (const auto& [id, group] : groups_) {
    pending += group.state == GroupState::kPending ? 1 : 0;
    MOBULA_CHECK(pending_.contains(id) == (group.state == GroupState::kPending));
    if (group.state == GroupState::kRemoved) {
      ++removed;
    } else if (!group.name.empty()) {
      MOBULA_CHECK(names_.at(std::pair(group.name_space, group.name)) == id);
      ++names;
    }
  }
  MOBULA_CHECK(pending == pending_.size() && removed == removed_.size());
  MOBULA_CHECK(names == names_.size() && removed <= options_.removed_max);
}

}  // namespace mobula::scheduler
