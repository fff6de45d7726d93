#pragma once
// TimeLimit decides when the task that a worker executes has run for too long, and what happens then.
//
//   idle ──start(limit)──► running ──limit──► interrupted ──grace──► killed
//     ▲───────finish()────────┴───────finish()────┘
//
// First the task is interrupted: its Python code raises an exception, so that `finally` blocks run.
// A task that does not end within the grace (C code that keeps the interpreter, code that swallows the
// exception) can only be ended with its worker. A task that was interrupted has failed, whatever it
// returns afterwards.
//
// Threads: none. Owned by the process runtime, called under its lock.
// Time:    only from `now` arguments, which never go backwards.

#include <optional>

#include "base/time.h"

namespace mobula::tasks {

class TimeLimit {
 public:
  enum class Action { kNone, kInterrupt, kKill };

  explicit TimeLimit(Duration grace) : grace_(grace) {}

  // A task starts. A limit of zero is none.
  void start(Duration limit, Instant now);
  void finish();
  // What is to be done now. Each action is told once a task.
  Action advance(Instant now);
  // When to call advance() next, at the latest.
  std::optional<Instant> next_deadline() const;
  // The task that runs has been told to end.
  bool is_exceeded() const { return state_ == State::kInterrupted || state_ == State::kKilled; }

  // Aborts if the state makes no sense; for tests.
  void check_invariants() const;

 private:
  enum class State { kIdle, kRunning, kInterrupted, kKilled };

  const Duration grace_;
  State state_ = State::kIdle;
  Instant deadline_{0};  // Of the next action, in kRunning and kInterrupted.
};

}  // namespace mobula::tasks
