#pragma once
// WorkerProcesses starts, kills and collects the processes of workers, and the zygotes they are
// forked from. It decides nothing about who is needed.
//
//   start() ─► asked ──zygote's answer──► running (pid) ──SIGCHLD──► ended
//                 └──cannot be started──► ended
//
// Workers are children of the daemon (it adopts what the zygote forks), so the real exit code or
// signal is known and a pid cannot be another process before it was collected. When one ends, its
// process group is killed first. Other children, which workers left behind, are collected too.
//
// Threads: the loop's.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/workers/environments.h"
#include "io/signals.h"
#include "node/zygote.h"
#include "wire/control.h"

namespace mobula::node {

// The daemon's ends.
struct WorkerPipes {
  shm::Fd socket;
  shm::Fd output;  // Non-blocking, as is `errors`.
  shm::Fd errors;
};

// How and why a process ended, for people and for PeerDied.
struct Death {
  io::ExitStatus status;
  std::string cause;  // "killed by SIGKILL", "it exited with code 3", ...
  wire::fb::OutOfMemory out_of_memory = wire::fb::OutOfMemory::no;
};

class WorkerProcesses {
 public:
  struct Callbacks {
    std::function<void(ProcessId, pid_t)> on_started;
    std::function<void(ProcessId, const Death&)> on_ended;
    // What prepare() asked for is there, or cannot be.
    std::function<void(workers::EnvironmentKey)> on_environment_ready;
    std::function<void(workers::EnvironmentKey, const std::string&)> on_environment_failed;
    // Nothing runs for this job any more, after end_job().
    std::function<void(JobId)> on_job_empty;
  };

  WorkerProcesses(io::Loop& loop, std::string directory, Callbacks callbacks);

  // Warms a zygote for the job, unless its environment has to be prepared first. kUnavailable: that
  // cannot be started.
  Result<void> add_job(JobId job, JobSetup setup, bool is_prepared);
  // One for which there is no process.
  void forget_job(JobId job) { jobs_.erase(job); }
  // Prepares an environment, by warming a zygote in it. Its callbacks come from the loop.
  void prepare(workers::EnvironmentKey environment, const std::string& spec);
  // Ends the zygote of an environment, and what it is doing. Nothing is said of it any more.
  void release(workers::EnvironmentKey environment);
  // Its workers are killed as they are, its zygote when none of them is still to come.
  void end_job(JobId job);

  // on_started or on_ended follows, from the loop. kRetryLater: out of descriptors; nothing follows.
  Result<WorkerPipes> start(workers::EnvironmentKey environment, ProcessId worker);
  // on_ended follows.
  void kill(ProcessId worker, const std::string& reason,
            wire::fb::OutOfMemory out_of_memory = wire::fb::OutOfMemory::no);
  // Those that are starting included.
  size_t count(JobId job) const;
  bool any() const { return !processes_.empty(); }
  bool is_running(ProcessId worker) const { return processes_.contains(worker); }

  // SIGCHLD came.
  void collect();
  // Where the zygote of an environment writes.
  std::string zygote_log(workers::EnvironmentKey key) const;
  // The last lines that it wrote, or what prepared the environment.
  std::string zygote_log_tail(workers::EnvironmentKey environment) const;
  // How the last zygote of the job ended that ended early; empty: none did.
  std::string zygote_end(JobId job) const;

 private:
  struct Process {
    JobId job{};
    pid_t pid = 0;             // 0: not known yet.
    bool kill_wanted = false;  // As soon as the pid is known.
    std::string kill_reason;
    wire::fb::OutOfMemory out_of_memory = wire::fb::OutOfMemory::no;
  };
  struct Environment {
    std::string spec;
    std::unique_ptr<Zygote> zygote;
    bool preparing = false;
    bool was_ready = false;  // Its zygote, once.
  };
  struct Job {
    JobSetup setup;
    std::map<EnvironmentId, Environment> environments;
    std::set<pid_t> zygotes;  // Also those whose sockets are closed, until they were collected.
    std::string zygote_end;
    bool ending = false;
    std::unique_ptr<io::Timer> patience;  // With a zygote that does not answer, at the end.
  };

  Result<void> start_zygote(workers::EnvironmentKey key, Job& job);
  void on_zygote_started(ProcessId worker, pid_t pid);
  void on_failed(ProcessId worker, const std::string& reason);
  void on_zygote_ready(workers::EnvironmentKey key);
  void on_zygote_unfit(workers::EnvironmentKey key, const std::string& reason);
  void on_zygote_gone(workers::EnvironmentKey key);
  Environment* find(workers::EnvironmentKey key);
  void let_go(Environment& environment);
  void on_child_ended(pid_t pid);
  void end(ProcessId worker, const Death& death);
  void check_job(JobId id);
  size_t forks_pending() const;
  std::string cause_of(const Process& process, const io::ExitStatus& status);

  io::Loop& loop_;
  const std::string directory_;
  const Callbacks callbacks_;
  uint64_t oom_kills_seen_;
  std::map<ProcessId, Process> processes_;
  std::map<pid_t, ProcessId> by_pid_;
  // Children that ended before the zygote's message with their pid was read.
  std::map<pid_t, io::ExitStatus> unclaimed_;
  std::map<JobId, Job> jobs_;
  std::vector<std::unique_ptr<Zygote>> gone_;  // To be destroyed outside of their own callbacks.
};

}  // namespace mobula::node
