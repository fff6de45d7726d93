#include "core/workers/environments.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mobula::workers {

void Environments::add(EnvironmentKey key, const Needs& needs) {
  Environment environment;
  environment.needs = needs;
  if (!needs.preparation) environment.state = State::kReady;
  MOBULA_CHECK(environments_.emplace(key, environment).second);
  if (needs.preparation && needs.early) want(key);
}

void Environments::end_job(JobId job) {
  const auto is_of_job = [job](const auto& entry) { return entry.first.job == job; };
  std::erase_if(environments_, is_of_job);
  std::erase_if(active_, [job](EnvironmentKey key) { return key.job == job; });
}

void Environments::want(EnvironmentKey key) {
  Environment& environment = environments_.at(key);
  if (!environment.needs.preparation || environment.wanted) return;
  environment.wanted = true;
  if (environment.state == State::kIdle && environment.turn == 0) environment.turn = next_turn_++;
  active_.insert(key);
}

void Environments::note_in_use(EnvironmentKey key) {
  const auto found = environments_.find(key);
  if (found != environments_.end() && active_.contains(key) &&
      found->second.state == State::kReady) {
    found->second.wanted = true;
  }
}

void Environments::finish_look(Instant now, EnvironmentEffects& effects,
                               std::vector<Failure>& failures) {
  const std::vector<EnvironmentKey> looked_at(active_.begin(), active_.end());
  for (const EnvironmentKey key : looked_at) {
    Environment& environment = environments_.at(key);
    const bool wanted = std::exchange(environment.wanted, false);
    const bool kept = wanted || (environment.needs.early && environment.state != State::kIdle);
    const auto& limit = environment.needs.time_limit;
    if (environment.state == State::kReady) {
      if (kept) environment.since = now;
      if (now - environment.since >= options_.unused_timeout) make_idle(key, environment, effects);
    } else if (environment.state == State::kIdle) {
      if (!wanted && !environment.needs.early) make_idle(key, environment, effects);
    } else if (!kept) {
      make_idle(key, environment, effects);
    } else if (limit && now - environment.since >= *limit) {
      const double seconds = std::chrono::duration<double>(*limit).count();
      std::string text = std::to_string(seconds);
      text.erase(text.find_last_not_of('0') + 1);
      if (text.back() == '.') text.pop_back();
      failures.push_back(
          {key, "it took more than " + text +
                    " seconds (setup_timeout_seconds of its config), and was stopped"});
      make_idle(key, environment, effects);
    }
  }
  prepare_next(now, effects);
}

void Environments::prepare_next(Instant now, EnvironmentEffects& effects) {
  std::vector<std::pair<uint64_t, EnvironmentKey>> queue;
  size_t preparing = 0;
  for (const EnvironmentKey key : active_) {
    const Environment& environment = environments_.at(key);
    if (environment.state == State::kPreparing) ++preparing;
    if (environment.turn != 0) queue.emplace_back(environment.turn, key);
  }
  std::ranges::sort(queue);
  for (const auto& [turn, key] : queue) {
    if (preparing >= options_.preparing_max) return;
    ++preparing;
    Environment& environment = environments_.at(key);
    environment.turn = 0;
    environment.state = State::kPreparing;
    environment.since = now;
    effects.emplace_back(PrepareEnvironment{key});
  }
}

std::optional<Instant> Environments::next_deadline() const {
  std::optional<Instant> next;
  for (const EnvironmentKey key : active_) {
    const Environment& environment = environments_.at(key);
    std::optional<Instant> at;
    if (environment.state == State::kPreparing && environment.needs.time_limit) {
      at = environment.since + *environment.needs.time_limit;
    } else if (environment.state == State::kReady && !environment.needs.early) {
      at = environment.since + options_.unused_timeout;
    }
    if (at && (!next || *at < *next)) next = at;
  }
  return next;
}

bool Environments::prepared(EnvironmentKey key, Instant now) {
  const auto found = environments_.find(key);
  if (found == environments_.end() || found->second.state != State::kPreparing) return false;
  found->second.state = State::kReady;
  found->second.took = now - found->second.since;
  found->second.failure.clear();
  found->second.since = now;
  return true;
}

bool Environments::failed(EnvironmentKey key, EnvironmentEffects& effects) {
  const auto found = environments_.find(key);
  if (found == environments_.end() || !found->second.needs.preparation) return false;
  if (found->second.state == State::kIdle) return false;
  make_idle(key, found->second, effects);
  return true;
}

void Environments::note_failure(EnvironmentKey key, const std::string& text) {
  const auto found = environments_.find(key);
  if (found != environments_.end()) found->second.failure = text.substr(0, kFailureBytesMax);
}

std::vector<Environments::Description> Environments::describe() const {
  std::vector<Description> list;
  for (const auto& [key, environment] : environments_) {
    if (!environment.needs.preparation) continue;
    const char* state = environment.failure.empty() ? "idle" : "failed";
    if (environment.turn != 0) state = "waits";
    if (environment.state == State::kPreparing) state = "preparing";
    if (environment.state == State::kReady) state = "ready";
    list.push_back({key, state, environment.since, environment.took, environment.failure});
  }
  return list;
}

void Environments::make_idle(EnvironmentKey key, Environment& environment,
                             EnvironmentEffects& effects) {
  if (environment.state != State::kIdle) effects.emplace_back(ReleaseEnvironment{key});
  environment.state = State::kIdle;
  environment.turn = 0;
  environment.wanted = false;
  environment.needs.early = false;  // Once, when the job begins.
  active_.erase(key);
}

void Environments::check_invariants() const {
  size_t active = 0;
  size_t preparing = 0;
  for (const auto& [key, environment] : environments_) {
    const bool waits = environment.turn != 0;
    if (!environment.needs.preparation) {
      MOBULA_CHECK(environment.state == State::kReady && !waits);
      continue;
    }
    MOBULA_CHECK(!waits || environment.state == State::kIdle);
    const bool is_active = waits || environment.state != State::kIdle;
    MOBULA_CHECK(is_active == active_.contains(key));
    active += is_active ? 1 : 0;
    preparing += environment.state == State::kPreparing ? 1 : 0;
  }
  MOBULA_CHECK(active == active_.size());
  MOBULA_CHECK(preparing <= options_.preparing_max);
}

}  // namespace mobula::workers
