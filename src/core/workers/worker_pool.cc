#include "core/workers/worker_pool.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::workers {

namespace {

std::string name_of(ProcessId worker, JobId job) {
  return "worker process " + std::to_string(number(worker)) + " of job " +
         std::to_string(number(job));
}

// With no room for more, others may wait for that of idle workers, which are none of theirs.
uint32_t idle_kept(const WorkerPool::Options& options, size_t workers) {
  return workers < options.workers_max ? options.keep_idle : 0;
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
    if (worker.environment.job != id || worker.state == State::kStopping) continue;
    begin_stop(worker_id, StopReason::kJobEnded, effects);
  }
  if (job.workers == 0) forget_job(id);
}

void WorkerPool::forget_job(JobId id) {
  jobs_.erase(id);
  std::erase_if(environments_, [id](const auto& entry) { return entry.first.job == id; });
}

void WorkerPool::start(EnvironmentKey key, ProcessId id, Instant now, Effects& effects) {
  MOBULA_CHECK(can_start(key, now));
  const bool is_new = workers_.try_emplace(id, Worker{.environment = key, .since = now}).second;
  MOBULA_CHECK(is_new);
  ++jobs_.at(key.job).workers;
  Environment& environment = environments_[key];
  ++environment.workers;
  ++environment.starting;
  starting_.emplace(now, id);
  effects.emplace_back(StartWorker{id, key.job, key.id});
}

bool WorkerPool::can_start(EnvironmentKey key, Instant now) const {
  const auto job = jobs_.find(key.job);
  if (job == jobs_.end() || job->second.ended || workers_.size() >= options_.workers_max) {
    return false;
  }
  const auto environment = environments_.find(key);
  return environment == environments_.end() || now >= environment->second.next_start;
}

uint32_t WorkerPool::starting_count(EnvironmentKey key) const {
  const auto found = environments_.find(key);
  return found == environments_.end() ? 0 : found->second.starting;
}

void WorkerPool::forget_failures(EnvironmentKey key) {
  const auto found = environments_.find(key);
  if (found == environments_.end()) return;
  found->second.failures = 0;
  found->second.next_start = Instant(0);
  forget_if_unused(key);
}

void WorkerPool::forget_if_unused(EnvironmentKey key) {
  const auto found = environments_.find(key);
  if (found->second.workers == 0 && found->second.failures == 0) environments_.erase(found);
}

std::optional<WorkerPool::Taken> WorkerPool::take(EnvironmentKey environment, ProcessId owner) {
  const auto job = jobs_.find(environment.job);
  if (job == jobs_.end()) return std::nullopt;
  const std::vector<ProcessId>& idle = job->second.idle;
  // Never the owner itself, which may be an idle worker with tasks of its own.
  const auto fits = [&](ProcessId id) {
    return id != owner && workers_.at(id).environment == environment;
  };
  const auto other = std::ranges::find_if(idle.rbegin(), idle.rend(), fits);
  if (other == idle.rend()) return std::nullopt;
  // A worker that knows the owner has its rings with it already.
  const auto known = std::ranges::find_if(other, idle.rend(), [&](ProcessId id) {
    return workers_.at(id).last_owner == owner && fits(id);
  });
  const ProcessId id = known == idle.rend() ? *other : *known;
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
  jobs_.at(worker.environment.job).idle.push_back(id);
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
    return fail(ErrorCode::kInvalidArgument,
                name_of(id, worker->environment.job) + " registered twice");
  }
  worker->was_ready = true;
  if (worker->state == State::kStopping) return false;
  leave_state(id, *worker);
  worker->state = State::kIdle;
  worker->since = now;
  jobs_.at(worker->environment.job).idle.push_back(id);
  Environment& environment = environments_.at(worker->environment);
  environment.failures = 0;
  environment.next_start = now;
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
  const EnvironmentKey key = worker->environment;
  --environments_.at(key).workers;
  const auto job = jobs_.find(key.job);
  --job->second.workers;
  workers_.erase(id);
  if (job->second.ended && job->second.workers == 0) {
    forget_job(key.job);
  } else {
    forget_if_unused(key);
  }
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
  const uint32_t kept = idle_kept(options_, workers_.size());
  if (job.idle.size() <= kept) return;
  size_t surplus = job.idle.size() - kept;
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
  for (const auto& [key, environment] : environments_) consider(environment.next_start);
  for (const auto& [id, job] : jobs_) {
    if (job.idle.size() <= idle_kept(options_, workers_.size())) continue;
    const auto oldest = std::ranges::find_if(
        job.idle, [&](ProcessId worker) { return !workers_.at(worker).needed; });
    if (oldest != job.idle.end()) consider(workers_.at(*oldest).since + options_.idle_timeout);
  }
  return next;
}

EnvironmentKey WorkerPool::environment_of(ProcessId worker) const {
  return workers_.at(worker).environment;
}

std::vector<WorkerPool::Description> WorkerPool::describe() const {
  const auto shown = [](State state) {
    switch (state) {
      case State::kStarting:
        return Shown::kStarting;
      case State::kIdle:
        return Shown::kIdle;
      case State::kLeased:
        return Shown::kLeased;
      case State::kStopping:
        break;
    }
    return Shown::kStopping;
  };
  std::vector<Description> list;
  list.reserve(workers_.size());
  for (const auto& [id, worker] : workers_) {
    list.push_back({id, worker.environment.job, shown(worker.state), worker.since});
  }
  return list;
}

bool WorkerPool::holds_lease(ProcessId id) const {
  const State state = workers_.at(id).state;
  return state == State::kLeased || state == State::kStopping;
}

WorkerPool::Worker* WorkerPool::find(ProcessId worker) {
  const auto found = workers_.find(worker);
  return found == workers_.end() ? nullptr : &found->second;
}

void WorkerPool::leave_state(ProcessId id, Worker& worker) {
  if (worker.state == State::kStarting) {
    --environments_.at(worker.environment).starting;
    starting_.erase({worker.since, id});
  } else if (worker.state == State::kIdle) {
    std::erase(jobs_.at(worker.environment.job).idle, id);
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
  const EnvironmentKey key = workers_.at(id).environment;
  Environment& environment = environments_.at(key);
  Duration delay = options_.start_backoff;
  for (uint32_t doubled = 0; doubled < environment.failures && delay < options_.start_backoff_max;
       ++doubled) {
    delay *= 2;
  }
  environment.next_start = now + std::min(delay, options_.start_backoff_max);
  ++environment.failures;
  if (environment.failures < options_.start_failures_reported) return;
  effects.emplace_back(
      StartFailed{key.job, key.id, id, environment.failures, name_of(id, key.job) + what});
}

void WorkerPool::check_invariants() const {
  MOBULA_CHECK(workers_.size() <= options_.workers_max);
  std::map<JobId, Job> counted;
  std::map<EnvironmentKey, Environment> counted_in;
  size_t idle = 0;
  for (const auto& [id, worker] : workers_) {
    const auto found = jobs_.find(worker.environment.job);
    MOBULA_CHECK(found != jobs_.end());
    MOBULA_CHECK(!found->second.ended || worker.state == State::kStopping);
    ++counted[worker.environment.job].workers;
    Environment& environment = counted_in[worker.environment];
    ++environment.workers;
    if (worker.state == State::kStarting) {
      ++environment.starting;
      MOBULA_CHECK(!worker.was_ready);
      MOBULA_CHECK(starting_.contains({worker.since, id}));
    }
    if (worker.state == State::kIdle) {
      ++idle;
      MOBULA_CHECK(std::ranges::count(found->second.idle, id) == 1);
    }
  }
  size_t starting = 0;
  for (const auto& [key, environment] : environments_) {
    MOBULA_CHECK(jobs_.contains(key.job));
    MOBULA_CHECK(environment.workers == counted_in[key].workers);
    MOBULA_CHECK(environment.starting == counted_in[key].starting);
    MOBULA_CHECK(environment.workers > 0 || environment.failures > 0);
    starting += environment.starting;
  }
  for (const auto& [id, job] : jobs_) {
    MOBULA_CHECK(job.workers == counted[id].workers);
    MOBULA_CHECK(!job.ended || job.workers > 0);
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
