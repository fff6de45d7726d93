#include "core/scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mobula::scheduler {

namespace {

workers::WorkerPool::Options pool_options(const NodeScheduler::Options& options) {
  workers::WorkerPool::Options pool = options.pool;
  pool.keep_idle = whole_cpus(options.total);
  return pool;
}

Error no_process(ProcessId id) {
  return {ErrorCode::kNotFound,
          "process " + std::to_string(number(id)) + " is not known here, or its job has ended"};
}

}  // namespace

uint32_t whole_cpus(const ResourceSet& resources) {
  const ResourceAmount cpus = resources.get(kCpu) / kResourceUnit;
  return static_cast<uint32_t>(std::clamp<ResourceAmount>(cpus, 1, UINT32_MAX));
}

NodeScheduler::NodeScheduler(Options options)
    : options_(std::move(options)),
      ledger_(options_.total),
      caps_(options_.caps, options_.total.get(kCpu)),
      groups_(options_.groups),
      pool_(pool_options(options_)),
      environments_(options_.environments) {}

ProcessId NodeScheduler::new_process() { return ProcessId{next_process_++}; }

void NodeScheduler::add_job(JobId job, const Environments::Needs& own) {
  MOBULA_CHECK(jobs_.insert(job).second);
  environments_.add({job, kJobEnvironment}, own);
  pool_.add_job(job);
}

void NodeScheduler::add_driver(ProcessId driver, JobId job, const Environments::Needs& own) {
  add_job(job, own);
  MOBULA_CHECK(processes_.insert(driver).second);
  demands_.add_owner(driver, job, OwnerKind::kDriver);
  prestart_wanted_[job] = std::min(whole_cpus(options_.total), options_.prestart_max);
}

Result<void> NodeScheduler::job_ended(JobId job) {
  if (jobs_.erase(job) == 0) {
    return fail(ErrorCode::kNotFound, "no job " + std::to_string(number(job)));
  }
  std::vector<ProcessId> owners;
  for (const auto& [id, owner] : demands_.owners()) {
    if (owner.job == job) owners.push_back(id);
  }
  pool_.end_job(job, pool_effects_);
  for (const ProcessId owner : owners) close_owner(owner);
  for (const PlacementGroupId group : groups_.of_job(job)) static_cast<void>(remove_group(group));
  prestart_wanted_.erase(job);
  environments_.end_job(job);
  next_environment_.erase(job);
  return {};
}

Result<void> NodeScheduler::worker_ready(ProcessId worker, Instant now) {
  const Result<bool> ready = pool_.ready(worker, now);
  if (!ready) return tl::unexpected<Error>(ready.error());
  processes_.insert(worker);
  // One that is being stopped owns nothing and gets nothing.
  if (*ready) demands_.add_owner(worker, pool_.job_of(worker), OwnerKind::kWorker);
  return {};
}

Result<void> NodeScheduler::process_exited(ProcessId process, Instant now) {
  const bool is_worker = pool_.knows(process);
  if (!is_worker && !processes_.contains(process)) {
    return tl::unexpected<Error>(no_process(process));
  }
  if (const std::optional<LeaseId> lease = leases_.id_of_worker(process)) end_lease(*lease);
  close_owner(process);
  processes_.erase(process);
  if (is_worker) MOBULA_TRY(pool_.exited(process, now, pool_effects_));
  return {};
}

Result<void> NodeScheduler::define_shape(ProcessId owner, ShapeId shape,
                                         const ResourceSet& resources, uint32_t depth,
                                         const Manner& manner) {
  const Demands::Owner* known = demands_.find_owner(owner);
  if (known == nullptr) return tl::unexpected<Error>(no_process(owner));
  std::optional<EnvironmentId> environment = manner.environment;
  if (!environment) {
    environment = environment_of(owner);
  } else if (!environments_.knows({known->job, *environment})) {
    return fail(ErrorCode::kNotFound, "no such runtime environment");
  }
  if (const Demand* defined = demands_.find({owner, shape})) {
    if (defined->resources == resources && defined->depth == depth &&
        defined->priority == manner.priority && defined->environment == *environment &&
        defined->bundle == manner.bundle) {
      return {};
    }
    return fail(ErrorCode::kInvalidArgument, "shape " + std::to_string(number(shape)) +
                                                 " is defined already, as {" +
                                                 defined->resources.to_string() + "}");
  }
  MOBULA_TRY(check_request(*known, resources));
  Demand demand;
  demand.resources = resources;
  demand.depth = depth;
  demand.priority = manner.priority;
  demand.environment = *environment;
  demand.bundle = manner.bundle;
  demand.cap_class = caps_.join(known->job, resources, depth, manner.bundle.group);
  demand.is_feasible = could_ever_fit(demand.bundle, resources);
  demands_.add({owner, shape}, std::move(demand));
  return {};
}

bool NodeScheduler::could_ever_fit(const BundleRef& bundle, const ResourceSet& resources) const {
  return bundle.in_group() ? groups_.could_ever_fit(bundle, resources)
                           : ledger_.could_ever_fit(resources);
}

Result<void> NodeScheduler::check_request(const Demands::Owner& owner,
                                          const ResourceSet& resources) const {
  if (owner.shapes.size() >= options_.shapes_max) {
    return fail(ErrorCode::kInvalidArgument,
                "more than " + std::to_string(options_.shapes_max) + " shapes");
  }
  const bool has_negative =
      std::ranges::any_of(resources.amounts(), [](const auto& entry) { return entry.second < 0; });
  if (has_negative || !Gpus::is_valid(resources.get(kGpu))) {
    return fail(ErrorCode::kInvalidArgument, "no task can ask for {" + resources.to_string() + "}");
  }
  return {};
}

Result<void> NodeScheduler::set_target(ProcessId owner, ShapeId shape, uint32_t target) {
  const DemandId id{owner, shape};
  Demand* demand = demands_.find(id);
  if (demand == nullptr) {
    if (demands_.find_owner(owner) == nullptr) return tl::unexpected<Error>(no_process(owner));
    return fail(ErrorCode::kNotFound, "shape " + std::to_string(number(shape)) +
                                          " was not defined by process " +
                                          std::to_string(number(owner)));
  }
  demands_.set_target(id, target);
  ++changes_;
  if (target > 0 && !demand->is_feasible && !std::exchange(demand->is_warned, true)) {
    infeasible_.push_back(id);
  }
  note_needed(owner);
  return {};
}

Result<void> NodeScheduler::lease_returned(ProcessId owner, LeaseId id, Instant now) {
  const Lease* lease = leases_.find(id);
  if (lease == nullptr || lease->is_orphan || lease->demand.owner != owner) {
    return fail(ErrorCode::kNotFound, "process " + std::to_string(number(owner)) +
                                          " has no lease " + std::to_string(number(id)));
  }
  const ProcessId worker = lease->worker;
  end_lease(id);
  pool_.release(worker, now);
  return {};
}

Result<void> NodeScheduler::process_blocked(ProcessId process) {
  if (!processes_.contains(process)) return tl::unexpected<Error>(no_process(process));
  set_blocked(process, true);
  return {};
}

Result<void> NodeScheduler::process_unblocked(ProcessId process) {
  if (!processes_.contains(process)) return tl::unexpected<Error>(no_process(process));
  set_blocked(process, false);
  return {};
}

void NodeScheduler::set_blocked(ProcessId process, bool is_blocked) {
  Lease* lease = leases_.of_worker(process);
  if (lease == nullptr || lease->is_blocked == is_blocked) return;
  ++changes_;
  const ResourceAmount share_before = lease->share_now();
  lease->is_blocked = is_blocked;
  if (is_blocked) {
    ledger_.lend_cpus(lease->holding.bundle, lease->cpus);
  } else {
    ledger_.take_cpus_again(lease->holding.bundle, lease->cpus);
  }
  if (!lease->is_orphan) {
    demands_.change_share(lease->demand, lease->share_now() - share_before);
  }
  if (Demands::Owner* owner = demands_.find_owner(process)) owner->is_blocked = is_blocked;
}

void NodeScheduler::end_lease(LeaseId id) {
  set_blocked(leases_.at(id).worker, false);
  const Lease lease = leases_.at(id);
  leases_.remove(id);
  ++changes_;
  ledger_.give_back(lease.holding);
  if (!lease.is_for_life) caps_.lease_ends(lease.cap_class);
  if (lease.is_orphan) return;
  demands_.change_share(lease.demand, -lease.share_now());
  demands_.lease_over(lease.demand, id);
  note_needed(lease.demand.owner);
}

void NodeScheduler::close_owner(ProcessId owner) {
  const Demands::Owner* closing = demands_.find_owner(owner);
  if (closing == nullptr) return;
  for (const auto& [shape, demand] : closing->shapes) {
    const DemandId id{owner, shape};
    const std::vector<LeaseId> held(demand.leases.begin(), demand.leases.end());
    for (const LeaseId lease_id : held) {
      Lease& lease = leases_.at(lease_id);
      lease.is_orphan = true;
      demands_.change_share(id, -lease.share_now());
      demands_.lease_over(id, lease_id);
      pool_.stop(lease.worker, StopReason::kOwnerGone, pool_effects_);
    }
    caps_.leave(demand.cap_class);
  }
  demands_.remove_owner(owner);
}

void NodeScheduler::note_needed(ProcessId owner) {
  const Demands::Owner& noted = demands_.owner(owner);
  pool_.set_needed(owner, noted.leases > 0 || noted.wanting > 0);
}

void NodeScheduler::warn_infeasible(Effects& effects) {
  for (const DemandId id : std::exchange(infeasible_, {})) {
    const Demand* demand = demands_.find(id);
    if (demand == nullptr) continue;  // Its owner is gone.
    const bool is_actor = demands_.owner(id.owner).kind == OwnerKind::kActor;
    const std::string request = std::string(is_actor ? "an actor" : "a task") + " asks for {" +
                                demand->resources.to_string() + "}, but ";
    if (demand->bundle.in_group()) {
      effects.emplace_back(WarnInfeasible{
          id.owner, id.shape, request + describe_bundles(demand->bundle), /*for_good=*/true});
    } else {
      effects.emplace_back(
          WarnInfeasible{id.owner, id.shape,
                         request + "this node has {" + ledger_.total().to_string() +
                             "} in all: it stays pending until a node can serve it"});
    }
  }
}

void NodeScheduler::prestart(Instant now) {
  for (auto job = prestart_wanted_.begin(); job != prestart_wanted_.end();) {
    const EnvironmentKey key{job->first, kJobEnvironment};
    if (!environments_.is_ready(key)) {
      ++job;
      continue;
    }
    for (uint32_t started = 0; started < job->second && pool_.can_start(key, now); ++started) {
      pool_.start(key, new_process(), now, pool_effects_);
    }
    job = prestart_wanted_.erase(job);
  }
}

}  // namespace mobula::scheduler
