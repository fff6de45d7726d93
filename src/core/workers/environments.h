#pragma once
// Environments decides when the runtime environments of jobs are prepared, given up and released.
//
// An environment is what a worker is started in besides what its job says: variables, directories,
// installed packages. Preparing one may take minutes, so no worker is started in it before it is
// ready, and nothing else waits for it.
//
//   idle ──wanted──► preparing ──prepared()──► ready ──unused for a while──► idle
//     ▲                  │
//     └──failed(), took too long, or nobody wants it any more
//
// Every job has its own environment, kJobEnvironment, in which its workers run unless something else
// is asked for. One that needs no preparation is always ready.
//
// A look is what NodeScheduler::schedule() does: want() for all that waits, note_in_use() for all that
// workers are in, then finish_look().
// A failure is not remembered: who still wants the environment, or wants it again, has it prepared
// again. So NodeScheduler takes back the wishes that a failure was reported for.
//
// Threads: none. Time: only from the `now` arguments, which never go backwards.
// Cost:    a look is O(environments that are wanted, preparing or ready).
// Limits:  preparing_max at a time; the others wait for their turn, first come first served.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/time.h"

namespace mobula::workers {

struct EnvironmentKey {
  JobId job{};
  EnvironmentId id{};
  auto operator<=>(const EnvironmentKey&) const = default;
};

// prepared() or failed() follows, unless it is given up before.
struct PrepareEnvironment {
  EnvironmentKey environment;
};
// Stop preparing it, or let go of what was prepared. No worker runs in it.
struct ReleaseEnvironment {
  EnvironmentKey environment;
};
using EnvironmentEffect = std::variant<PrepareEnvironment, ReleaseEnvironment>;
using EnvironmentEffects = std::vector<EnvironmentEffect>;

class Environments {
 public:
  struct Options {
    uint32_t preparing_max = 4;
    Duration unused_timeout = std::chrono::seconds(10);
  };
  struct Needs {
    bool preparation = false;
    bool early = false;  // Of a job's own: prepared when the job begins, without being wanted.
    std::optional<Duration> time_limit{};  // Of its preparation.
  };
  // For those who look on.
  struct Description {
    EnvironmentKey environment;
    const char* state;  // "waits" for its turn, "preparing", "ready", "failed", "idle".
    Instant since{0};   // Of "preparing" and "ready".
    Duration took{0};   // Its last preparation.
    std::string failure;
  };
  struct Failure {
    EnvironmentKey environment;
    std::string text;
  };

  explicit Environments(Options options) : options_(options) {}

  // A new environment of a job.
  void add(EnvironmentKey key, const Needs& needs);
  bool knows(EnvironmentKey key) const { return environments_.contains(key); }
  // All of them are forgotten; what was prepared for them ends with the job.
  void end_job(JobId job);

  bool is_ready(EnvironmentKey key) const { return environments_.at(key).state == State::kReady; }
  const Needs& needs(EnvironmentKey key) const { return environments_.at(key).needs; }

  // In this look: something waits for the environment.
  void want(EnvironmentKey key);
  // In this look: there are workers in it. It is kept if it is ready.
  void note_in_use(EnvironmentKey key);
  // Prepares what was wanted, gives up what was not, and tells which took too long.
  void finish_look(Instant now, EnvironmentEffects& effects, std::vector<Failure>& failures);
  std::optional<Instant> next_deadline() const;

  // All that need preparation.
  std::vector<Description> describe() const;

  // False: it was given up meanwhile.
  bool prepared(EnvironmentKey key, Instant now);
  // Its preparation failed, or workers do not start in it. False: it is not known, or idle.
  bool failed(EnvironmentKey key, EnvironmentEffects& effects);
  // Why it could not be prepared, until it is prepared again. Of the text the first part is kept.
  void note_failure(EnvironmentKey key, const std::string& text);

  void check_invariants() const;

 private:
  enum class State { kIdle, kPreparing, kReady };
  struct Environment {
    Needs needs;
    State state = State::kIdle;
    bool wanted = false;  // In this look.
    uint64_t turn = 0;    // When it began to wait for being prepared; 0: it does not.
    Instant since{0};     // Preparing; or ready and last wanted.
    Duration took{0};     // Its last preparation.
    std::string failure;  // Why there is none; at most kFailureBytesMax.
  };
  static constexpr size_t kFailureBytesMax = 2048;

  void make_idle(EnvironmentKey key, Environment& environment, EnvironmentEffects& effects);
  void prepare_next(Instant now, EnvironmentEffects& effects);

  const Options options_;
  uint64_t next_turn_ = 1;
  std::map<EnvironmentKey, Environment> environments_;
  std::set<EnvironmentKey> active_;  // Not idle, or waiting for a turn; without the always ready.
};

}  // namespace mobula::workers
