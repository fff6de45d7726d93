#pragma once
// PlacementGroups is the table of placement groups: what each reserves, who waits for resources, which
// names are taken. What the bundles have left is in the Ledger.
//
//   pending ──placed──► placed ──► removed (also from pending) ──removed_max later ones──► forgotten
//
// Threads: none. Time: only from the `now` arguments.
// Limits:  Options.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/bundle.h"
#include "base/resources.h"
#include "base/result.h"
#include "base/time.h"

namespace mobula::scheduler {

// On one node all but the last mean the same.
enum class GroupStrategy : uint8_t { kPack, kSpread, kStrictPack, kStrictSpread };
enum class GroupState : uint8_t { kPending, kPlaced, kRemoved };

struct PlacementGroup {
  JobId job{};            // It ends with it,
  bool detached = false;  // unless it is detached.
  std::string name;       // Empty: none.
  std::string name_space;
  GroupStrategy strategy = GroupStrategy::kPack;
  std::vector<ResourceSet> bundles;
  bool is_feasible = true;  // False: this node can never hold it, so it stays pending.

  // The table's own.
  GroupState state = GroupState::kPending;
  ResourceSet sum{};
  Instant created{};
  Instant placed{};
  Instant next_reclaim{0};
};

class PlacementGroups {
 public:
  struct Options {
    size_t groups_max = 10'000;
    size_t bundles_max = 10'000;  // Of one.
    size_t removed_max = 1'000;   // That are remembered.
  };
  explicit PlacementGroups(Options options) : options_(options) {}

  // kInvalidArgument: the name is taken, no bundles or too many. kRetryLater: too many groups.
  Result<PlacementGroupId> add(PlacementGroup group, Instant now);
  void set_placed(PlacementGroupId id, Instant now);
  void set_removed(PlacementGroupId id);

  // nullptr: there never was one, or it is forgotten.
  const PlacementGroup* find(PlacementGroupId id) const;
  PlacementGroup& at(PlacementGroupId id) { return groups_.at(id); }
  // There is one, and it was not removed.
  bool is_here(PlacementGroupId id) const;
  bool is_placed(PlacementGroupId id) const;
  // Is there a bundle, at the place meant, that could ever hold the request? Of a group that is not
  // here: true.
  bool could_ever_fit(const BundleRef& where, const ResourceSet& request) const;
  // In the order in which they were made.
  const std::set<PlacementGroupId>& pending() const { return pending_; }
  // Those that end with the job.
  std::vector<PlacementGroupId> of_job(JobId job) const;

  const std::map<PlacementGroupId, PlacementGroup>& all() const { return groups_; }
  void check_invariants() const;

 private:
  const Options options_;
  uint64_t next_group_ = 1;
  std::map<PlacementGroupId, PlacementGroup> groups_;
  std::set<PlacementGroupId> pending_;
  std::map<std::pair<std::string, std::string>, PlacementGroupId> names_;  // (namespace, name)
  std::deque<PlacementGroupId> removed_;
};

}  // namespace mobula::scheduler
