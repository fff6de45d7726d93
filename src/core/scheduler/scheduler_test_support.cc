#include "core/scheduler/scheduler_test_support.h"

#include <utility>

#include "base/check.h"

namespace mobula::scheduler::testing_support {

ResourceSet resources(ResourceAmount cpus, ResourceAmount gpus, ResourceAmount custom) {
  ResourceSet set;
  set.set(kCpu, cpus);
  set.set(kGpu, gpus);
  set.set("custom", custom);
  return set;
}

namespace {

NodeScheduler::Options options_of(ResourceSet total) {
  NodeScheduler::Options options;
  options.total = std::move(total);
  return options;
}

}  // namespace

SchedulerHarness::SchedulerHarness(ResourceSet total, bool starts_workers)
    : SchedulerHarness(options_of(std::move(total)), starts_workers) {}

SchedulerHarness::SchedulerHarness(NodeScheduler::Options options, bool starts_workers)
    : scheduler(std::move(options)), starts_workers_(starts_workers) {}

ProcessId SchedulerHarness::add_driver(uint32_t job) {
  const ProcessId driver = scheduler.new_process();
  scheduler.add_driver(driver, JobId{job});
  return driver;
}

ShapeId SchedulerHarness::shape_id(ProcessId owner, const ResourceSet& shape, uint32_t depth) {
  auto& shapes = shapes_[owner];
  for (uint32_t index = 0; index < shapes.size(); ++index) {
    if (shapes[index] == std::pair(shape, depth)) return ShapeId{index + 1};
  }
  shapes.emplace_back(shape, depth);
  const ShapeId id{static_cast<uint32_t>(shapes.size())};
  MOBULA_CHECK(scheduler.define_shape(owner, id, shape, depth).has_value());
  return id;
}

void SchedulerHarness::want(ProcessId owner, const ResourceSet& shape, uint32_t target,
                            uint32_t depth) {
  const ShapeId id = shape_id(owner, shape, depth);
  MOBULA_CHECK(scheduler.set_target(owner, id, target).has_value());
}

void SchedulerHarness::give_back(LeaseId lease) {
  MOBULA_CHECK(scheduler.lease_returned(grants.at(lease).owner, lease, now).has_value());
  grants.erase(lease);
}

void SchedulerHarness::block(ProcessId worker) {
  MOBULA_CHECK(scheduler.process_blocked(worker).has_value());
}

void SchedulerHarness::unblock(ProcessId worker) {
  MOBULA_CHECK(scheduler.process_unblocked(worker).has_value());
}

void SchedulerHarness::exit(ProcessId process) {
  MOBULA_CHECK(scheduler.process_exited(process, now).has_value());
  workers.erase(process);
  std::erase_if(grants, [&](const auto& entry) {
    return entry.second.worker == process || entry.second.owner == process;
  });
}

void SchedulerHarness::settle() {
  bool is_settled = false;
  while (!is_settled) {
    is_settled = true;
    Effects fresh;
    scheduler.schedule(now, fresh);
    scheduler.check_invariants();
    if (const auto deadline = scheduler.next_deadline()) MOBULA_CHECK(*deadline > now);
    for (Effect& effect : fresh) {
      if (const auto* granted = std::get_if<GrantLease>(&effect)) {
        grants[granted->lease] = *granted;
      }
      const auto* start = std::get_if<StartWorker>(&effect);
      if (start == nullptr || !starts_workers_) {
        effects.push_back(std::move(effect));
        continue;
      }
      MOBULA_CHECK(scheduler.worker_ready(start->worker, now).has_value());
      workers.insert(start->worker);
      is_settled = false;
    }
  }
}

void SchedulerHarness::pass_time(Duration for_how_long) {
  const Instant until = now + for_how_long;
  settle();
  while (scheduler.next_deadline() && *scheduler.next_deadline() <= until) {
    now = *scheduler.next_deadline();
    settle();
  }
  now = until;
  settle();
}

std::vector<LeaseId> SchedulerHarness::held(ProcessId owner) const {
  std::vector<LeaseId> leases;
  for (const auto& [id, granted] : grants) {
    if (granted.owner == owner) leases.push_back(id);
  }
  return leases;
}

std::vector<LeaseId> SchedulerHarness::held(ProcessId owner, const ResourceSet& shape,
                                            uint32_t depth) const {
  std::vector<LeaseId> leases;
  const auto& shapes = shapes_.at(owner);
  for (const auto& [id, granted] : grants) {
    if (granted.owner != owner) continue;
    if (shapes.at(number(granted.shape) - 1) == std::pair(shape, depth)) leases.push_back(id);
  }
  return leases;
}

}  // namespace mobula::scheduler::testing_support
