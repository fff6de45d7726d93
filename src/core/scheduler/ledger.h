#pragma once
// Ledger keeps the node's resources: what there is, what is left, and who got which GPU.
//
// What the bundles of placement groups reserve is taken from the node, and what runs in a bundle takes
// from the bundle. A group that is dissolved gives the node what its bundles have left; what is held
// of them then comes back to the node.
//
// Of the node and of each bundle: available + everything held == total, always. CPUs alone can be
// overdrawn: a worker that wakes takes its own again whether or not they are left. overdrawn() says
// where they are, so that nobody has to look through all bundles.
//
// Threads: none; a value.

#include <compare>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/bundle.h"
#include "base/resources.h"
#include "core/scheduler/gpus.h"

namespace mobula::scheduler {

struct BundleId {
  PlacementGroupId group = kNoGroup;  // kNoGroup: the node itself.
  uint32_t index = 0;
  auto operator<=>(const BundleId&) const = default;
};

struct Holding {
  ResourceSet amounts;
  std::vector<GpuShare> gpus;
  BundleId bundle{};
};

class Ledger {
 public:
  struct Pool {
    ResourceSet total;
    ResourceSet available;
    Gpus gpus;

    bool fits(const ResourceSet& request) const;
    Holding take(const ResourceSet& request);
  };

  // A whole number of GPUs.
  explicit Ledger(ResourceSet total);

  // Of the node.
  bool could_ever_fit(const ResourceSet& request) const { return node_.total.covers(request); }
  bool fits(const ResourceSet& request, const BundleRef& where = {}) const;
  // True if `request` lacks something there that giving up `held` would add to.
  bool would_help(const Holding& held, const ResourceSet& request,
                  const BundleRef& where = {}) const;

  // It must fit. In a group, from the first bundle in which it does.
  Holding take(const ResourceSet& request, const BundleRef& where = {});
  // Takes of `request`, which does not fit, what it is short of, as far as that is there.
  Holding withhold(const ResourceSet& request, const BundleRef& where = {});
  void give_back(const Holding& holding);

  void lend_cpus(const BundleId& from, ResourceAmount amount);
  void take_cpus_again(const BundleId& from, ResourceAmount amount);

  // Takes all of these from the node, or nothing: false.
  bool reserve(PlacementGroupId group, std::span<const ResourceSet> bundles);
  void dissolve(PlacementGroupId group);

  const ResourceSet& total() const { return node_.total; }
  // Of the node, outside of bundles.
  const ResourceSet& available() const { return node_.available; }
  const Gpus& gpus() const { return node_.gpus; }
  const std::map<BundleId, Pool>& bundles() const { return bundles_; }
  // Bundles whose CPUs are overdrawn; BundleId{} is the node.
  const std::set<BundleId>& overdrawn() const { return overdrawn_; }
  // From whose pool this is taken: of a bundle that is not there any more, the node.
  BundleId pool_of(const BundleId& id) const { return bundles_.contains(id) ? id : BundleId{}; }

 private:
  // Of a bundle that is not there any more: the node's.
  Pool& pool(const BundleId& id);
  const Pool& pool(const BundleId& id) const;
  // The first in which `accepts(pool)`, or none.
  template <typename Accept>
  const BundleId* find_bundle(const BundleRef& where, Accept accepts) const;

  void note_balance(const BundleId& id);

  Pool node_;
  std::map<BundleId, Pool> bundles_;
  std::set<BundleId> overdrawn_;
};

}  // namespace mobula::scheduler
