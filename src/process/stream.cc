// RuntimeImpl: the items of generator tasks, at their owner and in the worker that yields them.

#include <algorithm>
#include <cstring>

#include "process/runtime_impl.h"
#include "wire/frame_reader.h"

namespace mobula::process {

namespace {

// Stands in ClaimWord::consumed for a stream of which nobody takes items.

}  // namespace

// ---- the owner's side

bool Runtime::is_end_of_stream(const Object& object) {
  if (!object.is_ready() || object.value.kind() != wire::ValueKind::kSystemError) return false;
  wire::SystemErrorPayload payload{};
  if (object.value.payload().size() < sizeof payload) return false;
  std::memcpy(&payload, object.value.payload().data(), sizeof payload);
  return payload.code == wire::SystemErrorCode::kEndOfStream;
}

Result<std::shared_ptr<Stream>> RuntimeImpl::submit_generator(const Submission& submission,
                                                              PackedValues arguments,
                                                              std::span<Object*> returns) {
  MOBULA_CHECK(submission.streaming && submission.num_returns == 1);
  Locked lock(*this);
  if (submission.time_limit_ms != 0) watch_time_limit(nullptr, lock);
  MOBULA_TRY(check_pending(submission, arguments));
  const Result<Task*> made = make_task(submission, std::move(arguments), returns);
  MOBULA_TRY(made);
  Task* task = *made;
  auto stream = std::make_shared<Stream>();
  stream->ahead_max = submission.ahead_max & ~wire::kStreaming;
  stream->task = task;
  task->stream = stream;
  task->yields = true;
  stream->collected = submission.collected;
  if (submission.actor != nullptr) {
    MOBULA_TRY(launch_call(*task, submission));
  } else {
    launch(*task);
  }
  return stream;
}

Object* RuntimeImpl::next_item(Stream& stream) {
  Locked lock(*this);
  if (stream.items.empty()) {
    stream.items.push_back(new_object());
    stream.note_made(stream.items.back()->id.index);
    if (stream.task == nullptr) {
      complete(*stream.items.back(), system_error(wire::SystemErrorCode::kEndOfStream, ""), {});
    }
  }
  stream.items.front()->retain();
  return stream.items.front();
}

bool RuntimeImpl::take_item(Stream& stream, const Object* item) {
  Locked lock(*this);
  if (stream.items.empty() || stream.items.front() != item) return false;
  Object* taken = stream.items.front();
  taken->note_seen();  // As `wait` would.
  stream.items.pop_front();
  ++stream.taken;
  release(taken);
  tell_consumed(stream);
  return true;
}

void RuntimeImpl::abandon_stream(Stream& stream) {
  Locked lock(*this);
  stream.abandoned = true;
  for (Object* item : std::exchange(stream.items, {})) release(item);
  stream.taken = stream.arrived;
  tell_consumed(stream);
}

void RuntimeImpl::tell_consumed(const Stream& stream) {
  const Task* task = stream.task;
  if (task == nullptr || task->state != tasks::TaskState::kInFlight) return;
  if (stream.ahead_max == 0 && !stream.abandoned) return;
  OutboundChannel& channel = *task->channel;
  channel.claim(task->slot).consumed.store(stream.consumed());
  ring_later(channel, true);
}

// The object of the item that comes now, which counts as arrived.
Object& RuntimeImpl::arriving_item(Stream& stream) {
  if (!stream.has_pending()) {
    stream.items.push_back(new_object());
    stream.note_made(stream.items.back()->id.index);
  }
  ++stream.arrived;
  stream.items.back()->is_item = true;
  return *stream.items.back();
}

// The task is done: its return is the value that was asked for, with the refs of all items.
void RuntimeImpl::collect_items(Task& task) {
  Stream& stream = *task.stream;
  std::vector<Object*> items(stream.items.begin(), stream.items.end());
  stream.items.clear();
  stream.taken = stream.arrived;
  size_t offset = 0;
  const Result<wire::ValueView> value = wire::read_value(*stream.collected, offset);
  MOBULA_CHECK(value.has_value() && value->header.ref_count == 0);  // Our own binding made it.
  wire::ValueHeader header = value->header;
  header.ref_count = static_cast<uint32_t>(items.size());
  std::vector<std::byte> bytes(sizeof header + items.size() * sizeof(ObjectId));
  std::memcpy(bytes.data(), &header, sizeof header);
  for (size_t i = 0; i < items.size(); ++i) {
    std::memcpy(bytes.data() + sizeof header + i * sizeof(ObjectId), &items[i]->id,
                sizeof(ObjectId));
  }
  bytes.insert(bytes.end(), value->payload.begin(), value->payload.end());
  complete(*task.returns[0], bytes, std::move(items));
}

Result<void> RuntimeImpl::on_yield_frame(OutboundChannel& channel,
                                         std::span<const std::byte> frame) {
  const auto header = wire::read_header<wire::YieldHeader>(frame);
  MOBULA_TRY(header);
  if (header->claim_slot >= shm::kClaimSlots) {
    return fail(ErrorCode::kInvalidArgument, "item with an impossible claim slot");
  }
  Task* task = channel.find_in_flight(header->claim_slot, header->claim_tag);
  if (task == nullptr || task->call != header->call || !task->stream) {
    return fail(ErrorCode::kInvalidArgument, "item of a generator that is not in flight");
  }
  const auto values = frame.subspan(sizeof(wire::YieldHeader));
  MOBULA_TRY(wire::check_values(values, 1));
  Stream& stream = *task->stream;
  if (header->index > stream.arrived) {
    return fail(ErrorCode::kInvalidArgument, "item of a generator out of order");
  }
  size_t offset = 0;
  const Result<wire::ValueView> value = wire::read_value(values, offset);
  const bool stored = value->header.kind == wire::ValueKind::kInStore;
  Object* item = nullptr;
  if (task->rerun_of() != nullptr) {
    stream.arrived = std::max(stream.arrived, header->index + 1);
    item = take_rerun_item(*task, header->index, wire::is_error(value->header.kind));
  } else if (header->index < stream.arrived) {  // The task was run again.
    item = new_object();
  } else if (stream.abandoned) {
    ++stream.arrived;
    ++stream.taken;
    item = new_object();
  } else {
    item = &arriving_item(stream);
    item->retain();
    if (stored) item->rebuild = keep_item(*task, *item, header->index);
  }
  std::vector<Object*> inner;
  std::vector<std::vector<ObjectId>> refs(1);
  for (uint32_t r = 0; r < value->header.ref_count; ++r) {
    inner.push_back(known_object(value->ref(r)));
    refs[0].push_back(value->ref(r));
  }
  complete(*item, value->whole, std::move(inner));
  if (!stored && task->rerun_of() != nullptr) forget_result(item->id);
  if ((header->frame.flags & wire::kResultParcel) != 0) {
    close_parcel(channel.peer, header->parcel, {&item, 1}, std::move(refs));
  }
  release(item);
  return {};
}

// The task is done. `error`: one value, or nothing.
void RuntimeImpl::finish_stream(Task& task, std::span<const std::byte> error) {
  Stream& stream = *task.stream;
  stream.task = nullptr;
  if (task.rerun_of() != nullptr) return end_rerun(task, error);
  if (!error.empty() && !stream.abandoned) {
    size_t offset = 0;
    const Result<wire::ValueView> value = wire::read_value(error, offset);
    std::vector<Object*> inner;
    for (uint32_t r = 0; r < value->header.ref_count; ++r) {
      inner.push_back(known_object(value->ref(r)));
    }
    complete(arriving_item(stream), value->whole, std::move(inner));
  }
  if (stream.has_pending()) {
    complete(*stream.items.back(), system_error(wire::SystemErrorCode::kEndOfStream, ""), {});
  }
}

// ---- the worker's side

bool RuntimeImpl::may_yield(const ClaimedTask& task) const {
  const auto found = inbound_.find(ChannelId{task.channel});
  if (!disconnected_.empty() || found == inbound_.end() || found->second->gone) return true;
  const uint64_t consumed = found->second->claim(task.claim_slot).consumed.load();
  return consumed == kAbandoned || task.yielded < consumed + task.ahead_max;
}

Waited RuntimeImpl::yield_item(ClaimedTask& task, PackedValues item, std::vector<StoreWrite> stored,
                               Gate& gate) {
  Locked lock(*this);
  drain_dropped();
  const auto found = inbound_.find(ChannelId{task.channel});
  const bool caller_lives = found != inbound_.end() && !found->second->gone;
  if (!caller_lives || found->second->claim(task.claim_slot).consumed.load() == kAbandoned) {
    for (Object* ref : item.refs) release(ref);
    for (StoreWrite& write : stored) discard_store(write);
    return caller_lives ? Waited::kEnough : Waited::kTimeout;
  }
  InboundChannel& channel = *found->second;
  wire::YieldHeader header{};
  header.frame.kind = wire::FrameKind::kYield;
  header.call = task.call;
  header.claim_tag = task.claim_tag;
  header.parcel = CallId{wire::kYieldParcel | ++execution_.yield_parcels};
  header.index = task.yielded++;
  header.claim_slot = task.claim_slot;
  const bool parcel = hand_over(channel, header.parcel, item, stored);
  if (parcel) header.frame.flags = wire::kResultParcel;
  publish_result(channel, std::as_writable_bytes(std::span(&header, 1)), item);
  if (task.ahead_max == 0 || may_yield(task)) return Waited::kEnough;
  Waiter waiter;
  waiter.for_room = &task;
  return wait_for(waiter, std::nullopt, gate, lock, task_credit_);
}

}  // namespace mobula::process
