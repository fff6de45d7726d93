#include "node/actor_shell.h"

#include <fmt/format.h>

#include <array>
#include <utility>
#include <variant>

#include "base/text.h"
#include "node/log.h"

namespace mobula::node {

namespace {

using wire::fb::UplinkBody;

constexpr auto kPostponedFor = std::chrono::milliseconds(100);
constexpr size_t kErrorBytesMax = 2 * wire::kInlineValueBytesMax;  // With names of functions.

constexpr size_t kReprBytesMax = 1024;

std::string text_of(const flatbuffers::String* text) { return text ? text->str() : ""; }

std::string repr_of(const wire::fb::ActorMade& record) {
  return std::string(cut_text(text_of(record.repr()), kReprBytesMax));
}

}  // namespace

Result<bool> ActorShell::on_record(const Session& session, const wire::fb::ToDaemon& record) {
  actors::Effects effects;
  Result<void> result;
  switch (record.body_type()) {
    case UplinkBody::ActorCreate:
      result = on_create(session, *record.body_as_ActorCreate());
      break;
    case UplinkBody::ActorConnect:
      registry_.connect(wire::from_wire(*record.body_as_ActorConnect()->actor()), session.id,
                        effects);
      break;
    case UplinkBody::ActorDisconnect:
      registry_.disconnect(wire::from_wire(*record.body_as_ActorDisconnect()->actor()), session.id);
      break;
    case UplinkBody::ActorKill: {
      const auto* kill = record.body_as_ActorKill();
      registry_.kill(wire::from_wire(*kill->actor()), kill->no_restart(), effects);
      break;
    }
    case UplinkBody::ActorFind:
      result = on_find(session, *record.body_as_ActorFind());
      break;
    case UplinkBody::ActorList:
      on_list(session, *record.body_as_ActorList());
      break;
    case UplinkBody::ActorMade:
      registry_.on_created(session.id, effects, repr_of(*record.body_as_ActorMade()));
      break;
    case UplinkBody::ActorFailed:
      result = on_failed(session, *record.body_as_ActorFailed());
      break;
    case UplinkBody::ActorExiting:
      registry_.on_exiting(session.id, text_of(record.body_as_ActorExiting()->reason()));
      break;
    default:
      return false;
  }
  carry_out(effects);
  MOBULA_TRY(result);
  return true;
}

// ---- records
// -------------------------------------------------------------------------------------

Result<void> ActorShell::on_create(const Session& session, const wire::fb::ActorCreate& record) {
  const auto resources = wire::read_resources(record.resources());
  MOBULA_TRY(resources);
  actors::ActorOptions options;
  options.job = session.job;
  options.class_name = text_of(record.class_name());
  options.name = text_of(record.name());
  options.name_space = text_of(record.namespace_name());
  options.restarts_max = record.restarts_max();
  options.detached = record.detached();
  if (!options.name.empty()) {
    const ObjectId taken = registry_.find_name(options.name_space, options.name);
    if (!taken.is_nil()) {
      if (!record.get_if_exists()) {
        answer(session.id, record.request(), {}, "taken");
        return {};
      }
      MOBULA_TRY(objects_.hold(session.id, {&taken, 1}));
      answer(session.id, record.request(), taken, "");
      return {};
    }
  }
  return create(session, record, std::move(options), *resources);
}

Result<void> ActorShell::create(const Session& session, const wire::fb::ActorCreate& record,
                                actors::ActorOptions options, const ResourceSet& resources) {
  const ObjectId actor = wire::from_wire(*record.actor());
  const ObjectId spec = wire::from_wire(*record.spec());
  const bool held =
      objects_.directory().hold_count(actor) > 0 && objects_.directory().hold_count(spec) > 0;
  if (actor.creator != session.id || !held || registry_.find(actor) != nullptr) {
    return fail(ErrorCode::kInvalidArgument, "an actor that the sender cannot make");
  }
  auto environment = leases_.environment_of(session, record.runtime_environment());
  MOBULA_TRY(environment);
  if (!*environment) environment = leases_.scheduler().environment_of(session.id);
  if (options.detached) {
    // Which is its job's own then.
    options.job = callbacks_.make_job({session.job, **environment});
    environment = kJobEnvironment;
  }
  const ProcessId id = leases_.scheduler().new_process();
  MOBULA_TRY(objects_.add_process(id, options.job));
  std::vector<ObjectId> kept = {spec};
  if (options.detached) kept.push_back(actor);
  MOBULA_TRY(objects_.hold(id, kept));
  objects_.watch(actor);
  StandIn& stand_in = stand_ins_[actor];
  stand_in.id = id;
  stand_in.spec = spec;
  if (options.detached) stand_in.own_job = options.job;
  stand_in.resources = resources;
  stand_in.depth = record.depth();
  stand_in.bundle = wire::read_bundle(record.bundle());
  stand_in.infeasible_is_error = record.infeasible_is_error();
  options.resources = resources;
  options.cpus_for_life = record.cpus_for_life();
  options.group = stand_in.bundle.group;
  by_stand_in_[id] = actor;
  log_info(fmt::format("actor={} class={} name={} event=created by={}", actors::actor_hex(actor),
                       options.class_name, options.name, number(session.id)));
  const auto added = leases_.scheduler().add_actor(
      id, options.job,
      {resources, record.cpus_for_life(), record.depth(), **environment, stand_in.bundle});
  actors::Effects effects;
  Result<void> created = registry_.create(actor, std::move(options), effects);
  if (created && !added) {
    registry_.on_unschedulable(actor, added.error().message, effects);
  }
  carry_out(effects);
  if (!created) carry_out(actors::DismissWorker{actor});
  if (!created) carry_out(actors::Ended{actor});
  answer(session.id, record.request(), actor, created ? "" : created.error().message);
  return {};
}

Result<void> ActorShell::on_find(const Session& session, const wire::fb::ActorFind& record) {
  const std::string name = text_of(record.name());
  const std::string name_space = text_of(record.namespace_name());
  const ObjectId found =
      name.empty() ? registry_.find_id(name_space) : registry_.find_name(name_space, name);
  if (!found.is_nil()) MOBULA_TRY(objects_.hold(session.id, {&found, 1}));
  answer(session.id, record.request(), found, "");
  return {};
}

void ActorShell::on_list(const Session& session, const wire::fb::ActorList& record) {
  sessions_.send(session.id, [&](wire::Builder& builder) {
    std::vector<flatbuffers::Offset<wire::fb::ActorName>> names;
    for (const auto& [id, actor] : registry_.all()) {
      if (!actor.is_to_be_found() || actor.options.name.empty()) continue;
      if (record.namespace_name() != nullptr &&
          record.namespace_name()->str() != actor.options.name_space) {
        continue;
      }
      names.push_back(wire::fb::CreateActorNameDirect(builder, actor.options.name.c_str(),
                                                      actor.options.name_space.c_str()));
    }
    const auto list = builder.CreateVector(names);
    return wire::fb::CreateActorAnswer(builder, record.request(), nullptr, list);
  });
}

Result<void> ActorShell::on_failed(const Session& session, const wire::fb::ActorFailed& record) {
  std::vector<std::byte> error;
  if (const auto* bytes = record.error()) {
    if (bytes->size() > kErrorBytesMax) {
      return fail(ErrorCode::kInvalidArgument, "an actor's error is too large");
    }
    const auto* begin = reinterpret_cast<const std::byte*>(bytes->data());
    error.assign(begin, begin + bytes->size());
  }
  actors::Effects effects;
  registry_.on_constructor_failed(session.id, text_of(record.text()), std::move(error), effects);
  carry_out(effects);
  return {};
}

void ActorShell::answer(ProcessId process, uint64_t request, ObjectId actor,
                        const std::string& error) {
  if (request == 0) return;
  sessions_.send(process, [&](wire::Builder& builder) {
    const wire::fb::ObjectId id = wire::to_wire(actor);
    return wire::fb::CreateActorAnswerDirect(builder, request, actor.is_nil() ? nullptr : &id,
                                             nullptr, error.empty() ? nullptr : error.c_str());
  });
}

// ---- events of other parts
// -----------------------------------------------------------------------

bool ActorShell::on_granted(const scheduler::GrantLease& grant) {
  const auto found = by_stand_in_.find(grant.owner);
  if (found == by_stand_in_.end()) return false;
  const ObjectId id = found->second;
  StandIn& stand_in = stand_ins_.at(id);
  stand_in.epoch = grant.epoch;
  const Session* session = sessions_.find(grant.worker);
  registry_.on_placed(id, grant.worker, session != nullptr ? session->pid : 0);
  const actors::ActorRegistry::Actor& actor = *registry_.find(id);
  log_debug(
      fmt::format("actor={} worker={} event=placed", actors::actor_hex(id), number(grant.worker)));
  sessions_.send(grant.worker, [&](wire::Builder& builder) {
    const wire::fb::ObjectId handle = wire::to_wire(id);
    const wire::fb::ObjectId spec = wire::to_wire(stand_in.spec);
    const auto class_name = builder.CreateString(actor.options.class_name);
    const auto name = builder.CreateString(actor.options.name);
    const auto name_space = builder.CreateString(actor.options.name_space);
    const auto resources = wire::build_resources(builder, stand_in.resources);
    const auto gpus = builder.CreateVector(grant.gpus);
    return wire::fb::CreateActorBecome(builder, &handle, &spec, actor.restarts, class_name, name,
                                       name_space, resources, gpus, stand_in.depth,
                                       wire::build_bundle(builder, stand_in.bundle));
  });
  return true;
}

ObjectId ActorShell::on_infeasible(ProcessId owner, const std::string& text, bool for_good) {
  const auto found = by_stand_in_.find(owner);
  if (found == by_stand_in_.end()) return {};
  const ObjectId id = found->second;
  if (!stand_ins_.at(id).infeasible_is_error && !for_good) return id;
  actors::Effects effects;
  registry_.on_unschedulable(id, text, effects);
  carry_out(effects);
  return {};  // Who calls it is told.
}

bool ActorShell::on_environment_failed(ProcessId owner, const std::string& text) {
  const auto found = by_stand_in_.find(owner);
  if (found == by_stand_in_.end()) return false;
  actors::Effects effects;
  registry_.on_environment_failed(found->second, text, effects);
  carry_out(effects);
  return true;
}

bool ActorShell::on_group_gone(ProcessId owner) {
  const auto found = by_stand_in_.find(owner);
  if (found == by_stand_in_.end()) return false;
  actors::Effects effects;
  registry_.on_group_removed(found->second, effects);
  carry_out(effects);
  return true;
}

JobId ActorShell::job_of(ObjectId actor) const {
  const auto* known = registry_.find(actor);
  return known != nullptr ? known->options.job : JobId{};
}

void ActorShell::on_worker_died(ProcessId worker, const std::string& cause) {
  actors::Effects effects;
  registry_.on_worker_died(worker, cause, effects);
  carry_out(effects);
}

void ActorShell::on_unreachable(ObjectId actor) {
  actors::Effects effects;
  registry_.on_unreachable(actor, effects);
  carry_out(effects);
}

void ActorShell::on_job_ended(JobId job, const std::string& reason) {
  actors::Effects effects;
  registry_.on_job_ended(job, reason, effects);
  carry_out(effects);
}

// ---- effects
// -------------------------------------------------------------------------------------

void ActorShell::carry_out(const actors::Effects& effects) {
  for (const actors::Effect& effect : effects) {
    std::visit([this](const auto& decided) { carry_out(decided); }, effect);
  }
}

// The scheduler was told when the actor was made.
void ActorShell::carry_out(const actors::RequestWorker&) { leases_.changed(); }

void ActorShell::carry_out(const actors::DismissWorker& dismiss) {
  leases_.scheduler().actor_over(stand_ins_.at(dismiss.actor).id);
  leases_.changed();
}

void ActorShell::carry_out(const actors::AskToExit& ask) { callbacks_.ask_to_exit(ask.worker); }

void ActorShell::carry_out(const actors::KillWorker& kill) {
  callbacks_.kill(kill.worker, "the actor was killed by ray.kill");
}

void ActorShell::carry_out(const actors::Settle& settle) {
  StandIn& stand_in = stand_ins_.at(settle.actor);
  leases_.scheduler().actor_made(stand_in.id);
  leases_.changed();
  const auto* actor = registry_.find(settle.actor);
  if (actor->options.restarts_max != 0 || !std::exchange(stand_in.holds_spec, false)) return;
  static_cast<void>(objects_.let_go(stand_in.id, {&stand_in.spec, 1}));
}

void ActorShell::carry_out(const actors::Introduce& effect) {
  const Introduction introduction{effect.actor, effect.caller, effect.worker};
  const Result<void> done = introduce(introduction);
  if (done || done.error().code != ErrorCode::kRetryLater) return;
  log_warning(fmt::format("actor={} caller={} event=no_channel why=\"{}\"",
                          actors::actor_hex(effect.actor), number(effect.caller),
                          done.error().message));
  postponed_.push_back(introduction);
  if (!timer_) {
    timer_ = loop_.at(monotonic_now() + kPostponedFor, [this] { retry_introductions(); });
  }
}

Result<void> ActorShell::introduce(const Introduction& introduction) {
  const ObjectId actor = introduction.actor;
  const ProcessId caller = introduction.caller;
  const ProcessId worker = introduction.worker;
  const auto* known = registry_.find(actor);
  if (known == nullptr || known->worker != worker || !known->callers.contains(caller)) return {};
  if (!channels_.exists(caller, worker) && caller != worker) {
    MOBULA_TRY(objects_.before_channel(caller, worker));
  }
  const auto channel = channels_.open(caller, worker);
  MOBULA_TRY(channel);
  const uint32_t epoch = stand_ins_.at(actor).epoch;
  channels_.set_epoch(caller, worker, epoch);
  sessions_.send(caller, [&](wire::Builder& builder) {
    const wire::fb::ObjectId id = wire::to_wire(actor);
    return wire::fb::CreateActorReached(builder, &id, number(*channel), epoch);
  });
  return {};
}

void ActorShell::retry_introductions() {
  timer_.reset();
  for (const Introduction& one : std::exchange(postponed_, {})) {
    carry_out(actors::Introduce{one.actor, one.caller, one.worker});
  }
}

void ActorShell::carry_out(const actors::TellRestarting& news) {
  sessions_.send(news.caller, [&](wire::Builder& builder) {
    const wire::fb::ObjectId id = wire::to_wire(news.actor);
    return wire::fb::CreateActorLostDirect(builder, &id, news.text.c_str());
  });
}

void ActorShell::carry_out(const actors::TellDead& news) {
  sessions_.send(news.caller, [&](wire::Builder& builder) {
    const wire::fb::ObjectId id = wire::to_wire(news.actor);
    const auto text = builder.CreateString(news.death->text);
    const auto error = builder.CreateVector(
        reinterpret_cast<const uint8_t*>(news.death->error.data()), news.death->error.size());
    return wire::fb::CreateActorDead(builder, &id, news.death->in_constructor,
                                     news.death->unschedulable, text, error,
                                     news.death->environment_failed, news.death->group_removed);
  });
}

void ActorShell::carry_out(const actors::Ended& ended) {
  const auto found = stand_ins_.find(ended.actor);
  log_info(fmt::format("actor={} event=ended", actors::actor_hex(ended.actor)));
  by_stand_in_.erase(found->second.id);
  const ProcessId id = found->second.id;
  const JobId own_job = found->second.own_job;
  stand_ins_.erase(found);
  objects_.on_process_died(id, {});
  if (own_job != JobId{}) callbacks_.end_job(own_job);
}

}  // namespace mobula::node
