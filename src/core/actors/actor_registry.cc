#include "core/actors/actor_registry.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "base/check.h"

namespace mobula::actors {

namespace {

constexpr const char* kOutOfScope =
    "The actor is dead because all references to the actor were removed.";

}  // namespace

std::string actor_hex(ObjectId id) {
  char text[40];
  std::snprintf(text, sizeof text, "%08x%08x%016llx", number(id.node), number(id.creator),
                static_cast<unsigned long long>(id.index));
  return text;
}

Result<void> ActorRegistry::create(ObjectId id, ActorOptions options, Effects& effects) {
  if (actors_.contains(id)) return fail(ErrorCode::kInvalidArgument, "an actor made twice");
  if (actors_.size() >= options_.actors_max) {
    return fail(ErrorCode::kRetryLater, "too many actors on this node");
  }
  if (!options.name.empty()) {
    const auto [taken, is_new] = names_.try_emplace({options.name_space, options.name}, id);
    if (!is_new) return fail(ErrorCode::kInvalidArgument, "the name is taken");
  }
  actors_[id].options = std::move(options);
  effects.emplace_back(RequestWorker{id});
  return {};
}

const ActorRegistry::Actor* ActorRegistry::find(ObjectId id) const {
  const auto found = actors_.find(id);
  return found == actors_.end() ? nullptr : &found->second;
}

ObjectId ActorRegistry::find_name(const std::string& name_space, const std::string& name) const {
  const auto found = names_.find({name_space, name});
  return found == names_.end() ? ObjectId{} : found->second;
}

ObjectId ActorRegistry::find_id(const std::string& hex) const {
  ObjectId id;
  if (hex.size() != 32 ||
      !std::ranges::all_of(hex, [](unsigned char c) { return std::isxdigit(c); })) {
    return {};
  }
  id.node = NodeId{static_cast<uint32_t>(std::stoul(hex.substr(0, 8), nullptr, 16))};
  id.creator = ProcessId{static_cast<uint32_t>(std::stoul(hex.substr(8, 8), nullptr, 16))};
  id.index = std::stoull(hex.substr(16), nullptr, 16);
  const auto found = actors_.find(id);
  return found == actors_.end() || found->second.unreachable ? ObjectId{} : id;
}

ObjectId ActorRegistry::actor_of(ProcessId worker) const {
  const auto found = by_worker_.find(worker);
  return found == by_worker_.end() ? ObjectId{} : found->second;
}

// ---- its worker
// ----------------------------------------------------------------------------------

void ActorRegistry::on_placed(ObjectId id, ProcessId worker, int64_t pid) {
  const auto found = actors_.find(id);
  if (found == actors_.end() || found->second.phase != Phase::kPlacing) return;
  MOBULA_CHECK(by_worker_.try_emplace(worker, id).second);
  found->second.phase = Phase::kCreating;
  found->second.worker = worker;
  found->second.pid = pid;
}

void ActorRegistry::on_created(ProcessId worker, Effects& effects, std::string repr) {
  const ObjectId id = actor_of(worker);
  if (id.is_nil()) return;
  Actor& actor = actors_.at(id);
  if (actor.phase != Phase::kCreating) return;
  actor.phase = Phase::kAlive;
  actor.was_made = true;
  actor.repr = std::move(repr);
  effects.emplace_back(Settle{id});
  for (const ProcessId caller : actor.callers) {
    effects.emplace_back(Introduce{id, caller, worker});
  }
  if (!actor.unreachable) return;
  actor.asked_to_exit = true;
  effects.emplace_back(AskToExit{id, worker});
}

void ActorRegistry::on_constructor_failed(ProcessId worker, std::string text,
                                          std::vector<std::byte> error, Effects& effects) {
  const ObjectId id = actor_of(worker);
  if (id.is_nil()) return;
  Death death;
  death.in_constructor = true;
  death.text = std::move(text);
  death.error = std::move(error);
  die(id, actors_.at(id), std::move(death), effects);
}

void ActorRegistry::on_exiting(ProcessId worker, std::string reason) {
  const ObjectId id = actor_of(worker);
  if (id.is_nil()) return;
  Actor& actor = actors_.at(id);
  actor.exit_reason = std::move(reason);
  actor.exits_for_good = true;
}

void ActorRegistry::on_worker_died(ProcessId worker, const std::string& cause, Effects& effects) {
  const ObjectId id = actor_of(worker);
  if (id.is_nil()) return;
  Actor& actor = actors_.at(id);
  const bool reason_given = !actor.exit_reason.empty();
  const std::string why = reason_given
                              ? actor.exit_reason
                              : "The actor is dead because its worker process has died: " + cause;
  const bool may_return = actor.options.restarts_max < 0 ||
                          actor.restarts < static_cast<uint32_t>(actor.options.restarts_max);
  if (actor.exits_for_good || actor.asked_to_exit || actor.unreachable || !may_return) {
    const DeathReason reason = actor.was_killed ? DeathReason::kKilled : DeathReason::kWorkerDied;
    Death death = death_of(id, actor, reason, why);
    if (!actor.exits_for_good && actor.asked_to_exit) {
      death = death_of(id, actor, DeathReason::kOutOfScope, kOutOfScope);
    } else if (!reason_given && actor.restarts > 0) {
      death.text += "\nIt was restarted " + std::to_string(actor.restarts) + " times before.";
    }
    return die(id, actor, std::move(death), effects);
  }
  leave_worker(actor);
  ++actor.restarts;
  actor.exit_reason.clear();
  actor.was_killed = false;
  actor.phase = Phase::kPlacing;
  if (!actor.was_made) return;
  for (const ProcessId caller : actor.callers) {
    effects.emplace_back(TellRestarting{id, caller, "The actor is restarting. " + why});
  }
}

void ActorRegistry::on_unschedulable(ObjectId id, const std::string& text, Effects& effects) {
  const auto found = actors_.find(id);
  if (found == actors_.end() || found->second.phase != Phase::kPlacing) return;
  Death death;
  death.unschedulable = true;
  death.text = text;
  die(id, found->second, std::move(death), effects);
}

void ActorRegistry::on_environment_failed(ObjectId id, const std::string& text, Effects& effects) {
  const auto found = actors_.find(id);
  if (found == actors_.end() || found->second.phase != Phase::kPlacing) return;
  Death death;
  death.environment_failed = true;
  death.text = text;
  die(id, found->second, std::move(death), effects);
}

void ActorRegistry::on_group_removed(ObjectId id, Effects& effects) {
  const auto found = actors_.find(id);
  if (found == actors_.end() || found->second.phase != Phase::kPlacing) return;
  Death death =
      death_of(id, found->second, DeathReason::kOther, "Its placement group was removed.");
  death.group_removed = true;
  die(id, found->second, std::move(death), effects);
}

// ---- its callers
// ---------------------------------------------------------------------------------

void ActorRegistry::connect(ObjectId id, ProcessId caller, Effects& effects) {
  const auto found = actors_.find(id);
  if (found == actors_.end()) {
    Death death;
    death.text = "The actor " + actor_hex(id) + " is gone: its last handle had gone before.";
    effects.emplace_back(TellDead{id, caller, std::make_shared<const Death>(std::move(death))});
    return;
  }
  Actor& actor = found->second;
  actor.callers.insert(caller);
  by_caller_[caller].insert(id);
  if (actor.phase == Phase::kAlive) {
    effects.emplace_back(Introduce{id, caller, actor.worker});
  } else if (actor.phase == Phase::kDead) {
    effects.emplace_back(TellDead{id, caller, actor.death});
  } else if (actor.was_made) {
    effects.emplace_back(TellRestarting{id, caller, "The actor is restarting."});
  }
}

void ActorRegistry::disconnect(ObjectId id, ProcessId caller) {
  const auto found = actors_.find(id);
  if (found == actors_.end() || found->second.callers.erase(caller) == 0) return;
  const auto of_caller = by_caller_.find(caller);
  of_caller->second.erase(id);
  if (of_caller->second.empty()) by_caller_.erase(of_caller);
}

void ActorRegistry::kill(ObjectId id, bool no_restart, Effects& effects) {
  const auto found = actors_.find(id);
  if (found == actors_.end() || found->second.phase == Phase::kDead) return;
  Actor& actor = found->second;
  const std::string why = "The actor is dead because it was killed by `ray.kill`.";
  if (no_restart) return die(id, actor, death_of(id, actor, DeathReason::kKilled, why), effects);
  if (actor.phase == Phase::kPlacing || !actor.exit_reason.empty()) return;
  actor.exit_reason = why;
  actor.was_killed = true;
  effects.emplace_back(KillWorker{id, actor.worker});
}

void ActorRegistry::on_unreachable(ObjectId id, Effects& effects) {
  const auto found = actors_.find(id);
  if (found == actors_.end()) return;
  Actor& actor = found->second;
  give_up_name(id, actor);  // Who asks for it by name from now on could not hold it any more.
  actor.unreachable = true;
  switch (actor.phase) {
    case Phase::kPlacing:  // It is forgotten by that.
      die(id, actor, death_of(id, actor, DeathReason::kOutOfScope, kOutOfScope), effects);
      break;
    case Phase::kCreating:
      break;  // When it is made.
    case Phase::kAlive:
      actor.asked_to_exit = true;
      effects.emplace_back(AskToExit{id, actor.worker});
      break;
    case Phase::kDead:
      forget_if_done(id);
      break;
  }
}

void ActorRegistry::on_process_gone(ProcessId process) {
  const auto found = by_caller_.find(process);
  if (found == by_caller_.end()) return;
  for (const ObjectId id : found->second) actors_.at(id).callers.erase(process);
  by_caller_.erase(found);
}

void ActorRegistry::on_job_ended(JobId job, const std::string& reason, Effects& effects) {
  std::vector<ObjectId> ids;
  for (const auto& [id, actor] : actors_) {
    if (actor.options.job == job) ids.push_back(id);
  }
  for (const ObjectId id : ids) {
    Actor& actor = actors_.at(id);
    if (actor.phase == Phase::kDead) continue;
    const std::string why = "The actor is dead because " + reason + ".";
    die(id, actor, death_of(id, actor, DeathReason::kJobEnded, why), effects);
  }
}

// ---- parts
// ---------------------------------------------------------------------------------------

void ActorRegistry::leave_worker(Actor& actor) {
  if (actor.worker == ProcessId{}) return;
  by_worker_.erase(actor.worker);
  actor.worker = ProcessId{};
}

void ActorRegistry::die(ObjectId id, Actor& actor, Death death, Effects& effects) {
  MOBULA_CHECK(actor.phase != Phase::kDead);
  leave_worker(actor);
  actor.phase = Phase::kDead;
  actor.death = std::make_shared<const Death>(std::move(death));
  give_up_name(id, actor);
  for (const ProcessId caller : actor.callers) {
    effects.emplace_back(TellDead{id, caller, actor.death});
  }
  effects.emplace_back(DismissWorker{id});
  effects.emplace_back(Ended{id});
  forget_if_done(id);
}

void ActorRegistry::give_up_name(ObjectId id, const Actor& actor) {
  const auto found = names_.find({actor.options.name_space, actor.options.name});
  if (found != names_.end() && found->second == id) names_.erase(found);
}

void ActorRegistry::forget_if_done(ObjectId id) {
  Actor& actor = actors_.at(id);
  if (actor.phase != Phase::kDead || !actor.unreachable) return;
  for (const ProcessId caller : actor.callers) {
    const auto of_caller = by_caller_.find(caller);
    of_caller->second.erase(id);
    if (of_caller->second.empty()) by_caller_.erase(of_caller);
  }
  if (options_.forgotten_kept > 0) {
    if (forgotten_.size() == options_.forgotten_kept) forgotten_.pop_front();
    Actor kept = std::move(actor);
    Death death = *kept.death;
    death.error.clear();
    kept.death = std::make_shared<const Death>(std::move(death));
    kept.callers.clear();
    forgotten_.emplace_back(id, std::move(kept));
  }
  actors_.erase(id);
}

Death ActorRegistry::death_of(ObjectId id, const Actor& actor, DeathReason reason,
                              std::string why) const {
  Death death;
  death.reason = reason;
  death.text = describe(id, actor, why);
  death.why = std::move(why);
  return death;
}

std::string ActorRegistry::describe(ObjectId id, const Actor& actor, const std::string& why) const {
  return "The actor died unexpectedly before finishing this task.\n\tclass_name: " +
         actor.options.class_name + "\n\tactor_id: " + actor_hex(id) +
         (actor.pid == 0 ? "" : "\n\tpid: " + std::to_string(actor.pid)) +
         (actor.options.name.empty() ? "" : "\n\tname: " + actor.options.name) +
         "\n\tnamespace: " + actor.options.name_space + "\n\tip: 127.0.0.1\n" + why;
}

void ActorRegistry::check_invariants() const {
  std::map<ProcessId, std::set<ObjectId>> by_caller;
  size_t names = 0;
  size_t workers = 0;
  for (const auto& [id, actor] : actors_) {
    const bool has_worker = actor.phase == Phase::kCreating || actor.phase == Phase::kAlive;
    MOBULA_CHECK(has_worker == (actor.worker != ProcessId{}));
    if (has_worker) MOBULA_CHECK(by_worker_.at(actor.worker) == id);
    workers += has_worker ? 1 : 0;
    const bool has_name = !actor.options.name.empty() && actor.is_to_be_found();
    if (has_name) {
      MOBULA_CHECK(names_.at(std::pair(actor.options.name_space, actor.options.name)) == id);
    }
    names += has_name ? 1 : 0;
    MOBULA_CHECK(!(actor.phase == Phase::kDead && actor.unreachable));
    MOBULA_CHECK((actor.phase == Phase::kDead) == (actor.death != nullptr));
    MOBULA_CHECK(!actor.asked_to_exit || actor.unreachable);
    MOBULA_CHECK(actor.options.restarts_max < 0 ||
                 actor.restarts <= static_cast<uint32_t>(actor.options.restarts_max));
    for (const ProcessId caller : actor.callers) by_caller[caller].insert(id);
  }
  MOBULA_CHECK(by_caller == by_caller_);
  MOBULA_CHECK(forgotten_.size() <= options_.forgotten_kept);
  MOBULA_CHECK(names == names_.size() && workers == by_worker_.size());
}

}  // namespace mobula::actors
