#pragma once
// ActorShell carries out what ActorRegistry decides: workers for actors, channels between them and their
// callers, news of their deaths; and turns the records of processes about actors into its events.
//
// To the scheduler and the object directory an actor is a process of its own, its *stand-in*: it owns the
// one lease, and holds the objects from which the actor can be made again.
//
// Threads: the loop's.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/actors/actor_registry.h"
#include "io/loop.h"
#include "node/channels.h"
#include "node/lease_shell.h"
#include "node/object_shell.h"
#include "node/sessions.h"

namespace mobula::node {

class ActorShell {
 public:
  struct Callbacks {
    std::function<void(ProcessId worker, const std::string& reason)> kill;
    // It is to end in order, and is killed if it does not.
    std::function<void(ProcessId worker)> ask_to_exit;
    // A job like this one that no driver ends; and its end, later.
    std::function<JobId(workers::EnvironmentKey)> make_job;
    std::function<void(JobId)> end_job;
  };

  ActorShell(io::Loop& loop, Sessions& sessions, Channels& channels, LeaseShell& leases,
             ObjectShell& objects)
      : loop_(loop),
        sessions_(sessions),
        channels_(channels),
        leases_(leases),
        objects_(objects),
        registry_(actors::ActorRegistry::Options{}) {}
  void set_callbacks(Callbacks callbacks) { callbacks_ = std::move(callbacks); }

  // True if the record is one of ours. An error: the process broke the protocol.
  Result<bool> on_record(const Session& session, const wire::fb::ToDaemon& record);

  // True if the lease is an actor's.
  bool on_granted(const scheduler::GrantLease& grant);
  // The actor whose request it is and that waits for it, or nil.
  ObjectId on_infeasible(ProcessId owner, const std::string& text, bool for_good);
  // False: `owner` is no actor that waits for a worker.
  bool on_environment_failed(ProcessId owner, const std::string& text);
  // False: `owner` is no actor.
  bool on_group_gone(ProcessId owner);
  JobId job_of(ObjectId actor) const;
  // Before its peers are told. Its uplink was read to the end.
  void on_worker_died(ProcessId worker, const std::string& cause);
  void on_process_gone(ProcessId process) { registry_.on_process_gone(process); }
  // Nobody has a handle any more.
  void on_unreachable(ObjectId actor);
  void on_job_ended(JobId job, const std::string& reason);

  const actors::ActorRegistry& registry() const { return registry_; }

 private:
  struct StandIn {
    ProcessId id{};
    ObjectId spec;
    ResourceSet resources;
    uint32_t depth = 1;
    BundleRef bundle;
    uint32_t epoch = 0;
    JobId own_job{};  // Of a detached actor.
    bool holds_spec = true;
    bool infeasible_is_error = false;
  };
  struct Introduction {
    ObjectId actor;
    ProcessId caller;
    ProcessId worker;
  };

  Result<void> on_create(const Session& session, const wire::fb::ActorCreate& record);
  Result<void> create(const Session& session, const wire::fb::ActorCreate& record,
                      actors::ActorOptions options, const ResourceSet& resources);
  Result<void> on_find(const Session& session, const wire::fb::ActorFind& record);
  void on_list(const Session& session, const wire::fb::ActorList& record);
  Result<void> on_failed(const Session& session, const wire::fb::ActorFailed& record);
  void answer(ProcessId process, uint64_t request, ObjectId actor, const std::string& error);

  void carry_out(const actors::Effects& effects);
  void carry_out(const actors::RequestWorker& request);
  void carry_out(const actors::DismissWorker& dismiss);
  void carry_out(const actors::AskToExit& ask);
  void carry_out(const actors::KillWorker& kill);
  void carry_out(const actors::Settle& settle);
  void carry_out(const actors::Introduce& introduce);
  void carry_out(const actors::TellRestarting& news);
  void carry_out(const actors::TellDead& news);
  void carry_out(const actors::Ended& ended);
  Result<void> introduce(const Introduction& introduction);
  void retry_introductions();

  io::Loop& loop_;
  Sessions& sessions_;
  Channels& channels_;
  LeaseShell& leases_;
  ObjectShell& objects_;
  actors::ActorRegistry registry_;
  Callbacks callbacks_;
  std::map<ObjectId, StandIn> stand_ins_;
  std::map<ProcessId, ObjectId> by_stand_in_;
  std::vector<Introduction> postponed_;  // There was no room for a channel.
  std::unique_ptr<io::Timer> timer_;
};

}  // namespace mobula::node
