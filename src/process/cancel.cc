// RuntimeImpl: cancelling tasks, as their owner and as the worker that runs one.
//
// A task that has not started is taken back by its claim word and fails at once. For one that has, the
// worker is told by way of the daemon; there the link thread checks that it is this task that runs,
// and sends the executing thread a signal. The binding's handler asks take_interrupt() once more, on
// that thread: so a task that came after is never hit.

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "process/runtime_impl.h"

namespace mobula::process {

namespace {

// The task that makes it, of these that live. Items of generators are there before it has ended.
Task* maker_of(const Object& object, Task* live_tasks) {
  if (object.sharing == Sharing::kForeign) return nullptr;
  if (!object.is_ready() && object.producer != nullptr) return object.producer;
  if (!object.is_item) return nullptr;
  for (Task* task = live_tasks; task != nullptr; task = task->live_next) {
    if (task->stream && task->stream->has_made(object.id.index)) return task;
  }
  return nullptr;
}

}  // namespace

std::string cancelled_text(std::string_view function, ObjectId first_return) {
  char id[64];
  std::snprintf(id, sizeof id, "%08x%08x%016llx%016x", number(first_return.node),
                number(first_return.creator), static_cast<unsigned long long>(first_return.index),
                0U);
  std::string text(id);
  text += '\0';
  text += "The task ";
  text += function;
  text += " was cancelled.";
  return text;
}

std::vector<std::byte> cancelled_error(Task& task) {
  return system_error(wire::SystemErrorCode::kTaskCancelled,
                      cancelled_text(task.own_function().name, task.first_return));
}

bool RuntimeImpl::cancel(Object* object, const Cancel& how) {
  Locked lock(*this);
  pump();
  if (!disconnected_.empty()) return false;
  Task* task = maker_of(*object, live_tasks_);
  if (how.only_ask) return task != nullptr && !has_started(*task);
  if (task != nullptr) {
    const bool taken_back = cancel_task(*task, how);
    settle();
    return taken_back;
  }
  if (object->sharing == Sharing::kForeign && !how.only_waiting) {
    uplink_->send([&](wire::Builder& builder) {
      const wire::fb::ObjectId id = wire::to_wire(object->id);
      return wire::fb::CreateCancelObject(builder, &id, how.force, how.recursive);
    });
    ring_daemon_later();
  }
  return false;
}

bool RuntimeImpl::has_started(const Task& task) {
  if (task.state != tasks::TaskState::kInFlight) return false;
  if (task.slot == kNoSlot) return true;
  const uint64_t word = task.channel->claim(task.slot).word.load(std::memory_order_acquire);
  return word == shm::claim_word(task.tag, shm::ClaimState::kStarted);
}

// True: it had not started, and never will.
bool RuntimeImpl::cancel_task(Task& task, const Cancel& how) {
  switch (task.state) {
    case tasks::TaskState::kHeld:
      withhold(task);
      break;
    case tasks::TaskState::kQueued:
      if (task.calls != nullptr) {
        withhold(task);
        task.calls->queue.withdraw(task);
      } else {
        dispatcher_.withdraw(task);
      }
      break;
    case tasks::TaskState::kInFlight: {
      OutboundChannel& channel = *task.channel;
      if (task.slot == kNoSlot ||
          !channel.claim(task.slot).move(task.tag, shm::ClaimState::kRevoked)) {
        if (how.only_waiting) return false;
        task.cancelled = true;
        uplink_->send([&](wire::Builder& builder) {
          return wire::fb::CreateCancel(builder, number(channel.peer), task.tag, how.force,
                                        how.recursive);
        });
        ring_daemon_later();
        return false;
      }
      channel.release_slot(task);
      if (task.calls != nullptr) {
        task.calls->queue.on_done(task);
      } else {
        dispatcher_.on_lost(task);
      }
      break;
    }
  }
  fail_task(task, cancelled_error(task));
  return true;
}

// The task waits for arguments, or is about to start: it is known to nobody else afterwards.
void RuntimeImpl::withhold(Task& task) {
  std::erase(startable_, &task);
  std::erase_if(delayed_, [&task](const auto& entry) { return entry.second == &task; });
  for (Object* ref : task.refs) std::erase(ref->dependents, &task);
}

void RuntimeImpl::cancel_children(uint64_t parent, bool recursive) {
  std::vector<CallId> calls;
  for (const Task* task = live_tasks_; task != nullptr; task = task->live_next) {
    if (task->parent == parent) calls.push_back(task->call);
  }
  for (const CallId call : calls) {
    // One by one: the end of one may end others, which depend on it.
    Task* task = live_tasks_;
    while (task != nullptr && task->call != call) task = task->live_next;
    if (task != nullptr) cancel_task(*task, {.recursive = recursive});
  }
  settle();
}

// ---- what the daemon passes on

void RuntimeImpl::on_cancel_task(const wire::fb::CancelTask& message) {
  const bool runs = execution_.running && execution_.tag == message.claim_tag() &&
                    execution_.channel == ChannelId{message.channel()};
  if (role_ != nullptr) {
    // Nothing is interrupted in an actor: the call may ask, and event loops are told.
    const ActorRole::CallKey key{message.channel(), message.claim_tag()};
    const auto found = role_->running.find(key);
    const bool elsewhere = found != role_->running.end();
    if (!runs && !elsewhere) return;
    if (!role_->cancelled.insert(key).second) return;
    if (elsewhere) role_->cancelled_news.push_back(key);
    if (message.recursive()) cancel_children(elsewhere ? found->second : execution_.number, true);
    answered_.notify_all();
    return;
  }
  if (!runs) return;
  if (message.force()) {
    if (message.recursive()) cancel_children(execution_.number, true);
    ::kill(0, SIGKILL);  // With what user code started. The daemon still reads our last records.
  }
  execution_.interruption = {execution_.channel, execution_.tag, message.recursive(), false};
  if (execution_.signal != 0) ::pthread_kill(execution_.pthread, execution_.signal);
}

void RuntimeImpl::on_cancel_object(const wire::fb::CancelObject& message) {
  const auto found = known_.find(wire::from_wire(*message.object()));
  if (found == known_.end()) return;
  if (Task* task = maker_of(*found->second, live_tasks_)) {
    cancel_task(*task, {.force = message.force(), .recursive = message.recursive()});
    settle();
  }
}

Interrupt RuntimeImpl::take_interrupt() {
  Locked lock(*this);
  const Interruption asked = std::exchange(execution_.interruption, {});
  const bool runs = execution_.running && asked.tag != 0 && asked.tag == execution_.tag &&
                    asked.channel == execution_.channel;
  if (!runs) return Interrupt::kNone;
  if (asked.recursive) cancel_children(execution_.number, true);
  return asked.is_time_limit ? Interrupt::kTimeLimit : Interrupt::kCancel;
}

}  // namespace mobula::process
