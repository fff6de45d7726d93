// RuntimeImpl: what the node daemon says. Runs on the link thread.

#include <cstdio>
#include <cstring>
#include <utility>

#include "process/runtime_impl.h"
#include "wire/frame_reader.h"

namespace mobula::process {

namespace {

// A dead peer's bell stays mapped for as long as any thread could still be about to ring it.
constexpr auto kRetiredFor = std::chrono::seconds(60);
// Before a task is tried again for which memory did not suffice; doubled each time.
constexpr Duration kOutOfMemoryDelay = std::chrono::seconds(1);
constexpr Duration kOutOfMemoryDelayMax = std::chrono::seconds(30);
// How the daemon speaks of a task that can never run; whose name it does not know.
constexpr std::string_view kATask = "a task";
constexpr size_t kNamedFromMax = 10'000;

std::string cause_of_death(const wire::fb::PeerDied& message, const std::string& function) {
  std::string text =
      "The worker that ran " + function + " (pid " + std::to_string(message.pid()) + ") died: ";
  if (message.cause() != nullptr && message.cause()->size() > 0) {
    text += message.cause()->str();
  } else if (message.signal() != 0) {
    text += "killed by signal " + std::to_string(message.signal());
  } else {
    text += "it exited with code " + std::to_string(message.exit_code());
  }
  text += ".";
  if (message.stderr_tail() != nullptr && message.stderr_tail()->size() > 0) {
    text += "\nIts last lines on stderr:\n" + message.stderr_tail()->str();
  }
  return text;
}

// The attempt that comes now is counted already.
std::string about_retry(const Task& task, const std::string& cause) {
  std::string text = cause.substr(0, cause.find('\n')) + " The task is tried again: attempt " +
                     std::to_string(task.attempt + 1);
  if (task.retries_left >= 0) {
    text += " of " + std::to_string(task.attempt + 1 + task.retries_left);
  }
  return text + ".";
}

}  // namespace

void RuntimeImpl::on_packet(const wire::fb::ToProcess& message, std::vector<shm::Fd> fds) {
  using wire::fb::DownlinkBody;
  if (on_store_packet(message, fds)) return;
  if (options_.is_driver && message.body_type() == DownlinkBody::Exit) {
    const auto* why = message.body_as_Exit()->reason();
    return disconnect(why != nullptr ? why->str() : "the node daemon ends");
  }
  if (const auto* wanted = message.body_as_StateWanted()) return answer_state_wanted(*wanted);
  Locked lock(*this);
  if (on_actor_packet(message) || on_lineage_packet(message) || on_group_packet(message)) return;
  switch (message.body_type()) {
    case DownlinkBody::ChannelOpened:
      on_channel_opened(*message.body_as_ChannelOpened(), std::move(fds));
      break;
    case DownlinkBody::LeaseGranted:
      on_lease_granted(*message.body_as_LeaseGranted());
      break;
    case DownlinkBody::LeaseReclaim:
      dispatcher_.on_lease_reclaim(LeaseId{message.body_as_LeaseReclaim()->lease()});
      settle();
      break;
    case DownlinkBody::PeerDied:
      on_peer_died(*message.body_as_PeerDied());
      break;
    case DownlinkBody::RefsAhead: {
      const auto refs = wire::read_objects(message.body_as_RefsAhead()->objects());
      refs_ahead_.insert(refs_ahead_.end(), refs.begin(), refs.end());
      break;
    }
    case DownlinkBody::ValueArrived:
      on_value_arrived(*message.body_as_ValueArrived());
      break;
    case DownlinkBody::LogLines:
      on_log_lines(*message.body_as_LogLines());
      break;
    case DownlinkBody::Infeasible:
      on_infeasible(*message.body_as_Infeasible());
      break;
    case DownlinkBody::EnvironmentFailed:
      fail_queued(message.body_as_EnvironmentFailed()->shape(),
                  wire::SystemErrorCode::kRuntimeEnvSetup,
                  message.body_as_EnvironmentFailed()->message()->string_view());
      break;
    case DownlinkBody::Answer:
      on_answer(*message.body_as_Answer(), std::move(fds));
      break;
    case DownlinkBody::CancelTask:
      on_cancel_task(*message.body_as_CancelTask());
      break;
    case DownlinkBody::CancelObject:
      on_cancel_object(*message.body_as_CancelObject());
      break;
    case DownlinkBody::Exit:
      exit_asked_ = true;
      answered_.notify_all();
      for (Waiter* waiter : parked_) {
        waiter->word.store(1);
        deferred().words.push_back(&waiter->word);
      }
      poke_reader();
      break;
    case DownlinkBody::Goodbye:
      goodbye_ = message.body_as_Goodbye()->stays();
      answered_.notify_all();
      break;
    default:
      break;  // A newer daemon's, or one that only follows Hello.
  }
}

void RuntimeImpl::on_channel_opened(const wire::fb::ChannelOpened& message,
                                    std::vector<shm::Fd> fds) {
  if (fds.size() != 2 || message.bell_bit() >= shm::kBellBits ||
      message.peer_bell_bit() >= shm::kBellBits || by_bit_[message.bell_bit()] != nullptr) {
    return;
  }
  auto memory = shm::Mapping::map(fds[0], shm::kChannelBytes, shm::Access::kReadWrite);
  auto bell = shm::Mapping::map(fds[1], shm::kBellBytes, shm::Access::kReadWrite);
  if (!memory.has_value() || !bell.has_value()) return;
  ChannelEnd* end = nullptr;
  const ChannelId id{message.channel()};
  if (message.role() == wire::fb::ChannelRole::caller) {
    auto channel = std::make_unique<OutboundChannel>(std::move(*memory), std::move(*bell));
    end = channel.get();
    outbound_[id] = std::move(channel);
  } else {
    auto channel = std::make_unique<InboundChannel>(std::move(*memory), std::move(*bell));
    channel->listed = true;  // The caller may have been faster than this message.
    tasks_ready_.push_back(channel.get());
    end = channel.get();
    inbound_[id] = std::move(channel);
    poke_reader();
  }
  end->id = id;
  end->peer = ProcessId{message.peer()};
  end->peer_pid = message.peer_pid();
  end->own_bit = message.bell_bit();
  end->peer_bit = message.peer_bell_bit();
  by_bit_[end->own_bit] = end;
}

void RuntimeImpl::on_lease_granted(const wire::fb::LeaseGranted& message) {
  const ChannelId id{message.channel()};
  const auto found = outbound_.find(id);
  const bool known_shape = message.shape() >= 1 && message.shape() <= shapes_.size();
  if (found == outbound_.end() || found->second->gone || !known_shape) {
    uplink_->send([&](wire::Builder& builder) {
      return wire::fb::CreateLeaseReturn(builder, message.lease());
    });
    ring_daemon_later();
    return;
  }
  found->second->gpus.clear();
  if (message.gpus() != nullptr) {
    found->second->gpus.assign(message.gpus()->begin(), message.gpus()->end());
  }
  dispatcher_.on_lease_granted(LeaseId{message.lease()}, message.shape(), id, message.epoch(),
                               monotonic_now());
  settle();
  wake_reader_thread();
}

void RuntimeImpl::retire(std::unique_ptr<ChannelEnd> channel) {
  const Instant now = monotonic_now();
  std::erase_if(retired_, [now](const auto& entry) { return now - entry.first > kRetiredFor; });
  channel->gone = true;
  if (by_bit_[channel->own_bit] == channel.get()) by_bit_[channel->own_bit] = nullptr;
  channel->memory = {};
  retired_.emplace_back(now, std::move(channel));
}

void RuntimeImpl::on_peer_died(const wire::fb::PeerDied& message) {
  const ProcessId peer{message.peer()};
  std::vector<ChannelId> callers;
  std::vector<ChannelId> callees;
  for (auto& [id, channel] : outbound_) {
    if (channel->peer == peer) callees.push_back(id);
  }
  for (auto& [id, channel] : inbound_) {
    if (channel->peer == peer) callers.push_back(id);
  }
  for (const ChannelId id : callees) {
    OutboundChannel& channel = *outbound_.at(id);
    // What it had published is still good (R18): read it to the end first.
    while (!channel.gone) {
      size_t budget = 1024;
      if (drain_results(channel, budget)) break;
    }
    if (channel.calls != nullptr) {
      lose_calls(channel, message);
    } else {
      lose_tasks(channel, message);
    }
    dispatcher_.on_channel_gone(id);
    std::erase(results_ready_, &channel);
    auto node = outbound_.extract(id);
    retire(std::move(node.mapped()));
  }
  for (const ChannelId id : callers) {
    InboundChannel& channel = *inbound_.at(id);
    std::erase(tasks_ready_, &channel);
    if (lease_of_last_ == &channel) lease_of_last_ = nullptr;
    auto node = inbound_.extract(id);
    retire(std::move(node.mapped()));
  }
  objects::UplinkRecords records;
  refs_.on_peer_died(peer, records);
  send_records(records);
  settle();
}

// The tasks that a dead worker still had: those it had not started go to another one; the others
// use up a retry, or fail with the cause of death.
void RuntimeImpl::lose_tasks(OutboundChannel& channel, const wire::fb::PeerDied& message) {
  tasks::Lease* lease = dispatcher_.lease_of(channel.id);
  if (lease == nullptr) return;
  std::vector<Task*> lost;
  for (tasks::TaskNode* node = lease->in_flight.front(); node != nullptr; node = node->next) {
    lost.push_back(static_cast<Task*>(node));
  }
  for (Task* task : lost) {
    const bool unstarted = channel.claim(task->slot).move(task->tag, shm::ClaimState::kRevoked);
    channel.release_slot(*task);
    if (unstarted) {
      dispatcher_.on_revoked(*task);
      continue;
    }
    dispatcher_.on_lost(*task);
    if (task->cancelled) {
      fail_task(*task, cancelled_error(*task));
      continue;
    }
    if (channel.claim(task->slot).overran.load() == task->tag) {
      const std::string& name = task->own_function().name;
      fail_task(*task, system_error(wire::SystemErrorCode::kTaskTimeout,
                                    overrun_text(name, task->time_limit_ms, channel.peer_pid)));
      continue;
    }
    if (message.out_of_memory() != wire::fb::OutOfMemory::no) {
      if (try_later(*task, message)) continue;
      const std::string text = cause_of_death(message, task->own_function().name);
      fail_task(*task, system_error(wire::SystemErrorCode::kOutOfMemory, text));
      continue;
    }
    if (task->retries_left != 0) {
      if (task->retries_left > 0) --task->retries_left;
      const std::string cause = cause_of_death(message, task->own_function().name);
      trace_.end_by_owner(*task, shape_of(*task),
                          system_error(wire::SystemErrorCode::kWorkerCrashed, cause));
      ++task->attempt;
      if (!leaving_) {
        const std::string& name = task->own_function().name;
        lines_.say(lines_.remark(name, about_retry(*task, cause), monotonic_now()),
                   options_.is_driver);
      }
      startable_.push_back(task);  // Once this worker's lease is forgotten.
      continue;
    }
    std::string text = cause_of_death(message, task->own_function().name);
    if (task->attempt > 0) {
      text += "\nIt was the last of " + std::to_string(task->attempt + 1) + " attempts.";
    } else {
      text += "\nThe task is not retried (max_retries=0).";
    }
    fail_task(*task, system_error(wire::SystemErrorCode::kWorkerCrashed, text));
  }
}

// A task whose worker was killed for want of memory is tried again after a while, longer each time:
// others should have ended by then. These do not count as retries, but only tasks that have any are
// tried again.
bool RuntimeImpl::try_later(Task& task, const wire::fb::PeerDied& message) {
  const bool again = message.out_of_memory() == wire::fb::OutOfMemory::retry &&
                     task.retries_left != 0 && task.oom_retries < options_.oom_retries_max;
  if (!again) return false;
  const Duration delay = std::min<Duration>(
      kOutOfMemoryDelay * (int64_t{1} << std::min<uint16_t>(task.oom_retries, 10)),
      kOutOfMemoryDelayMax);
  ++task.oom_retries;
  ++task.attempt;
  delayed_.emplace_back(monotonic_now() + delay, &task);
  return true;
}

void RuntimeImpl::resume_delayed() {
  const Instant now = monotonic_now();
  std::erase_if(delayed_, [&](const auto& entry) {
    if (entry.first > now) return false;
    startable_.push_back(entry.second);
    return true;
  });
}

void RuntimeImpl::on_value_arrived(const wire::fb::ValueArrived& message) {
  std::vector<ObjectId> refs = std::exchange(refs_ahead_, {});
  if (message.object() == nullptr) return;
  const ObjectId id = wire::from_wire(*message.object());
  const auto found = known_.find(id);
  if (found == known_.end()) return;  // Nobody wants it any more.
  Object& object = *found->second;
  object.retain();
  if (message.value() == nullptr) {
    const std::string why =
        message.error() != nullptr ? message.error()->str() : "the object does not exist any more";
    complete(object, system_error(wire::SystemErrorCode::kObjectLost, why), {});
  } else {
    const std::vector<ObjectId> last = wire::read_objects(message.value()->refs());
    refs.insert(refs.end(), last.begin(), last.end());
    std::vector<Object*> inner;
    for (const ObjectId ref : refs) inner.push_back(known_object(ref));
    refs_.on_value(id, refs);
    if (const auto* bytes = message.value()->inline_()) {
      const std::span<const std::byte> raw(reinterpret_cast<const std::byte*>(bytes->data()),
                                           bytes->size());
      size_t offset = 0;
      const auto value = wire::read_value(raw, offset);
      if (value.has_value()) {
        complete(object, value->whole, std::move(inner));
      } else {
        complete(object, system_error(wire::SystemErrorCode::kInternal, value.error().message), {});
      }
    } else if (const auto* location = message.value()->location()) {
      complete(object, stored_value(wire::from_wire(*location)), std::move(inner));
    }
  }
  release(&object);
  settle();
}

void RuntimeImpl::on_log_lines(const wire::fb::LogLines& message) {
  for (const auto* line : *message.lines()) {
    lines_.add({line->pid(), line->name() != nullptr ? line->name()->str() : "", line->is_stderr(),
                line->text()->str()});
  }
  lines_.notify();
}

void RuntimeImpl::on_infeasible(const wire::fb::Infeasible& message) {
  std::string text = message.message()->str();
  const Task* first = live_tasks_;  // The last that was submitted: most often the one.
  for (size_t i = 0; i < kNamedFromMax && first != nullptr; ++i) {
    if (first->shape == message.shape()) break;
    first = first->live_next;
  }
  if (first != nullptr && first->shape == message.shape() && text.starts_with(kATask)) {
    const auto& function = static_cast<const Function&>(*first->function);
    text = "the task " + function.name + text.substr(kATask.size());
  }
  if (options_.infeasible_is_error || message.for_good()) {
    infeasible_[message.shape()] = text;
    fail_queued(message.shape(), wire::SystemErrorCode::kTaskUnschedulable, text);
  }
  if (!options_.is_driver) return;  // The daemon tells the driver, too.
  lines_.say(std::move(text), true);
}

// The tasks of a shape that no worker has.
void RuntimeImpl::fail_queued(uint32_t shape, wire::SystemErrorCode code, std::string_view why) {
  std::vector<Task*> tasks;
  for (Task* task = live_tasks_; task != nullptr; task = task->live_next) {
    const bool queued = task->state == tasks::TaskState::kQueued && task->calls == nullptr;
    if (queued && task->shape == shape) tasks.push_back(task);
  }
  for (Task* task : tasks) {
    dispatcher_.withdraw(*task);
    fail_task(*task, system_error(code, why));
  }
  settle();
}

bool RuntimeImpl::next_log_lines(std::vector<LogLine>& lines) {
  std::unique_lock<std::mutex> lock(lock_);
  return lines_.take(lock, lines, [this] { return !disconnected_.empty(); });
}

}  // namespace mobula::process
