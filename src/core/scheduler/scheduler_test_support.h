#pragma once
// SchedulerHarness plays the shell for tests: it starts workers at once (unless told not to) and
// remembers who holds which lease, so that tests can speak of owners and shapes alone.

#include <map>
#include <set>
#include <string_view>
#include <vector>

#include "core/scheduler/scheduler.h"

namespace mobula::scheduler::testing_support {

ResourceSet resources(ResourceAmount cpus, ResourceAmount gpus = 0, ResourceAmount custom = 0);
constexpr ResourceAmount units(ResourceAmount count) { return count * kResourceUnit; }

template <typename T>
std::vector<T> take(Effects& effects) {
  std::vector<T> taken;
  std::erase_if(effects, [&](const Effect& effect) {
    const T* match = std::get_if<T>(&effect);
    if (match) taken.push_back(*match);
    return match != nullptr;
  });
  return taken;
}

class SchedulerHarness {
 public:
  explicit SchedulerHarness(ResourceSet total, bool starts_workers = true);
  explicit SchedulerHarness(NodeScheduler::Options options, bool starts_workers = true);

  ProcessId add_driver(uint32_t job);
  // Defines the shape on first use: its number is made of its resources and depth.
  void want(ProcessId owner, const ResourceSet& shape, uint32_t target, uint32_t depth = 1);
  void give_back(LeaseId lease);
  void block(ProcessId worker);
  void unblock(ProcessId worker);
  void exit(ProcessId process);

  // Schedules, starts workers and schedules again, until nothing happens. Everything but the
  // StartWorkers that it carried out is left in `effects`.
  void settle();
  // The same at now + `step`, and then at every deadline up to `for_how_long`.
  void pass_time(Duration for_how_long);

  // The leases the owner holds, in order of granting.
  std::vector<LeaseId> held(ProcessId owner) const;
  std::vector<LeaseId> held(ProcessId owner, const ResourceSet& shape, uint32_t depth = 1) const;
  const GrantLease& grant(LeaseId lease) const { return grants.at(lease); }

  NodeScheduler scheduler;
  Instant now = std::chrono::seconds(1);
  Effects effects;
  std::map<LeaseId, GrantLease> grants;  // In force.
  std::set<ProcessId> workers;           // Registered and not gone.

 private:
  ShapeId shape_id(ProcessId owner, const ResourceSet& shape, uint32_t depth);

  const bool starts_workers_;
  std::map<ProcessId, std::vector<std::pair<ResourceSet, uint32_t>>> shapes_;
};

}  // namespace mobula::scheduler::testing_support
