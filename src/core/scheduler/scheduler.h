#pragma once
// NodeScheduler decides, for one node, who gets which worker: leases, resources, fairness, blocked
// workers, and through its WorkerPool when worker processes start and stop.
//
// It touches no process and no socket. What the shell does:
//
//   a driver registers      id = new_process(); add_driver(id, job), before its first record is read
//   a worker registers      worker_ready(its id from StartWorker)
//   a process's record      define_shape, set_target, lease_returned, process_blocked / unblocked.
//                           An error: that record is void. Its worker may have died meanwhile.
//   an environment          environment_ready, or environment_failed, after PrepareEnvironment
//   a process is gone       process_exited(id), drivers and workers, after its uplink was drained
//   an actor                is an owner with one lease: add_actor, actor_made, actor_over
//   a job ends              job_ended(job): its driver left or died. Before or after process_exited.
//   after every batch of these, and at next_deadline():
//                           schedule(now, effects), then carry the effects out in their order.
//
// Effects come out of schedule() only. Events between two calls of it may come in any order.
//
// A lease:   granted ──owner returns it──► over.   Reclaimed is not a state: only a wish, sent again
//            at most after its owner got it back. If the worker exits, or the owner does (then the
//            worker is stopped), the lease is over when the worker's exit is reported: until then
//            its resources are taken. The owner learns it from the news that the worker died.
//
// What is promised
// - Leases never exceed the resources of the node or of their bundle, except the CPUs of just-woken
//   workers. While CPUs are overdrawn none are granted there, and other leases are reclaimed until the
//   books are even.
// - Order of service: the job that holds the fewest CPUs; in it the highest priority; then the owner
//   that holds the fewest; among equals children of blocked workers, the deepest first; then who was
//   served longest ago. A demand that has held nothing for `patience` goes ahead of deeper ones of its
//   job and priority, and what it is short of is saved up for it.
// - Who waits gets a ReclaimLease sent to those of its job with a lower priority; to those who hold
//   more than they would after giving one up; or, if it holds nothing at all, to anyone who has had
//   the lease for `slice`. A priority means nothing to other jobs.
// - The oldest placement group that waits is served before all leases, once there is room for all of
//   it; leases are asked back for it, and after `patience` room is saved up.
// - Blocked workers give their CPUs back (not GPUs, nor anything else). Running plus blocked leases of
//   a (job, resources, depth) are capped (caps.h); the cap rises while nothing moves.
//
// Threads: none. Owned and called by the node loop only.
// Time:    only from the `now` arguments, which never go backwards.
// Cost:    a call of schedule() is O(waiting (owner, shape) pairs); no queue of tasks is kept here.
// Limits:  shapes_max shapes an owner; the pool's workers_max.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/resources.h"
#include "base/result.h"
#include "base/time.h"
#include "core/scheduler/caps.h"
#include "core/scheduler/demands.h"
#include "core/scheduler/effects.h"
#include "core/scheduler/groups.h"
#include "core/scheduler/leases.h"
#include "core/scheduler/ledger.h"
#include "core/workers/environments.h"
#include "core/workers/worker_pool.h"

namespace mobula::scheduler {

class NodeScheduler {
 public:
  struct Options {
    ResourceSet total;  // A whole number of GPUs.
    uint32_t prestart_max = 8;
    uint32_t shapes_max = 65'536;
    Duration slice = std::chrono::milliseconds(2);
    // Who still waits so long after a ReclaimLease has another one sent, then doubling.
    Duration reclaim_delay = std::chrono::milliseconds(1);
    Duration reclaim_delay_max = std::chrono::milliseconds(16);
    Duration overdraft_allowed = std::chrono::milliseconds(10);
    Duration patience = std::chrono::milliseconds(100);
    Caps::Options caps;
    workers::WorkerPool::Options pool;  // keep_idle is set to the number of CPUs.
    Environments::Options environments;
    PlacementGroups::Options groups;
  };

  explicit NodeScheduler(Options options);

  // The number of the next process. The scheduler numbers the workers it starts from here as well.
  ProcessId new_process();

  // A job without a driver: actors may work for it. `own`: of the job's own environment.
  void add_job(JobId job, const Environments::Needs& own = {});
  // A driver and its job. Some workers are started for it, once the job's own environment is ready.
  void add_driver(ProcessId driver, JobId job, const Environments::Needs& own = {});
  // Another environment of the job. kNotFound: no such job.
  Result<EnvironmentId> add_environment(JobId job, const Environments::Needs& needs);
  // In which this process runs.
  EnvironmentId environment_of(ProcessId process) const;
  const Environments& environments() const { return environments_; }
  // What PrepareEnvironment asked for is there, or cannot be.
  void environment_ready(EnvironmentKey environment, Instant now);
  void environment_failed(EnvironmentKey environment, const std::string& text);
  // All workers of the job are stopped and all demand of its processes is forgotten.
  // kNotFound: no such job, or it has ended before.
  Result<void> job_ended(JobId job);

  // kNotFound: not the id of a StartWorker, or gone. kInvalidArgument: registered before.
  Result<void> worker_ready(ProcessId worker, Instant now);
  // A driver or worker is gone, for whatever reason, also one that never registered.
  Result<void> process_exited(ProcessId process, Instant now);

  // How tasks of a shape run, besides what they ask for.
  struct Manner {
    Manner(int32_t of_priority = 0,  // NOLINT: an int is one.
           std::optional<EnvironmentId> in = {}, BundleRef where = {})
        : priority(of_priority), environment(in), bundle(where) {}
    int32_t priority;
    std::optional<EnvironmentId> environment;  // None: the owner's.
    BundleRef bundle;
  };
  // Repeating a definition is harmless; changing one is kInvalidArgument, as are amounts below zero
  // and GPU amounts above one that are not whole. kNotFound: no such process or environment. Without
  // an environment: the owner's, which of a driver is the job's own.
  Result<void> define_shape(ProcessId owner, ShapeId shape, const ResourceSet& resources,
                            uint32_t depth, const Manner& manner = {});
  // Leases wanted in all: those held, also with blocked workers, and those waited for. A level: the
  // last one counts. kNotFound: no such process or shape.
  Result<void> set_target(ProcessId owner, ShapeId shape, uint32_t target);
  // kNotFound: the lease is over, or was never this owner's.
  Result<void> lease_returned(ProcessId owner, LeaseId lease, Instant now);

  // An actor wants one worker for its life, under the id `actor` (from new_process()). It holds what it
  // asks for, but of the CPUs only `cpus_for_life`: others only say where it can be, for which they must
  // be there, not free. Until actor_made() the lease is like any other; after that it lends nothing
  // while it waits. A worker that exits is replaced by another one. kInvalidArgument: as for define_shape(). kNotFound: no such job.
  struct ActorRequest {
    ResourceSet resources;
    ResourceAmount cpus_for_life = 0;
    uint32_t depth = 1;
    EnvironmentId environment = kJobEnvironment;
    BundleRef bundle = {};
  };
  static constexpr ShapeId kActorShape{1};
  Result<void> add_actor(ProcessId actor, JobId job, const ActorRequest& request);
  void actor_made(ProcessId actor);
  // It wants no worker any more; one that it has is killed.
  void actor_over(ProcessId actor);

  // Bundles to be reserved, all at once, as soon as there is room: GroupChanged follows. Until then,
  // tasks in it wait. kInvalidArgument: the name is taken, or there can be no such bundle.
  // kRetryLater: too many.
  Result<PlacementGroupId> add_group(PlacementGroup group, Instant now);
  // Workers of leases in it are stopped, others that wait in it are told. kNotFound: it is gone.
  Result<void> remove_group(PlacementGroupId id);

  // The process waits and does not use its CPUs, until it says otherwise. Without meaning, and
  // harmless, for drivers and for workers that are not leased. kNotFound: no such process.
  Result<void> process_blocked(ProcessId process);
  Result<void> process_unblocked(ProcessId process);

  void schedule(Instant now, Effects& effects);
  // When to call schedule() again if nothing happens. As of the last call of schedule().
  std::optional<Instant> next_deadline() const { return deadline_; }

  const ResourceSet& total() const { return ledger_.total(); }
  // CPUs may be below zero: see above.
  const ResourceSet& available() const { return ledger_.available(); }
  // Where woken workers have more CPUs than there are; BundleId{} is the node.
  const std::set<BundleId>& overdrawn() const { return ledger_.overdrawn(); }
  uint32_t worker_count() const { return pool_.worker_count(); }
  uint32_t lease_count() const { return static_cast<uint32_t>(leases_.size()); }
  // For those who look on.
  const Demands& demands() const { return demands_; }
  const Leases& leases() const { return leases_; }
  const PlacementGroups& groups() const { return groups_; }
  const workers::WorkerPool& pool() const { return pool_; }
  bool is_capped(const Demand& demand) const { return !caps_.allows(demand.cap_class); }

  // Aborts if the books do not balance. O(everything); for tests and the simulator.
  void check_invariants() const;

 private:
  class Pass;
  struct Overdraft {
    Instant next_reclaim{0};
    Duration delay{0};
  };

  void set_blocked(ProcessId process, bool is_blocked);
  void end_lease(LeaseId id);
  // Forgets what the process wants. Workers that it has leased are stopped.
  void close_owner(ProcessId owner);
  void note_needed(ProcessId owner);
  void warn_infeasible(Effects& effects);
  std::string describe_bundles(const BundleRef& where) const;
  void prestart(Instant now);
  bool could_ever_fit(const BundleRef& bundle, const ResourceSet& resources) const;
  Result<void> check_request(const Demands::Owner& owner, const ResourceSet& resources) const;
  // environments.cc
  void look_at_environments(Instant now, Effects& effects);
  void take_over_pool_effects(Effects& effects);
  void give_up(EnvironmentKey environment, const std::string& text, ProcessId worker);

  const Options options_;
  Ledger ledger_;
  Caps caps_;
  Demands demands_;
  Leases leases_;
  PlacementGroups groups_;
  std::vector<PlacementGroupId> removed_groups_;  // To be told of.
  workers::WorkerPool pool_;
  Environments environments_;
  std::map<JobId, uint32_t> next_environment_;
  uint32_t next_process_ = 1;
  std::set<ProcessId> processes_;  // Drivers and registered workers that are not gone.
  std::set<JobId> jobs_;           // Not ended.
  std::map<JobId, uint32_t> prestart_wanted_;
  std::vector<DemandId> infeasible_;  // To be warned about.
  workers::Effects pool_effects_;     // Not yet handed out, as are these two:
  workers::EnvironmentEffects environment_effects_;
  std::vector<EnvironmentFailed> failed_environments_;
  uint64_t changes_ = 0;                      // Of leases and targets.
  std::map<BundleId, Overdraft> overdrafts_;  // BundleId{}: of the node.
  std::optional<Instant> deadline_;
};

// At least one.
uint32_t whole_cpus(const ResourceSet& resources);

}  // namespace mobula::scheduler
