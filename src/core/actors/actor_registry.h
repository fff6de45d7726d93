#pragma once
// ActorRegistry is a node daemon's table of actors: which there are and under which names, where each
// lives, who calls it, how often it may come back, and why it is dead.
//
// An actor:  placing ──on_placed──► creating ──on_created──► alive
//               ▲                      │  worker died          │
//               └──────────────────────┴──(restarts left)──────┘
//            from any state: kill, error in its constructor, its own exit, last handle gone, end of its
//            job, no restarts left ──► dead ──last handle gone──► forgotten
//
// Who holds handles is not counted here: the handle is a shared object, whose directory entry says when
// nobody has one any more (on_unreachable). Calls do not pass through here either: a caller connects
// once, is told where the actor is (Introduce), and of every change after that.
//
// The shell, after each event, carries the effects out in their order. It
// - asks the scheduler for a worker from RequestWorker until DismissWorker; one that has died is
//   replaced by itself, and on_placed() says by which;
// - sends PeerDied to the peers of a dead worker only after the effects of on_worker_died(), so that a
//   caller knows what becomes of the actor before it looks at the calls that were in flight.
//
// Threads: none. Owned and called by the node loop only.
// Limits:  Options.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/bundle.h"
#include "base/ids.h"
#include "base/resources.h"
#include "base/result.h"

namespace mobula::actors {

struct ActorOptions {
  JobId job{};  // It ends with it.
  std::string class_name{};
  std::string name{};  // Empty: none.
  std::string name_space{};
  int32_t restarts_max = 0;  // -1: without limit.
  bool detached = false;     // Its job is its own.
  // For people only:
  ResourceSet resources{};  // To be placed.
  int64_t cpus_for_life = 0;
  PlacementGroupId group = kNoGroup;
};

enum class Phase : uint8_t { kPlacing, kCreating, kAlive, kDead };

enum class DeathReason : uint8_t { kOther, kWorkerDied, kKilled, kOutOfScope, kJobEnded };

struct Death {
  bool in_constructor = false;  // It raised `error`, in letters for Python; or empty.
  bool unschedulable = false;
  bool environment_failed = false;
  bool group_removed = false;
  DeathReason reason = DeathReason::kOther;
  std::string why;  // One sentence of `text`.
  std::string text;
  std::vector<std::byte> error;
};

// The actor needs a worker for as long as it lives.
struct RequestWorker {
  ObjectId actor;
};
// It needs none any more. One that it has is killed.
struct DismissWorker {
  ObjectId actor;
};
// Its worker is to end in order, soon: on_worker_died() follows.
struct AskToExit {
  ObjectId actor;
  ProcessId worker;
};
// Its worker is to be killed; the actor may come back.
struct KillWorker {
  ObjectId actor;
  ProcessId worker;
};
// It was made: what only its creation needed is given back.
struct Settle {
  ObjectId actor;
};
// The caller may call it there from now on.
struct Introduce {
  ObjectId actor;
  ProcessId caller;
  ProcessId worker;
};
struct TellRestarting {
  ObjectId actor;
  ProcessId caller;
  std::string text;
};
struct TellDead {
  ObjectId actor;
  ProcessId caller;
  std::shared_ptr<const Death> death;
};
// Nothing will be asked for it again: what was kept for its restarts may go.
struct Ended {
  ObjectId actor;
};
using Effect = std::variant<RequestWorker, DismissWorker, AskToExit, KillWorker, Settle, Introduce,
                            TellRestarting, TellDead, Ended>;
using Effects = std::vector<Effect>;

class ActorRegistry {
 public:
  struct Options {
    size_t actors_max = 1'000'000;  // Dead ones that somebody still refers to included.
    size_t forgotten_kept = 1000;   // Of those to which nobody refers, the last; for people.
  };
  struct Actor {
    ActorOptions options;
    Phase phase = Phase::kPlacing;
    ProcessId worker{};     // While creating or alive.
    int64_t pid = 0;        // Of the last one; 0: not known.
    std::string repr;       // What the instance calls itself, if it does; for people.
    uint32_t restarts = 0;  // Times that it came back, or tries to.
    bool was_made = false;  // Else its callers wait for the first instance, however often it dies.
    bool unreachable = false;  // No handle is left.
    bool asked_to_exit = false;
    std::string exit_reason;  // It said that it leaves, or a kill is under way.
    bool exits_for_good = false;
    bool was_killed = false;  // That is `exit_reason`.
    std::set<ProcessId> callers;
    std::shared_ptr<const Death> death;  // Once it is dead.

    // By its name, by who has no handle.
    bool is_to_be_found() const { return phase != Phase::kDead && !unreachable; }
  };

  explicit ActorRegistry(Options options) : options_(options) {}

  // kInvalidArgument: the id is in use, or the name is taken (find_name() tells by whom).
  // kRetryLater: too many actors.
  Result<void> create(ObjectId id, ActorOptions options, Effects& effects);
  // nullptr: unknown, or forgotten.
  const Actor* find(ObjectId id) const;
  // An actor that is to be found, or a nil id.
  ObjectId find_name(const std::string& name_space, const std::string& name) const;
  // An actor that somebody has a handle of, by the text that actor_hex() makes; or a nil id.
  ObjectId find_id(const std::string& hex) const;
  ObjectId actor_of(ProcessId worker) const;

  // ---- its worker
  // `pid` is for people.
  void on_placed(ObjectId id, ProcessId worker, int64_t pid = 0);
  void on_created(ProcessId worker, Effects& effects, std::string repr = {});
  // Its constructor raised. It does not come back.
  void on_constructor_failed(ProcessId worker, std::string text, std::vector<std::byte> error,
                             Effects& effects);
  // It leaves of its own will.
  void on_exiting(ProcessId worker, std::string reason);
  // `cause`: a sentence for people. Nothing happens for a worker that is no actor's any more.
  void on_worker_died(ProcessId worker, const std::string& cause, Effects& effects);
  // Nothing here can ever hold it, and nobody wants to wait for what can.
  void on_unschedulable(ObjectId id, const std::string& text, Effects& effects);
  // Its runtime environment cannot be set up.
  void on_environment_failed(ObjectId id, const std::string& text, Effects& effects);
  // The placement group in which it waits was removed.
  void on_group_removed(ObjectId id, Effects& effects);

  // ---- its callers
  // The caller is answered, now or later, and told of every change until it disconnects.
  void connect(ObjectId id, ProcessId caller, Effects& effects);
  void disconnect(ObjectId id, ProcessId caller);
  void kill(ObjectId id, bool no_restart, Effects& effects);
  // Nobody has a handle, and so nobody has a pending call.
  void on_unreachable(ObjectId id, Effects& effects);

  void on_process_gone(ProcessId process);
  void on_job_ended(JobId job, const std::string& reason, Effects& effects);

  const std::map<ObjectId, Actor>& all() const { return actors_; }
  // Those that are dead and forgotten, without the bytes of their errors; the oldest first.
  const std::deque<std::pair<ObjectId, Actor>>& forgotten() const { return forgotten_; }
  // Aborts if the books do not balance. O(everything); for tests.
  void check_invariants() const;

 private:
  void die(ObjectId id, Actor& actor, Death death, Effects& effects);
  void leave_worker(Actor& actor);
  void give_up_name(ObjectId id, const Actor& actor);
  void forget_if_done(ObjectId id);
  Death death_of(ObjectId id, const Actor& actor, DeathReason reason, std::string why) const;
  std::string describe(ObjectId id, const Actor& actor, const std::string& why) const;

  const Options options_;
  std::map<ObjectId, Actor> actors_;
  std::map<std::pair<std::string, std::string>, ObjectId> names_;  // Of those to be found.
  std::map<ProcessId, ObjectId> by_worker_;
  std::map<ProcessId, std::set<ObjectId>> by_caller_;
  std::deque<std::pair<ObjectId, Actor>> forgotten_;
};

// 32 hexadecimal digits.
std::string actor_hex(ObjectId id);

}  // namespace mobula::actors
