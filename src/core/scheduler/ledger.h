#pragma once
// Ledger keeps the node's resources: what there is, what is left, and who got which GPU.
//
// available + everything held == total, always. CPUs alone can be overdrawn: a worker that wakes
// takes its own again whether or not they are left.
//
// Threads: none; a value.

#include <string>
#include <vector>

#include "base/resources.h"
#include "core/scheduler/gpus.h"

namespace mobula::scheduler {

struct Holding {
  ResourceSet amounts;
  std::vector<GpuShare> gpus;
};

class Ledger {
 public:
  // A whole number of GPUs.
  explicit Ledger(ResourceSet total);

  bool could_ever_fit(const ResourceSet& request) const { return total_.covers(request); }
  bool fits(const ResourceSet& request) const;
  // True if `request` lacks something that giving up `held` would add to.
  bool would_help(const ResourceSet& held, const ResourceSet& request) const;

  // It must fit.
  Holding take(const ResourceSet& request);
  // Takes of `request`, which does not fit, what it is short of, as far as that is there.
  Holding withhold(const ResourceSet& request);
  void give_back(const Holding& holding);

  void lend_cpus(ResourceAmount amount);
  void take_cpus_again(ResourceAmount amount);

  const ResourceSet& total() const { return total_; }
  const ResourceSet& available() const { return available_; }
  const Gpus& gpus() const { return gpus_; }

 private:
  const ResourceSet total_;
  ResourceSet available_;
  Gpus gpus_;
};

}  // namespace mobula::scheduler
