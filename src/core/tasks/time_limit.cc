#include "core/tasks/time_limit.h"

#include "base/check.h"

namespace mobula::tasks {

void TimeLimit::start(Duration limit, Instant now) {
  MOBULA_CHECK(limit >= Duration(0));
  state_ = limit > Duration(0) ? State::kRunning : State::kIdle;
  deadline_ = now + limit;
}

void TimeLimit::finish() { state_ = State::kIdle; }

TimeLimit::Action TimeLimit::advance(Instant now) {
  const auto deadline = next_deadline();
  if (!deadline || now < *deadline) return Action::kNone;
  if (state_ == State::kRunning) {
    state_ = State::kInterrupted;
    deadline_ = now + grace_;  // From now: whoever calls may have been late.
    return Action::kInterrupt;
  }
  state_ = State::kKilled;
  return Action::kKill;
}

std::optional<Instant> TimeLimit::next_deadline() const {
  if (state_ == State::kRunning || state_ == State::kInterrupted) return deadline_;
  return std::nullopt;
}

void TimeLimit::check_invariants() const {
  MOBULA_CHECK(grace_ >= Duration(0));
  MOBULA_CHECK(next_deadline().has_value() == (state_ != State::kIdle && state_ != State::kKilled));
  MOBULA_CHECK(!is_exceeded() || state_ != State::kRunning);
}

}  // namespace mobula::tasks
