// RuntimeImpl: results in, and what the dispatcher decides carried out.

#include <algorithm>
#include <cstring>

#include "process/runtime_impl.h"
#include "wire/frame_reader.h"

namespace mobula::process {

namespace {

// Messages handled in one hold of the lock, so that other threads get their turn.
constexpr size_t kPumpBudget = 256;
constexpr Duration kAuditEvery = std::chrono::milliseconds(100);

}  // namespace

void RuntimeImpl::ring_later(ChannelEnd& channel, bool wake) {
  for (Deferred::Bell& bell : deferred().bells) {
    if (bell.bell == &channel.peer_bell() && bell.bit == channel.peer_bit) {
      bell.wake = bell.wake || wake;
      return;
    }
  }
  deferred().bells.push_back({&channel.peer_bell(), channel.peer_bit, wake});
}

// What was announced already.
void RuntimeImpl::wake_later(ChannelEnd& channel) {
  std::vector<Deferred::Bell>& bells = deferred().bells;
  const auto known = std::ranges::find_if(bells, [&](const Deferred::Bell& bell) {
    return bell.bell == &channel.peer_bell() && bell.wake;
  });
  if (known == bells.end()) bells.push_back({&channel.peer_bell(), Deferred::kNoBit, true});
}

// Turns bell bits into lists of channels to read.
void RuntimeImpl::collect_news() {
  for (uint32_t w = 0; w < shm::kBellWords; ++w) {
    std::atomic<uint64_t>& word = bell_->news[w];
    if (word.load(std::memory_order_relaxed) == 0) continue;
    uint64_t bits = word.exchange(0);
    while (bits != 0) {
      const auto bit = static_cast<uint32_t>(w * 64 + static_cast<uint32_t>(__builtin_ctzll(bits)));
      bits &= bits - 1;
      if (bit >= shm::kBellBits) continue;  // Our own threads'.
      ChannelEnd* channel = by_bit_[bit];
      if (channel == nullptr || channel->listed) continue;  // Not opened yet: it is looked at then.
      channel->listed = true;
      if (auto* outbound = dynamic_cast<OutboundChannel*>(channel)) {
        results_ready_.push_back(outbound);
      } else {
        tasks_ready_.push_back(static_cast<InboundChannel*>(channel));
        if (role_ != nullptr && !parked_.empty()) wake_for_calls();
      }
    }
  }
}

// Reads what has come, completes objects, keeps workers busy. Returns how many frames it handled.
size_t RuntimeImpl::pump() {
  drain_dropped();
  pumped_ = monotonic_now();
  if (pumped_ - audited_ >= kAuditEvery) audit(pumped_);
  collect_news();
  size_t budget = kPumpBudget;
  while (!results_ready_.empty() && budget > 0) {
    OutboundChannel& channel = *results_ready_.back();
    if (drain_results(channel, budget)) {
      channel.listed = false;
      std::erase(results_ready_, &channel);
    }
    if (channel.calls != nullptr) send_calls(*channel.calls);
  }
  if (senders_waiting_) flush_senders();
  settle();
  return kPumpBudget - budget;
}

// True if the channel has been read to its end (or cut off).
bool RuntimeImpl::drain_results(OutboundChannel& channel, size_t& budget) {
  while (budget > 0) {
    const auto frame = channel.results.next();
    if (!frame.has_value()) {
      cut_off(channel, frame.error().message);
      return true;
    }
    if (frame->empty()) return true;
    --budget;
    wire::FrameHeader header{};
    std::memcpy(&header, frame->data(), sizeof header);
    if (header.kind == wire::FrameKind::kResult) {
      ++channel.results_seen;
      if (const Result<void> handled = on_result_frame(channel, *frame); !handled.has_value()) {
        cut_off(channel, handled.error().message);
        return true;
      }
    } else if (header.kind == wire::FrameKind::kYield) {
      ++channel.results_seen;
      if (const Result<void> handled = on_yield_frame(channel, *frame); !handled.has_value()) {
        cut_off(channel, handled.error().message);
        return true;
      }
    } else if (header.kind == wire::FrameKind::kBlocked ||
               header.kind == wire::FrameKind::kUnblocked) {
      dispatcher_.on_blocked(channel.id, header.kind == wire::FrameKind::kBlocked);
    } else {
      cut_off(channel, "frame of a kind that a callee never sends");
      return true;
    }
  }
  return false;
}

Result<void> RuntimeImpl::on_result_frame(OutboundChannel& channel,
                                          std::span<const std::byte> frame) {
  const Result<wire::ResultHeader> header = wire::read_header<wire::ResultHeader>(frame);
  MOBULA_TRY(header);
  if (header->claim_slot >= shm::kClaimSlots) {
    return fail(ErrorCode::kInvalidArgument, "result with an impossible claim slot");
  }
  Task* task = channel.find_in_flight(header->claim_slot, header->claim_tag);
  if (task == nullptr || task->call != header->call) {
    return fail(ErrorCode::kInvalidArgument, "result of a task that is not in flight");
  }
  if (task->slot != kNoSlot && channel.claim(task->slot).word.load(std::memory_order_relaxed) !=
                                   shm::claim_word(task->tag, shm::ClaimState::kStarted)) {
    return fail(ErrorCode::kInvalidArgument, "result of a task that was not started");
  }
  const bool failed = (header->frame.flags & wire::kResultFailed) != 0;
  const auto values = frame.subspan(sizeof(wire::ResultHeader));
  if (!failed && header->num_returns != task->returns.size()) {
    return fail(ErrorCode::kInvalidArgument, "result with a wrong number of returns");
  }
  const bool is_one = failed || header->num_returns == 1;
  size_t end = 0;
  const Result<wire::ValueView> first = is_one ? wire::read_value(values, end) : wire::ValueView{};
  MOBULA_TRY(first);
  if (!is_one || end != values.size())
    MOBULA_TRY(wire::check_values(values, is_one ? 1 : header->num_returns));

  channel.release_slot(*task);
  const auto run_time =
      Duration(static_cast<int64_t>(std::min<uint64_t>(header->run_time_ns, uint64_t{1} << 50)));
  if (task->calls != nullptr) {
    task->calls->queue.on_done(*task);
    if (task->cancelled && !failed) fail_cancelled(*task);
  } else {
    dispatcher_.on_result(*task, run_time, monotonic_now());
  }
  const wire::ValueHeader& value = first->header;
  if (is_one && !task->stream && value.ref_count == 0 && value.kind != wire::ValueKind::kInStore &&
      (header->frame.flags & wire::kResultParcel) == 0) {
    complete_plainly(*task, first->whole, failed);
    return {};
  }
  return complete_returns(channel, *task, *header, values);
}

// With a value, or error, that stands for itself.
void RuntimeImpl::complete_plainly(Task& task, std::span<const std::byte> value, bool failed) {
  task.answered = true;
  for (Object* object : task.returns) complete(*object, value, {});
  if (!failed && task.rebuilding) remember(task);
  finish_returns(task);
}

// The call was cancelled while it ran, and returned something all the same: that is nobody's.
void RuntimeImpl::fail_cancelled(Task& task) {
  const std::vector<std::byte> error = cancelled_error(task);
  for (Object*& object : task.returns) {
    complete(*object, error, {});
    object->producer = nullptr;
    release(object);
    object = new_object();
  }
}

Result<void> RuntimeImpl::complete_returns(OutboundChannel& channel, Task& task,
                                           const wire::ResultHeader& header,
                                           std::span<const std::byte> values) {
  const bool failed = (header.frame.flags & wire::kResultFailed) != 0;
  const bool parcel = (header.frame.flags & wire::kResultParcel) != 0;
  task.answered = true;
  if (task.stream && task.stream->collected && !failed) collect_items(task);
  std::vector<std::vector<ObjectId>> refs(parcel ? task.returns.size() : 0);
  size_t offset = 0;
  bool stored = false;
  for (size_t i = 0; i < task.returns.size(); ++i) {
    if (failed) offset = 0;
    const Result<wire::ValueView> value = wire::read_value(values, offset);
    std::vector<Object*> inner;
    for (uint32_t r = 0; r < value->header.ref_count; ++r) {
      inner.push_back(known_object(value->ref(r)));
      if (parcel) refs[i].push_back(value->ref(r));
    }
    if (value->header.kind == wire::ValueKind::kInStore && !failed) {
      task.returns[i]->rebuild = rebuild_of(task);
      stored = true;
    }
    complete(*task.returns[i], value->whole, std::move(inner));
  }
  if (parcel) close_parcel(channel.peer, task.call, task.returns, std::move(refs));
  if (task.stream) {
    finish_stream(task, failed ? values : std::span<const std::byte>{});
  }
  if (!failed && (stored || task.rebuilding)) remember(task);
  finish_returns(task);
  return {};
}

// The parcel's values are in `objects`, which name the refs of each.
void RuntimeImpl::close_parcel(ProcessId callee, CallId parcel, std::span<Object* const> objects,
                               std::vector<std::vector<ObjectId>> refs) {
  std::vector<objects::ParcelPart> parts;
  for (size_t i = 0; i < objects.size(); ++i) {
    Object& object = *objects[i];
    if (object.proxy) continue;  // Its entry, by Ready, holds all.
    const bool shared = object.sharing == Sharing::kShared;
    object.in_ref_table = true;
    parts.push_back({object.id, refs[i], shared});
  }
  objects::UplinkRecords records;
  refs_.on_parcel(callee, parcel, parts, records);
  send_records(records);
}

// The peer broke the protocol: nothing more is read from it. Its death, or the end of its lease,
// settles what it still had.
void RuntimeImpl::cut_off(ChannelEnd& channel, const std::string& reason) {
  std::fprintf(stderr, "mobula: worker (pid %u) broke the protocol and is ended: %s\n",
               channel.peer_pid, reason.c_str());
  channel.gone = true;
  by_bit_[channel.own_bit] = nullptr;
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateBrokenPeerDirect(builder, number(channel.peer), reason.c_str());
  });
  ring_daemon_later();
}

void RuntimeImpl::settle() {
  if (!delayed_.empty()) resume_delayed();
  start_startable();
  dispatcher_.settle(monotonic_now(), effects_);
  carry_out();
}

void RuntimeImpl::start_startable() {
  while (!startable_.empty()) {
    std::vector<Task*> tasks;
    tasks.swap(startable_);
    for (Task* task : tasks) start_task(*task);
  }
}

void RuntimeImpl::tell_shape(uint32_t shape, uint32_t target) {
  if (!shapes_told_[shape - 1]) {
    shapes_told_[shape - 1] = true;
    const ShapeKey& key = shapes_[shape - 1];
    uplink_->send([&](wire::Builder& builder) {
      const auto resources = wire::build_resources(builder, key.resources);
      const auto environment = build_environment(builder, key.environment);
      const auto bundle = wire::build_bundle(builder, key.bundle);
      return wire::fb::CreateDefineShape(builder, shape, resources, key.depth, key.priority,
                                         environment, bundle);
    });
  }
  uplink_->send(
      [&](wire::Builder& builder) { return wire::fb::CreateLeaseTarget(builder, shape, target); });
  ring_daemon_later();
}

void RuntimeImpl::carry_out() {
  bool revoked = false;
  while (!effects_.empty()) {
    carrying_.clear();
    std::swap(carrying_, effects_);
    for (tasks::TaskNode* node : carrying_.revoke) {
      Task& task = static_cast<Task&>(*node);
      if (task.state != tasks::TaskState::kInFlight) continue;
      OutboundChannel& channel = *task.channel;
      if (!channel.claim(task.slot).move(task.tag, shm::ClaimState::kRevoked)) continue;
      channel.release_slot(task);
      dispatcher_.on_revoked(task);
      revoked = true;
    }
    for (const tasks::TargetChange& change : carrying_.target) {
      tell_shape(change.shape, change.target);
    }
    for (const LeaseId lease : carrying_.give_back) {
      uplink_->send([&](wire::Builder& builder) {
        return wire::fb::CreateLeaseReturn(builder, number(lease));
      });
      ring_daemon_later();
    }
    for (const tasks::Push& push : carrying_.push) {
      push_task(static_cast<Task&>(*push.task), *push.lease);
    }
    if (std::exchange(revoked, false)) dispatcher_.settle(monotonic_now(), effects_);
  }
}

// After something was sent to the daemon. If the uplink is full, somebody must go on to flush it.
void RuntimeImpl::ring_daemon_later() {
  deferred().daemon = true;
  if (!uplink_->waiting()) return;
  senders_waiting_ = true;
  wake_reader_thread();
}

// Moves on what waited for room in a ring.
void RuntimeImpl::flush_senders() {
  // The daemon may have read all that was there and sleep.
  if (uplink_->waiting()) deferred().daemon = true;
  senders_waiting_ = !uplink_->flush();
  for (auto& [id, channel] : outbound_) {
    const bool was_waiting = channel->tasks.waiting();
    if (!channel->tasks.flush()) {
      senders_waiting_ = true;
    } else if (channel->calls != nullptr) {
      send_calls(*channel->calls);
    } else if (channel->free_slots.empty()) {
      senders_waiting_ = true;
      continue;
    } else {
      dispatcher_.on_drained(id);
    }
    if (was_waiting) ring_later(*channel, true);
  }
  for (auto& [id, channel] : inbound_) {
    if (!channel->results.waiting()) continue;
    if (uplink_->waiting() || !channel->results.flush()) senders_waiting_ = true;
    ring_later(*channel, true);
  }
}

}  // namespace mobula::process
