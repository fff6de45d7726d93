#pragma once
// WorkerPool decides when worker processes are started, handed out and stopped.
//
// It touches no process: calls append Effects that the node shell carries out. It knows nothing of
// resources or fairness: NodeScheduler does, and is its only user.
//
// A worker:  starting ──ready──► idle ◄──release / take──► leased
//               │                  │                         │
//               └──timeout─────────┴──idle too long, job────►┴► stopping
//            exit, from any state, forgets it.
//
// A worker belongs to one job and one of its runtime environments, and is handed out for tasks of
// both only. A job keeps up to keep_idle idle workers; more than that are stopped
// when they have been idle for idle_timeout, the longest idle first. A worker that owns unfinished
// tasks of its own (set_needed) is not stopped for being idle.
//
// When workers of an environment end before they are ready, its next start waits for start_backoff,
// doubled each time; from the start_failures_reported-th failure in a row on, each one is a
// StartFailed.
//
// Threads: none. Time: only from the `now` arguments, which never go backwards.
// Limits:  workers_max processes, starting and stopping ones included.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "core/workers/environments.h"

namespace mobula::workers {

enum class StopReason {
  kIdle,          // Nothing runs there: ask it to exit.
  kStartTimeout,  // It never registered: kill.
  kOwnerGone,     // Nobody wants what runs there any more: kill.
  kJobEnded,      // Kill.
  kGroupRemoved,  // The placement group in which it worked is gone: kill.
};

// Start a worker process for `job`, in `environment`, and call it `worker`. worker_ready() follows when it has
// registered, process_exited() when it is gone (also if it could not be started at all).
struct StartWorker {
  ProcessId worker{};
  JobId job{};
  EnvironmentId environment{};
};
// End this process, with its process group. process_exited() follows when it is gone.
struct StopWorker {
  ProcessId worker{};
  StopReason reason{};
};
// Workers of this environment keep ending before they are ready. Tell its driver, with the exit code and
// the last output of `worker`. Starting goes on, ever more slowly.
struct StartFailed {
  JobId job{};
  EnvironmentId environment{};
  ProcessId worker{};
  uint32_t failures = 0;  // In a row.
  std::string text;
};
using Effect = std::variant<StartWorker, StopWorker, StartFailed>;
using Effects = std::vector<Effect>;

class WorkerPool {
 public:
  struct Options {
    uint32_t workers_max = 4096;
    uint32_t keep_idle = 1;  // Per job.
    Duration idle_timeout = std::chrono::seconds(1);
    Duration start_timeout = std::chrono::seconds(30);
    Duration start_backoff = std::chrono::milliseconds(100);
    Duration start_backoff_max = std::chrono::seconds(5);
    uint32_t start_failures_reported = 3;
  };
  struct Taken {
    ProcessId worker{};
    uint32_t epoch = 0;  // Counts the times this worker was handed out, from 1.
  };

  explicit WorkerPool(Options options);

  void add_job(JobId job);
  // All its workers are told to stop; they stay known until they exit.
  void end_job(JobId job, Effects& effects);

  // Starts a worker under the id `worker`, which must be new. The job must be able to (can_start).
  void start(EnvironmentKey environment, ProcessId worker, Instant now, Effects& effects);
  bool can_start(EnvironmentKey environment, Instant now) const;
  uint32_t starting_count(EnvironmentKey environment) const;
  // Starts in this environment that failed count no more: it was prepared anew.
  void forget_failures(EnvironmentKey environment);

  // Hands out an idle worker of the environment: the one that served `owner` last, else the last
  // used; never the owner itself.
  std::optional<Taken> take(EnvironmentKey environment, ProcessId owner);
  // A leased worker is idle again. Nothing happens to one that is stopping.
  void release(ProcessId worker, Instant now);
  // Kills a worker whatever it does. Nothing happens to one that is stopping.
  void stop(ProcessId worker, StopReason reason, Effects& effects);
  void set_needed(ProcessId worker, bool needed);

  // The process of StartWorker has registered. False if it is being stopped meanwhile: its exit
  // will follow. kNotFound: no such worker. kInvalidArgument: it was ready before.
  Result<bool> ready(ProcessId worker, Instant now);
  // The process is gone, for whatever reason. kNotFound: no such worker.
  Result<void> exited(ProcessId worker, Instant now, Effects& effects);

  // Stops what is idle or starting for too long.
  void tick(Instant now, Effects& effects);
  // The next time after `now` at which tick(), or can_start(), will answer differently by itself.
  std::optional<Instant> next_deadline(Instant now) const;

  bool knows(ProcessId worker) const { return workers_.contains(worker); }
  // Handed out, or being stopped: not starting and not idle.
  bool holds_lease(ProcessId worker) const;
  JobId job_of(ProcessId worker) const { return environment_of(worker).job; }
  EnvironmentKey environment_of(ProcessId worker) const;
  // Those in which workers run, start or are stopped.
  template <typename See>
  void for_each_environment(See see) const {
    for (const auto& [key, environment] : environments_) {
      if (environment.workers > 0) see(key);
    }
  }
  uint32_t worker_count() const { return static_cast<uint32_t>(workers_.size()); }
  // For those who look on.
  enum class Shown { kStarting, kIdle, kLeased, kStopping };
  struct Description {
    ProcessId worker{};
    JobId job{};
    Shown state{};
    Instant since{0};  // Of the start, or of the begin of idleness.
  };
  std::vector<Description> describe() const;
  // In a row, in the environment of the job where there were most.
  uint32_t start_failures(JobId job) const;

  // Aborts if the books do not balance. O(workers); for tests and the simulator.
  void check_invariants() const;

 private:
  enum class State { kStarting, kIdle, kLeased, kStopping };
  struct Worker {
    EnvironmentKey environment;
    State state = State::kStarting;
    bool was_ready = false;
    bool needed = false;
    uint32_t epoch = 0;
    Instant since{0};  // Start, or the begin of idleness.
    ProcessId last_owner{};
  };
  struct Job {
    bool ended = false;
    uint32_t workers = 0;
    std::vector<ProcessId> idle;  // The last used one is at the end.
  };
  // Here if there is something to say: workers, or failures.
  struct Environment {
    uint32_t workers = 0;
    uint32_t starting = 0;
    uint32_t failures = 0;  // Starts that failed since one worked.
    Instant next_start{0};
  };

  Worker* find(ProcessId worker);
  void leave_state(ProcessId id, Worker& worker);
  void forget_if_unused(EnvironmentKey key);
  void forget_job(JobId id);
  void begin_stop(ProcessId id, StopReason reason, Effects& effects);
  void note_failed_start(ProcessId id, const std::string& what, Instant now, Effects& effects);
  void stop_surplus(Job& job, Instant now, Effects& effects);

  const Options options_;
  std::map<ProcessId, Worker> workers_;
  std::map<JobId, Job> jobs_;
  std::map<EnvironmentKey, Environment> environments_;
  std::set<std::pair<Instant, ProcessId>> starting_;  // By the time they were started.
};

}  // namespace mobula::workers
