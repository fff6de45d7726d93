// RuntimeImpl: making and finding actors, and calls of them.
//
// A call goes to its actor's worker over a channel of this process's own; the daemon only says where the
// worker is, once, and what became of it. In what order calls go, and what becomes of them when the
// worker dies, the CallQueue decides.

#include <algorithm>
#include <cstring>

#include "core/actors/actor_registry.h"
#include "process/oversized.h"
#include "process/runtime_impl.h"
#include "wire/frame_reader.h"

namespace mobula::process {

using actors::Fate;
using actors::Reach;

namespace {

// While there are more calls than can be in flight. Far fewer than can, so that the actor has work.
constexpr uint32_t kCallsBetweenPumps = 16;

// `cause`: what the constructor raised, as Python has told it in letters; or empty.
std::vector<std::byte> actor_error(wire::SystemErrorCode code, ObjectId actor, bool in_constructor,
                                   std::string_view text, std::string_view cause = {}) {
  std::string payload = actors::actor_hex(actor);
  payload += '\0';
  payload += in_constructor ? '1' : '0';
  payload += cause;
  payload += '\0';
  payload += text;
  return system_error(code, payload);
}

std::vector<std::byte> unavailable_error(ObjectId actor, const std::string& text) {
  return actor_error(wire::SystemErrorCode::kActorUnavailable, actor, false,
                     text.empty() ? "The actor is restarting." : text);
}

}  // namespace

// ---- making and finding
// --------------------------------------------------------------------------

Result<Object*> RuntimeImpl::create_actor(const ActorCreation& creation, Gate& gate) {
  const auto create = [&]() -> Result<Object*> {
    Locked lock(*this);
    if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
    const std::array<Object*, 2> objects = {creation.handle, creation.spec};
    prepare_to_send(objects);
    Question question;
    const uint64_t request = creation.name.empty() ? 0 : next_question_++;
    uplink_->send([&](wire::Builder& builder) {
      const wire::fb::ObjectId actor = wire::to_wire(creation.handle->id);
      const wire::fb::ObjectId spec = wire::to_wire(creation.spec->id);
      const auto class_name = builder.CreateString(creation.class_name);
      const auto name = builder.CreateString(creation.name);
      const auto name_space = builder.CreateString(creation.name_space);
      const auto resources = wire::build_resources(builder, creation.resources);
      const auto environment = build_environment(builder, creation.environment);
      const auto bundle = wire::build_bundle(builder, creation.bundle.value_or(children_));
      return wire::fb::CreateActorCreate(
          builder, request, &actor, &spec, class_name, name, name_space, resources,
          creation.cpus_for_life, depth_, creation.restarts_max, creation.detached,
          creation.get_if_exists, options_.infeasible_is_error || creation.fails_if_infeasible,
          environment, bundle);
    });
    ring_daemon_later();
    if (request == 0) {
      creation.handle->retain();
      return creation.handle;
    }
    return wait_for_actor(request, question, lock, gate);
  };
  for (;;) {
    Result<Object*> made = create();
    if (!made || *made == nullptr || *made == creation.handle) return made;
    // It is one that was there.
    Result<Object*> kept = find_actor("", actors::actor_hex((*made)->id), gate);
    drop(*made);
    if (!kept || *kept != nullptr) return kept;
  }
}

// The actor of the answer, with a count; nullptr: there is none.
Result<Object*> RuntimeImpl::wait_for_actor(uint64_t request, Question& question, Locked& lock,
                                            Gate& gate) {
  questions_[request] = &question;
  MOBULA_TRY(wait_for_answer(request, question, lock, gate, ErrorCode::kInvalidArgument));
  if (question.actor.is_nil()) return static_cast<Object*>(nullptr);
  Object* object = known_object(question.actor);
  // The daemon holds it for us. Say so ourselves, too: we may have let it go meanwhile.
  objects::UplinkRecords records;
  const std::array<ObjectId, 1> ids = {question.actor};
  refs_.on_task(kDaemonProcess, CallId{2}, ids);
  refs_.end_task(kDaemonProcess, CallId{2}, records);
  send_records(records);
  return object;
}

// Without a name: the actor of whose id `name_space` is the text.
//
// The daemon holds what it found for this process. If another thread here lets go of its last handle of
// the same actor before the answer is read, that ends the hold. So it is asked again, by the id, once
// there is a handle here: who is found then has had one all the time.
Result<Object*> RuntimeImpl::find_actor(const std::string& name, const std::string& name_space,
                                        Gate& gate) {
  for (;;) {
    Result<Object*> found = nullptr;
    {
      Locked lock(*this);
      if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
      Question question;
      const uint64_t request = next_question_++;
      uplink_->send([&](wire::Builder& builder) {
        return wire::fb::CreateActorFindDirect(builder, request, name.c_str(), name_space.c_str());
      });
      ring_daemon_later();
      found = wait_for_actor(request, question, lock, gate);
    }
    if (!found || *found == nullptr || name.empty()) return found;
    Result<Object*> kept = find_actor("", actors::actor_hex((*found)->id), gate);
    drop(*found);
    if (!kept || *kept != nullptr) return kept;
  }
}

Result<std::vector<std::pair<std::string, std::string>>> RuntimeImpl::list_actors(
    const std::string& name_space, Gate& gate) {
  Locked lock(*this);
  if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
  Question question;
  const uint64_t request = next_question_++;
  questions_[request] = &question;
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateActorListDirect(builder, request,
                                           name_space.empty() ? nullptr : name_space.c_str());
  });
  ring_daemon_later();
  MOBULA_TRY(wait_for_answer(request, question, lock, gate, ErrorCode::kInvalidArgument));
  return std::move(question.names);
}

void RuntimeImpl::on_actor_answer(const wire::fb::ActorAnswer& message) {
  const auto found = questions_.find(message.request());
  if (found == questions_.end()) return;
  Question& question = *found->second;
  if (message.actor() != nullptr) question.actor = wire::from_wire(*message.actor());
  if (message.error() != nullptr) question.error = message.error()->str();
  if (message.names() != nullptr) {
    for (const auto* name : *message.names()) {
      question.names.emplace_back(name->name()->str(), name->namespace_name()->str());
    }
  }
  question.done = true;
  answered_.notify_all();
}

void RuntimeImpl::kill_actor(Object* actor, bool no_restart) {
  Locked lock(*this);
  if (!disconnected_.empty()) return;
  // Calls after this one are not to reach it any more: they wait for what the daemon says.
  if (actor->calls != nullptr && actor->calls->queue.reach() == Reach::kOpen) {
    actor->calls->queue.set_reach(Reach::kAwaited);
  }
  uplink_->send([&](wire::Builder& builder) {
    const wire::fb::ObjectId id = wire::to_wire(actor->id);
    return wire::fb::CreateActorKill(builder, &id, no_restart);
  });
  ring_daemon_later();
}

// With `actor`: a call of that one.
bool RuntimeImpl::is_pending_call(const Object& object, const Object* actor) {
  Locked lock(*this);
  if (object.is_ready() || object.producer == nullptr) return false;
  const ActorCalls* calls = object.producer->calls;
  return calls != nullptr && (actor == nullptr || calls == actor->calls);
}

// ---- calls
// ---------------------------------------------------------------------------------------

ActorCalls& RuntimeImpl::calls_of(Object& actor, const Submission& submission) {
  if (actor.calls != nullptr) return *actor.calls;
  actor.calls = new ActorCalls();
  actor.calls->actor = &actor;
  actor.calls->concurrent = submission.concurrent;
  if (submission.any_order) actor.calls->queue.allow_any_order();
  uplink_->send([&](wire::Builder& builder) {
    const wire::fb::ObjectId id = wire::to_wire(actor.id);
    return wire::fb::CreateActorConnect(builder, &id);
  });
  ring_daemon_later();
  return *actor.calls;
}

// Nobody here refers to the actor any more.
void RuntimeImpl::forget_calls(Object& object) {
  const std::unique_ptr<ActorCalls> calls(std::exchange(object.calls, nullptr));
  MOBULA_CHECK(calls->queue.pending() == 0);
  if (calls->channel != nullptr) calls->channel->calls = nullptr;
  if (!disconnected_.empty()) return;
  uplink_->send([&](wire::Builder& builder) {
    const wire::fb::ObjectId id = wire::to_wire(object.id);
    return wire::fb::CreateActorDisconnect(builder, &id);
  });
  ring_daemon_later();
}

// kRetryLater: as many calls of the actor as are allowed wait here, or run.
Result<void> RuntimeImpl::check_pending(const Submission& submission,
                                        const PackedValues& arguments) {
  if (submission.pending_max < 0 || submission.actor == nullptr) return {};
  pump();
  const ActorCalls* calls = submission.actor->calls;
  const auto pending = calls == nullptr ? 0 : static_cast<int64_t>(calls->queue.pending());
  if (pending < submission.pending_max) return {};
  for (Object* ref : arguments.refs) release(ref);
  return fail(ErrorCode::kRetryLater, std::to_string(submission.pending_max));
}

Result<void> RuntimeImpl::launch_call(Task& task, const Submission& submission) {
  ActorCalls& calls = calls_of(*submission.actor, submission);
  task.calls = &calls;
  ++live_calls_;
  calls.actor->retain();
  const bool ready = task.refs.empty() || resolve_arguments(task);
  const Object* failed = ready ? failed_argument(task) : nullptr;
  if (failed != nullptr) {
    fail_dependent(task, *failed);
    return {};
  }
  if (const auto error = ready ? oversized(task) : std::vector<std::byte>(); !error.empty()) {
    fail_task(task, error);
    return {};
  }
  switch (calls.queue.submit(task, ready, task.retries_left != 0)) {
    case Fate::kWaits:
      break;
    case Fate::kUnavailable:
      withhold(task);
      fail_task(task, unavailable_error(calls.actor->id, calls.lost_text));
      return {};
    case Fate::kDead:
      withhold(task);
      fail_task(task, calls.death);
      return {};
  }
  send_calls(calls);
  // Keep the actor fed while a program only submits: not for each result, which costs both sides.
  if (calls.queue.has_waiting() && ++calls.since_pump >= kCallsBetweenPumps &&
      shm::has_news(*bell_)) {
    calls.since_pump = 0;
    pump();
  }
  wake_reader_thread();
  return {};
}

// The arguments of a waiting call are known.
void RuntimeImpl::start_call(Task& task) {
  ActorCalls& calls = *task.calls;
  if (const Object* failed = failed_argument(task)) {
    calls.queue.withdraw(task);
    calls.actor->retain();
    fail_dependent(task, *failed);
    send_calls(calls);  // Of those that waited behind it.
    release(calls.actor);
    return;
  }
  if (const auto error = oversized(task); !error.empty()) {
    calls.queue.withdraw(task);
    calls.actor->retain();
    fail_task(task, error);
    send_calls(calls);
    release(calls.actor);
    return;
  }
  calls.queue.on_ready(task);
  send_calls(calls);
  fail_unavailable_calls(calls);
}

void RuntimeImpl::send_calls(ActorCalls& calls) {
  while (actors::CallNode* call = calls.queue.next()) {
    if (!push_call(static_cast<Task&>(*call), calls)) return;
  }
}

// False: there is no room now.
bool RuntimeImpl::push_call(Task& task, ActorCalls& calls) {
  OutboundChannel& channel = *calls.channel;
  if (channel.free_slots.empty() && calls.concurrent) reclaim_started(channel);
  const bool has_slot = !channel.free_slots.empty();
  Function& function = task.own_function();
  const bool function_is_new =
      channel.functions_sent.size() <= function.number || !channel.functions_sent[function.number];
  if (!make_ready_to_push(channel, task, function_is_new)) {
    channel.tasks.flush();
    // Somebody must try again. The calls of one that executes in order end in order: then it is.
    if (has_slot || calls.concurrent) {
      senders_waiting_ = true;
      wake_reader_thread();
    }
    return false;
  }
  if (function_is_new) announce_function(channel, function);
  calls.queue.on_sent(task);
  wake_for(channel, calls.queue.in_flight().size());
  send_task_frame(task, channel, calls.epoch);
  return true;
}

// A call that has started cannot be taken back, so it needs no slot. Generators' slots say how far
// they may go.
void RuntimeImpl::reclaim_started(OutboundChannel& channel) {
  for (uint16_t slot = 0; slot < shm::kClaimSlots; ++slot) {
    Task* task = channel.slots[slot];
    if (task == nullptr || task->calls == nullptr || task->stream) continue;
    const uint64_t word = channel.claim(slot).word.load();
    if (word != shm::claim_word(task->tag, shm::ClaimState::kStarted)) continue;
    channel.release_slot(*task);
    task->slot = kNoSlot;
    channel.started[task->tag] = task;
  }
}

// How many results to sleep through (HOTPATH R3).
void RuntimeImpl::publish_wake_position(const Waiter& waiter, OutboundChannel& channel) {
  const actors::CallQueue& queue = channel.calls->queue;
  const bool any = waiter.wants_first || !parked_.empty();
  uint64_t needed_count = 0;
  uint64_t position = 0;
  uint64_t at = 0;
  for (const tasks::TaskNode* node = queue.in_flight().front(); node != nullptr;
       node = node->next) {
    const Task& task = static_cast<const Task&>(*node);
    ++at;
    bool depended = task.stream != nullptr;
    bool needed = depended;
    for (const Object* object : task.returns) {
      depended = depended || !object->dependents.empty();
      needed = needed || object->waiters != nullptr || depended;
    }
    if (!needed) continue;
    position = at;
    ++needed_count;
    if (any || depended) {
      // Of those that run at the same time any may be the next to end.
      if (channel.calls->concurrent) needed_count = 1;
      break;
    }
  }
  if (channel.calls->concurrent) position = needed_count;
  if (queue.has_waiting() && at > 0) {  // Refill while a quarter is left.
    const uint64_t refill = std::max<uint64_t>(1, queue.in_flight().size() * 3 / 4);
    position = position == 0 ? refill : std::min(position, refill);
  }
  channel.header().wake_at_result.store(
      position == 0 ? shm::kNeverWake : channel.results_seen + position, std::memory_order_relaxed);
}

// ---- what becomes of actors
// ----------------------------------------------------------------------

// True if the message is about actors.
bool RuntimeImpl::on_actor_packet(const wire::fb::ToProcess& message) {
  using wire::fb::DownlinkBody;
  switch (message.body_type()) {
    case DownlinkBody::ActorBecome:
      on_actor_become(*message.body_as_ActorBecome());
      return true;
    case DownlinkBody::ActorReached:
      on_actor_reached(*message.body_as_ActorReached());
      return true;
    case DownlinkBody::ActorLost:
      on_actor_lost(*message.body_as_ActorLost());
      return true;
    case DownlinkBody::ActorDead:
      on_actor_dead(*message.body_as_ActorDead());
      return true;
    case DownlinkBody::ActorAnswer:
      on_actor_answer(*message.body_as_ActorAnswer());
      return true;
    default:
      return false;
  }
}

ActorCalls* RuntimeImpl::known_calls(const wire::fb::ObjectId* actor) {
  const auto found = known_.find(wire::from_wire(*actor));
  return found == known_.end() ? nullptr : found->second->calls;
}

void RuntimeImpl::on_actor_reached(const wire::fb::ActorReached& message) {
  ActorCalls* calls = known_calls(message.actor());
  if (calls == nullptr || calls->channel != nullptr) return;
  const auto found = outbound_.find(ChannelId{message.channel()});
  if (found == outbound_.end() || found->second->gone) {
    calls->queue.set_reach(Reach::kDead);
    calls->death = actor_error(wire::SystemErrorCode::kActorUnavailable, calls->actor->id, false,
                               "This process could not open its channel to the actor: it is out of "
                               "descriptors or memory (is `ulimit -n` low?)");
    fail_waiting_calls(*calls, calls->death);
    return settle();
  }
  calls->channel = found->second.get();
  calls->channel->calls = calls;
  calls->epoch = message.epoch();
  calls->lost_text.clear();
  calls->queue.set_reach(Reach::kOpen);
  send_calls(*calls);
  wake_reader_thread();
}

void RuntimeImpl::on_actor_lost(const wire::fb::ActorLost& message) {
  ActorCalls* calls = known_calls(message.actor());
  if (calls == nullptr || calls->queue.reach() == Reach::kDead) return;
  calls->lost_text = message.text()->str();
  calls->queue.set_reach(Reach::kRestarting);
  fail_unavailable_calls(*calls);
  settle();
}

// Those that nobody wants to wait for until the actor is back.
void RuntimeImpl::fail_unavailable_calls(ActorCalls& calls) {
  Object* actor = calls.actor;
  actor->retain();
  while (actors::CallNode* call = calls.queue.next_unavailable()) {
    Task& task = static_cast<Task&>(*call);
    calls.queue.withdraw(task);
    fail_task(task, unavailable_error(actor->id, calls.lost_text));
  }
  release(actor);
}

void RuntimeImpl::on_actor_dead(const wire::fb::ActorDead& message) {
  ActorCalls* calls = known_calls(message.actor());
  if (calls == nullptr) return;
  calls->queue.set_reach(Reach::kDead);
  if (message.environment_failed()) {
    calls->death =
        system_error(wire::SystemErrorCode::kRuntimeEnvSetup, message.text()->string_view());
    fail_waiting_calls(*calls, calls->death);
    return settle();
  }
  if (message.group_removed()) {
    calls->death = system_error(wire::SystemErrorCode::kActorPlacementGroupRemoved, "");
    fail_waiting_calls(*calls, calls->death);
    return settle();
  }
  const auto code = message.unschedulable() ? wire::SystemErrorCode::kActorUnschedulable
                                            : wire::SystemErrorCode::kActorDied;
  std::string cause;
  if (const auto* error = message.error()) cause.assign(error->begin(), error->end());
  std::erase(cause, '\0');  // It ends there.
  calls->death =
      actor_error(code, calls->actor->id, message.in_constructor(), message.text()->str(), cause);
  fail_waiting_calls(*calls, calls->death);
  settle();
}

void RuntimeImpl::fail_waiting_calls(ActorCalls& calls, std::span<const std::byte> error) {
  Object* actor = calls.actor;
  actor->retain();
  while (calls.queue.has_waiting()) {
    const bool in_line = !calls.queue.line().empty();
    tasks::TaskNode* node = in_line ? calls.queue.line().front() : calls.queue.unready().front();
    Task& task = static_cast<Task&>(*node);
    withhold(task);
    calls.queue.withdraw(task);
    fail_task(task, error);
  }
  release(actor);
}

// The actor's worker is dead, and what it had published was read. Calls that it had not started wait
// for the next one; others need a retry, or fail.
void RuntimeImpl::lose_calls(OutboundChannel& channel, const wire::fb::PeerDied& message) {
  ActorCalls& calls = *channel.calls;
  Object* actor = calls.actor;
  actor->retain();
  if (calls.queue.reach() == Reach::kOpen || calls.queue.reach() == Reach::kAwaited) {
    calls.queue.set_reach(Reach::kRestarting);
    if (message.cause() != nullptr) calls.lost_text = message.cause()->str();
  }
  std::vector<Task*> lost;
  for (tasks::TaskNode* node = calls.queue.in_flight().front(); node != nullptr;
       node = node->next) {
    lost.push_back(static_cast<Task*>(node));
  }
  std::vector<std::pair<Task*, Fate>> failed;
  std::ranges::reverse(lost);
  for (Task* task : lost) {
    const bool had_started = task->slot == kNoSlot ||
                             !channel.claim(task->slot).move(task->tag, shm::ClaimState::kRevoked);
    channel.release_slot(*task);
    task->channel = nullptr;
    if (task->cancelled) {
      calls.queue.on_done(*task);
      fail_task(*task, cancelled_error(*task));
      continue;
    }
    const Fate fate = calls.queue.on_lost(*task, had_started, task->retries_left);
    if (fate != Fate::kWaits) {
      failed.emplace_back(task, fate);
    } else if (had_started) {
      if (task->retries_left > 0) --task->retries_left;
      ++task->attempt;
    }
  }
  channel.calls = nullptr;
  calls.channel = nullptr;
  std::ranges::reverse(failed);
  for (const auto& [task, fate] : failed) {
    fail_task(*task, fate == Fate::kDead ? std::span<const std::byte>(calls.death)
                                         : unavailable_error(actor->id, calls.lost_text));
  }
  fail_unavailable_calls(calls);
  release(actor);
}

}  // namespace mobula::process
