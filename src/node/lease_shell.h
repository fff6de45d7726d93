#pragma once
// LeaseShell carries out what NodeScheduler decides: leases over channels, workers started and
// stopped; and turns the records of processes about leases into its events.
//
// Threads: the loop's.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/scheduler/scheduler.h"
#include "io/loop.h"
#include "node/channels.h"
#include "node/environment_specs.h"
#include "node/sessions.h"

namespace mobula::node {

class LeaseShell {
 public:
  struct Callbacks {
    std::function<void(const scheduler::StartWorker&)> start_worker;
    std::function<void(const scheduler::StopWorker&)> stop_worker;
    std::function<void(const scheduler::StartFailed&)> start_failed;
    std::function<void(const scheduler::PrepareEnvironment&)> prepare_environment;
    std::function<void(const scheduler::ReleaseEnvironment&)> release_environment;
    std::function<void(const scheduler::EnvironmentFailed&)> environment_failed;
    std::function<void(const scheduler::WarnInfeasible&)> infeasible;
    std::function<void(PlacementGroupId)> group_changed;
    std::function<void(scheduler::DemandId)> group_gone;
    // True if the lease is taken care of: no channel is made.
    std::function<bool(const scheduler::GrantLease&)> granted_to_actor;
    // Before the two learn of their channel. An error: make none.
    std::function<Result<void>(ProcessId, ProcessId)> before_channel;
  };

  LeaseShell(io::Loop& loop, Sessions& sessions, Channels& channels, ResourceSet total,
             uint32_t workers_max);
  void set_callbacks(Callbacks callbacks) { callbacks_ = std::move(callbacks); }

  // For events that are not records. Call changed() after them.
  scheduler::NodeScheduler& scheduler() { return scheduler_; }
  const scheduler::NodeScheduler& scheduler() const { return scheduler_; }
  void changed() { dirty_ = true; }
  // A driver has said Hello. An error: it cannot have that environment.
  Result<void> add_driver(const Session& driver, const wire::fb::RuntimeEnvironment* environment);
  // A job without a driver, whose own environment is this one of another job.
  void add_job(JobId job, workers::EnvironmentKey like);
  std::string environment_spec(workers::EnvironmentKey key) const { return specs_.spec(key); }
  void forget_job(JobId job) { specs_.forget_job(job); }
  // Of a record; nullopt: that of the session's process.
  Result<std::optional<EnvironmentId>> environment_of(const Session& session,
                                                      const wire::fb::RuntimeEnvironment* record);
  // `process` is gone (its channels too): it owns no lease and works under none.
  void forget(ProcessId process);

  // True if the record is one of ours. An error: the process broke the protocol.
  Result<bool> on_record(const Session& session, const wire::fb::ToDaemon& record);

  // Under which lease a worker works: what its tasks declare to need of memory, and since when.
  struct Work {
    uint64_t memory_bytes = 0;
    Instant since{0};
  };
  std::optional<Work> work_of(ProcessId worker) const;

  // Once a turn of the loop: decides, and carries out. True if something was done.
  bool run();
  bool has_work() const { return dirty_; }

 private:
  struct Lease {
    ProcessId owner{};
    ProcessId worker{};
    uint64_t memory_bytes = 0;  // Declared; 0: nothing.
    Instant since{0};
  };

  Result<void> define_shape(const Session& session, const wire::fb::DefineShape& record);

  Result<void> lease_returned(ProcessId process, LeaseId lease);
  Result<void> tolerate(Result<void> result, ProcessId process, const char* what) const;
  void carry_out(const scheduler::GrantLease& grant);
  void carry_out(const scheduler::ReclaimLease& reclaim);
  void carry_out(const scheduler::WarnInfeasible& warning);
  void carry_out(const scheduler::StartWorker& start) { callbacks_.start_worker(start); }
  void carry_out(const scheduler::StopWorker& stop) { callbacks_.stop_worker(stop); }
  void carry_out(const scheduler::StartFailed& failed) { callbacks_.start_failed(failed); }
  void carry_out(const scheduler::PrepareEnvironment& it) { callbacks_.prepare_environment(it); }
  void carry_out(const scheduler::ReleaseEnvironment& it) { callbacks_.release_environment(it); }
  void carry_out(const scheduler::EnvironmentFailed& it) { callbacks_.environment_failed(it); }
  void carry_out(const scheduler::GroupChanged& it) { callbacks_.group_changed(it.group); }
  void carry_out(const scheduler::GroupGone& it) { callbacks_.group_gone(it.demand); }
  void set_timer();
  void return_refused();

  io::Loop& loop_;
  Sessions& sessions_;
  Channels& channels_;
  scheduler::NodeScheduler scheduler_;
  EnvironmentSpecs specs_;
  Callbacks callbacks_;
  std::map<LeaseId, Lease> leases_;
  std::map<std::pair<ProcessId, uint32_t>, uint64_t> memory_of_;  // Of shapes that declare it.
  std::vector<std::pair<LeaseId, ProcessId>> refused_;  // Granted, but there was no channel.
  std::unique_ptr<io::Timer> refused_timer_;
  bool dirty_ = false;
  std::optional<Instant> timer_at_;
  std::unique_ptr<io::Timer> timer_;
};

}  // namespace mobula::node
