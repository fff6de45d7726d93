#pragma once
// Node is the daemon of one machine: it ties the parts of this folder together and knows in which
// order they must learn of what happens to a process.
//
// A process:  (worker started | driver's socket) ──Hello──► welcomed ──gone──► buried
// A guest:    (connection) ──Hello with the token──► driver, with a job of its own | observer ──► gone
// A job:      Hello of its driver ──Leave, or the driver is gone──► ending ──nothing of it runs──►
//             Goodbye ──driver closes──► over. A private daemon ends with its last job, a standing
//             one when a signal tells it to.
//
// Threads: the loop's; run() returns when the node has ended.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/loop.h"
#include "io/packet_listener.h"
#include "io/signals.h"
#include "node/actor_shell.h"
#include "node/cancels.h"
#include "node/channels.h"
#include "node/dead_sessions.h"
#include "node/group_shell.h"
#include "node/http_server.h"
#include "node/job_records.h"
#include "node/key_value_shell.h"
#include "node/lease_shell.h"
#include "node/log_pump.h"
#include "node/memory_watch.h"
#include "node/metrics_page.h"
#include "node/object_shell.h"
#include "node/options.h"
#include "node/queries.h"
#include "node/sessions.h"
#include "node/state_queries.h"
#include "node/store_shell.h"
#include "node/uplinks.h"
#include "node/worker_processes.h"

namespace mobula::node {

class Node final : private io::Poller {
 public:
  // kUnavailable: the machine lacks something; the text is for the driver.
  static Result<std::unique_ptr<Node>> open(const NodeOptions& options);
  ~Node() override;

  void run();

 private:
  struct Job {
    ProcessId driver{};
    JobSetup setup;
    shm::Fd pidfd;  // The driver's.
    std::unique_ptr<io::Watch> pidfd_watch;
    bool welcomed = false;
    bool is_detached = false;  // Of a detached actor; it has no driver.
    bool had_workers = false;
    bool ending = false;
    bool empty = false;           // Nothing of it runs any more.
    bool knows_of_files = false;  // Its driver was told that values go to files.
    // Running: workers were asked to exit, so that what they print last is not lost.
    std::unique_ptr<io::Timer> grace;
  };

  Node(const NodeOptions& options, std::unique_ptr<io::Loop> loop,
       std::unique_ptr<Doorbell> doorbell, SpillChoice spill);
  void connect_actors();
  Result<void> start();
  bool work() override;
  bool prepare_sleep() override;
  void awake() override { doorbell_->awake(); }

  Result<void> add_driver(shm::Fd socket);
  Result<void> add_job(Session& session);
  Result<void> open_socket(Session& session, shm::Fd socket);
  void on_packet(ProcessId process, std::span<const std::byte> bytes,
                 const std::vector<shm::Fd>& descriptors);
  void add_state_sections();
  Result<void> serve_metrics();
  void on_socket_closed(ProcessId process, const std::string& reason);
  Result<void> on_hello(Session& session, const wire::fb::Hello& hello);
  Result<void> welcome_driver(Session& session, const wire::fb::Hello& hello);
  Result<void> welcome_worker(Session& session);
  Result<void> welcome(Session& session);
  void refuse(Session& session, const std::string& reason);

  // Guests: node_guests.cc.
  Result<void> listen();
  void add_guest(shm::Fd socket, pid_t pid);
  Result<void> on_guest_hello(Session& session, const wire::fb::Hello& hello);
  Result<bool> on_guest_record(Session& session, const wire::fb::ToDaemon& record);
  void on_guest_gone(ProcessId guest, const std::string& reason);
  bool is_observer(const Session& session) const { return session.is_guest && session.welcomed; }

  void on_record(Session& session, const wire::ToDaemonMessage& message);
  Result<bool> dispatch(Session& session, const wire::fb::ToDaemon& record);
  Result<void> on_broken_peer(Session& session, const wire::fb::BrokenPeer& record);
  void cut_off(Session& session, const std::string& reason);

  void start_worker(const scheduler::StartWorker& start);
  void stop_worker(const scheduler::StopWorker& stop);
  void ask_to_exit(ProcessId worker, const char* why, Duration patience);
  void tell_of_full_store(const std::vector<ProcessId>& waiting, const std::string& text);
  void tell_of_files(const std::vector<ProcessId>& whose, const std::string& text);
  void tell_infeasible(const scheduler::WarnInfeasible& warning);
  void on_group_gone(scheduler::DemandId demand);
  void on_start_failed(const scheduler::StartFailed& failed);
  void give_up_job(JobId id, const std::string& why);
  void on_environment_failed(const scheduler::EnvironmentFailed& failed);
  std::string with_output_of(ProcessId worker, workers::EnvironmentKey environment,
                             std::string text);
  void on_worker_started(ProcessId worker, pid_t pid);
  void on_worker_ended(ProcessId worker, const Death& death);
  void on_driver_gone(ProcessId driver, const std::string& reason);
  void bury(Session& session, Obituary obituary);
  void end_job(JobId job, const std::string& reason);
  void ask_workers_to_exit(JobId id, Job& job);
  void end_grace(JobId id);
  void on_job_empty(JobId job);
  void finish_job(JobId job);
  JobId make_detached_job(workers::EnvironmentKey like);
  void end_detached_jobs();
  void on_signal(int signal);
  std::vector<memory::Use> memory_uses();
  void kill_for_memory(const memory::Kill& kill);
  ProcessId heir_of(JobId job) const;
  void close_socket(Session& session);
  bool goes_on_without(JobId job) const;
  void stop_if_unused();

  const NodeOptions options_;
  const NodeId id_;
  const std::unique_ptr<io::Loop> loop_;
  const std::unique_ptr<Doorbell> doorbell_;
  Sessions sessions_;
  Channels channels_;
  Cancels cancels_;
  StoreShell store_;
  DeadSessions dead_sessions_;
  ObjectShell objects_;
  LeaseShell leases_;
  ActorShell actors_;
  GroupShell groups_;
  KeyValueShell key_values_;
  Uplinks uplinks_;
  LogPump logs_;
  Queries queries_;
  StateQueries state_;
  JobRecords records_;
  MetricsPage metrics_;
  std::unique_ptr<HttpServer> metrics_server_;
  uint32_t next_job_ = 1;
  std::map<JobId, Job> jobs_;
  bool terminating_ = false;
  std::map<ProcessId, std::string> failed_starts_;  // How workers ended that never registered.
  std::map<ProcessId, std::unique_ptr<io::Timer>> deadlines_;  // For workers asked to exit.
  std::vector<std::unique_ptr<io::PacketSocket>> closing_;     // Destroyed outside of callbacks.
  std::string token_;                                          // Who knows it may join.
  std::map<ProcessId, std::unique_ptr<io::Timer>> guests_;     // With the deadline for their Hello.
  std::unique_ptr<io::PacketListener> listener_;
  std::unique_ptr<io::Watch> doorbell_watch_;
  WorkerProcesses workers_;
  MemoryWatch memory_;
  std::unique_ptr<io::Signals> signals_;
};

}  // namespace mobula::node
