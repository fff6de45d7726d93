#include "core/workers/worker_pool.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::workers {

namespace {

std::string name_of(ProcessId worker, JobId job) {
  return "worker process " + std::to_string(number(worker)) + " of job " +
         std::to_string(number(job));
}

}  // namespace

WorkerPool::WorkerPool(Options options) : options_(options) {
  MOBULA_CHECK(options_.workers_max > 0);
  MOBULA_CHECK(options_.start_timeout.count() > 0);
  MOBULA_CHECK(options_.start_backoff.count() > 0);
}

void WorkerPool::add_job(JobId job) { MOBULA_CHECK(jobs_.try_emplace(job).second); }

void WorkerPool::end_job(JobId id, Effects& effects) {
  Job& job = jobs_.at(id);
  job.ended = true;
  for (auto& [worker_id, worker] : workers_) {
    if (worker.job != id || worker.state == State::kStopping) continue;
    begin_stop(worker_id, StopReason::kJobEnded, effects);
  }
  if (job.workers == 0) jobs_.erase(id);
}

void WorkerPool::start(JobId job_id, ProcessId id, Instant now, Effects& effects) {
  MOBULA_CHECK(can_start(job_id, now));
  const bool is_new = workers_.try_emplace(id, Worker{.job = job_id, .since = now}).second;
  MOBULA_CHECK(is_new);
  Job& job = jobs_.at(job_id);
  ++job.workers;
  ++job.starting;
  starting_.emplace(now, id);
  effects.emplace_back(StartWorker{id, job_id});
}

bool WorkerPool::can_start(JobId id, Instant now) const {
  const auto found = jobs_.find(id);
  return found != jobs_.end() && !found->second.ended && workers_.size() < options_.workers_max &&
         now >= found->second.next_start;
}

uint32_t WorkerPool::starting_count(JobId job) const {
  const auto found = jobs_.find(job);
  return found == jobs_.end() ? 0 : found->second.starting;
}

std::optional<WorkerPool::Taken> WorkerPool::take(JobId job_id, ProcessId owner) {
  const auto job = jobs_.find(job_id);
  if (job == jobs_.end() || job->second.idle.empty()) return std::nullopt;
  const std::vector<ProcessId>& idle = job->second.idle;
  // A worker that knows the owner has its rings with it already.
  const auto known = std::ranges::find_if(idle.rbegin(), idle.rend(), [&](ProcessId id) {
    return workers_.at(id).last_owner == owner;
  });
  // Never the owner itself, which may be an idle worker with tasks of its own.
  const auto other = std::ranges::find_if(idle.rbegin(), idle.rend(),
                                          [owner](ProcessId id) { return id != owner; });
  if (other == idle.rend()) return std::nullopt;
  const ProcessId id = known == idle.rend() || *known == owner ? *other : *known;
  Worker& worker = workers_.at(id);
  leave_state(id, worker);
  worker.state = State::kLeased;
  worker.last_owner = owner;
  return Taken{id, ++worker.epoch};
}

void WorkerPool::release(ProcessId id, Instant now) {
  Worker& worker = workers_.at(id);
  if (worker.state == State::kStopping) return;
  MOBULA_CHECK(worker.state == State::kLeased);
  worker.state = State::kIdle;
  worker.since = now;
  jobs_.at(worker.job).idle.push_back(id);
}

void WorkerPool::stop(ProcessId id, StopReason reason, Effects& effects) {
  if (workers_.at(id).state != State::kStopping) begin_stop(id, reason, effects);
}

void WorkerPool::set_needed(ProcessId id, bool needed) {
  if (Worker* worker = find(id)) worker->needed = needed;
}

Result<bool> WorkerPool::ready(ProcessId id, Instant now) {
  Worker* worker = find(id);
  if (worker == nullptr) {
    return fail(ErrorCode::kNotFound, "no worker process " + std::to_string(number(id)));
  }
  if (worker->was_ready) {
    return fail(ErrorCode::kInvalidArgument, name_of(id, worker->job) + " registered twice");
  }
  worker->was_ready = true;
  if (worker->state == State::kStopping) return false;
  leave_state(id, *worker);
  worker->state = State::kIdle;
  worker->since = now;
  Job& job = jobs_.at(worker->job);
  job.idle.push_back(id);
  job.failures = 0;
  job.next_start = now;
  return true;
}

Result<void> WorkerPool::exited(ProcessId id, Instant now, Effects& effects) {
  Worker* worker = find(id);
  if (worker == nullptr) {
    return fail(ErrorCode::kNotFound, "no worker process " + std::to_string(number(id)));
  }
  if (worker->state == State::kStarting) {
    note_failed_start(id, " ended before it registered", now, effects);
  }
  leave_state(id, *worker);
  const auto job = jobs_.find(worker->job);
  --job->second.workers;
  if (job->second.ended && job->second.workers == 0) jobs_.erase(job);
  workers_.erase(id);
  return {};
}

void WorkerPool::tick(Instant now, Effects& effects) {
  while (!starting_.empty() && starting_.begin()->first + options_.start_timeout <= now) {
    const ProcessId id = starting_.begin()->second;
    note_failed_start(id, " did not register in time", now, effects);
    begin_stop(id, StopReason::kStartTimeout, effects);
  }
  for (auto& [id, job] : jobs_) stop_surplus(job, now, effects);
}

void WorkerPool::stop_surplus(Job& job, Instant now, Effects& effects) {
  if (job.idle.size() <= options_.keep_idle) return;
  size_t surplus = job.idle.size() - options_.keep_idle;
  std::vector<ProcessId> stopping;
  for (const ProcessId id : job.idle) {
    const Worker& worker = workers_.at(id);
    if (surplus == 0 || worker.since + options_.idle_timeout > now) break;
    if (worker.needed) continue;
    stopping.push_back(id);
    --surplus;
  }
  for (const ProcessId id : stopping) begin_stop(id, StopReason::kIdle, effects);
}

std::optional<Instant> WorkerPool::next_deadline(Instant now) const {
  std::optional<Instant> next;
  const auto consider = [&](Instant at) {
    if (at > now && (!next || at < *next)) next = at;
  };
  if (!starting_.empty()) consider(starting_.begin()->first + options_.start_timeout);
  for (const auto& [id, job] : jobs_) {
    consider(job.next_start);
    if (job.idle.size() <= options_.keep_idle) continue;
    const auto oldest = std::ranges::find_if(
        job.idle, [&](ProcessId worker) { return !workers_.at(worker).needed; });
    if (oldest != job.idle.end()) consider(workers_.at(*oldest).since + options_.idle_timeout);
  }
  return next;
}

JobId WorkerPool::job_of(ProcessId worker) const { return workers_.at(worker).job; }

bool WorkerPool::holds_lease(ProcessId id) const {
  const State state = workers_.at(id).state;
  return state == State::kLeased || state == State::kStopping;
}

WorkerPool::Worker* WorkerPool::find(ProcessId worker) {
  const auto found = workers_.find(worker);
  return found == workers_.end() ? nullptr : &found->second;
}

void WorkerPool::leave_state(ProcessId id, Worker& worker) {
  Job& job = jobs_.at(worker.job);
  if (worker.state == State::kStarting) {
    --job.starting;
    starting_.erase({worker.since, id});
  } else if (worker.state == State::kIdle) {
    std::erase(job.idle, id);
  }
}

void WorkerPool::begin_stop(ProcessId id, StopReason reason, Effects& effects) {
  Worker& worker = workers_.at(id);
  leave_state(id, worker);
  worker.state = State::kStopping;
  effects.emplace_back(StopWorker{id, reason});
}

void WorkerPool::note_failed_start(ProcessId id, const std::string& what, Instant now,
                                   Effects& effects) {
  const JobId job_id = workers_.at(id).job;
  Job& job = jobs_.at(job_id);
  Duration delay = options_.start_backoff;
  for (uint32_t doubled = 0; doubled < job.failures && delay < options_.start_backoff_max;
       ++doubled) {
    delay *= 2;
  }
  job.next_start = now + std::min(delay, options_.start_backoff_max);
  ++job.failures;
  if (job.failures < options_.start_failures_reported) return;
  effects.emplace_back(StartFailed{job_id, id, job.failures, name_of(id, job_id) + what});
}

void WorkerPool::check_invariants() const {
  MOBULA_CHECK(workers_.size() <= options_.workers_max);
  std::map<JobId, Job> counted;
  size_t idle = 0;
  for (const auto& [id, worker] : workers_) {
    const auto found = jobs_.find(worker.job);
    MOBULA_CHECK(found != jobs_.end());
    MOBULA_CHECK(!found->second.ended || worker.state == State::kStopping);
    Job& job = counted[worker.job];
    ++job.workers;
    if (worker.state == State::kStarting) {
      ++job.starting;
      MOBULA_CHECK(!worker.was_ready);
      MOBULA_CHECK(starting_.contains({worker.since, id}));
    }
    if (worker.state == State::kIdle) {
      ++idle;
      MOBULA_CHECK(std::ranges::count(found->second.idle, id) == 1);
    }
  }
  size_t starting = 0;
  for (const auto& [id, job] : jobs_) {
    MOBULA_CHECK(job.workers == counted[id].workers);
    MOBULA_CHECK(job.starting == counted[id].starting);
    MOBULA_CHECK(!job.ended || job.workers > 0);
    starting += job.starting;
    MOBULA_CHECK(idle >= job.idle.size());
    idle -= job.idle.size();
    // Idle since, in order: the one at the front has been idle longest.
    MOBULA_CHECK(std::ranges::is_sorted(
        job.idle, {}, [this](ProcessId worker) { return workers_.at(worker).since; }));
  }
  MOBULA_CHECK(idle == 0);
  MOBULA_CHECK(starting == starting_.size());
}

}  // namespace mobula::workers
