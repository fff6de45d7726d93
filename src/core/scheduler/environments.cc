// NodeScheduler: what runtime environments mean for leases.

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/scheduler/scheduler.h"

namespace mobula::scheduler {

Result<EnvironmentId> NodeScheduler::add_environment(JobId job, const Environments::Needs& needs) {
  if (!jobs_.contains(job)) {
    return fail(ErrorCode::kNotFound, "no job " + std::to_string(number(job)));
  }
  const EnvironmentId id{++next_environment_[job]};
  environments_.add({job, id}, needs);
  return id;
}

EnvironmentId NodeScheduler::environment_of(ProcessId process) const {
  return pool_.knows(process) ? pool_.environment_of(process).id : kJobEnvironment;
}

void NodeScheduler::environment_ready(EnvironmentKey environment, Instant now) {
  if (environments_.prepared(environment, now)) pool_.forget_failures(environment);
}

void NodeScheduler::environment_failed(EnvironmentKey environment, const std::string& text) {
  if (environments_.failed(environment, environment_effects_)) give_up(environment, text, {});
}

// The wishes of those who wait for it are taken back: a failure is told once for each.
void NodeScheduler::give_up(EnvironmentKey environment, const std::string& text, ProcessId worker) {
  EnvironmentFailed failed{environment, text, worker, {}};
  const std::vector<DemandId> waiting(demands_.waiting().begin(), demands_.waiting().end());
  for (const DemandId id : waiting) {
    const Demand& demand = demands_.at(id);
    const EnvironmentKey wanted{demands_.owner(id.owner).job, demand.environment};
    if (wanted != environment) continue;
    demands_.set_target(id, static_cast<uint32_t>(demand.leases.size()));
    note_needed(id.owner);
    failed.demands.push_back(id);
  }
  if (environment.id == kJobEnvironment) prestart_wanted_.erase(environment.job);
  pool_.forget_failures(environment);
  environments_.note_failure(environment, text);
  ++changes_;
  failed_environments_.push_back(std::move(failed));
}

// After all that waits has been looked at.
void NodeScheduler::look_at_environments(Instant now, Effects& effects) {
  pool_.for_each_environment([&](EnvironmentKey key) { environments_.note_in_use(key); });
  std::vector<Environments::Failure> failures;
  environments_.finish_look(now, environment_effects_, failures);
  for (const auto& failure : failures) give_up(failure.environment, failure.text, {});
  for (workers::EnvironmentEffect& effect : std::exchange(environment_effects_, {})) {
    std::visit([&](auto& what) { effects.emplace_back(std::move(what)); }, effect);
  }
}

// Workers that do not start in an environment that was prepared: it is not good.
void NodeScheduler::take_over_pool_effects(Effects& effects) {
  for (workers::Effect& effect : std::exchange(pool_effects_, {})) {
    if (auto* failed = std::get_if<StartFailed>(&effect)) {
      const EnvironmentKey key{failed->job, failed->environment};
      if (environments_.failed(key, environment_effects_)) {
        give_up(key, failed->text, failed->worker);
        continue;
      }
    }
    std::visit([&](auto& what) { effects.emplace_back(std::move(what)); }, effect);
  }
  for (workers::EnvironmentEffect& effect : std::exchange(environment_effects_, {})) {
    std::visit([&](auto& what) { effects.emplace_back(std::move(what)); }, effect);
  }
  for (EnvironmentFailed& failed : std::exchange(failed_environments_, {})) {
    effects.emplace_back(std::move(failed));
  }
}

}  // namespace mobula::scheduler
