// RuntimeImpl: a worker's side. Tasks in, results out.

#include <algorithm>
#include <cstring>

#include "base/function_name.h"
#include "process/oversized.h"
#include "process/runtime_impl.h"
#include "wire/frame_reader.h"

namespace mobula::process {

namespace {

// A worker with tasks at hand looks at what else has come after so many of them, or so long.
constexpr uint32_t kTasksBetweenPumps = 64;
constexpr Duration kPumpEvery = std::chrono::milliseconds(1);

}  // namespace

NextTask RuntimeImpl::next_task(ClaimedTask& task, Gate& gate) {
  Locked lock(*this);
  execution_.running = false;
  execution_.thread = std::this_thread::get_id();
  execution_.pthread = ::pthread_self();
  return wait_for_task(task, gate, lock);
}

NextTask RuntimeImpl::finish_and_next(ClaimedTask& task, TaskOutcome outcome, Instant now,
                                      Gate& gate) {
  Locked lock(*this);
  finish(task, outcome, now);
  if (goes_straight_on(now) && take_task(task)) {
    start(task, now, lock);
    return NextTask::kTask;
  }
  return wait_for_task(task, gate, lock);
}

// There are tasks that need no look at the bell. While nobody looks at it, callers need not ring it.
bool RuntimeImpl::goes_straight_on(Instant now) {
  if (tasks_ready_.empty() || exit_asked_ || execution_.retiring || !disconnected_.empty()) {
    return false;
  }
  return ++execution_.since_pump < kTasksBetweenPumps && now - pumped_ < kPumpEvery;
}

NextTask RuntimeImpl::wait_for_task(ClaimedTask& task, Gate& gate, Locked& lock) {
  while (true) {
    pump();
    execution_.since_pump = 0;
    if (exit_asked_ || !disconnected_.empty()) return NextTask::kExit;
    if (execution_.retiring && may_exit()) return NextTask::kExit;
    if (role_ != nullptr && std::exchange(role_->is_new, false)) {
      execution_.running = true;
      execution_.channel = ChannelId{};
      execution_.tag = 0;
      ++execution_.number;
      return NextTask::kActor;
    }
    if (take_task(task)) {
      start(task, monotonic_now(), lock);
      return NextTask::kTask;
    }
    Waiter waiter;
    waiter.for_task = true;
    const Waited waited = wait_for(waiter, std::nullopt, gate, lock, task_credit_);
    if (waited == Waited::kInterrupted) return NextTask::kInterrupted;
  }
}

void RuntimeImpl::start(ClaimedTask& task, Instant now, Locked& lock) {
  execution_.running = true;
  execution_.channel = ChannelId{task.channel};
  execution_.tag = task.claim_tag;
  execution_.slot = task.claim_slot;
  task.number = ++execution_.number;
  task.started = now;
  trace_.begin(task, next_index_, role_ != nullptr);
  if (task.time_limit_ms != 0) watch_time_limit(&task, lock);
}

void RuntimeImpl::retire() {
  Locked lock(*this);
  execution_.retiring = true;
}

// Somebody may still need what this process is about to send, or what its tasks return.
bool RuntimeImpl::may_exit() const {
  if (unfinished_ != 0 || uplink_->waiting()) return false;
  return std::ranges::none_of(inbound_,
                              [](const auto& entry) { return entry.second->results.waiting(); });
}

bool RuntimeImpl::take_task(ClaimedTask& task, uint32_t group) {
  while (!tasks_ready_.empty()) {
    InboundChannel& channel = *tasks_ready_.front();
    const Result<bool> taken = channel.gone ? Result<bool>(false) : take_from(channel, task, group);
    if (taken.has_value() && *taken) {
      // Other callers' turn next.
      if (tasks_ready_.size() > 1) {
        tasks_ready_.pop_front();
        tasks_ready_.push_back(&channel);
      }
      return true;
    }
    if (!taken.has_value()) cut_off(channel, taken.error().message);
    channel.listed = false;
    tasks_ready_.pop_front();
  }
  return false;
}

// False: the ring is empty.
Result<bool> RuntimeImpl::take_from(InboundChannel& channel, ClaimedTask& task, uint32_t group) {
  while (true) {
    const auto frame = channel.tasks.next();
    MOBULA_TRY(frame);
    if (frame->empty()) return false;
    wire::FrameHeader header{};
    std::memcpy(&header, frame->data(), sizeof header);
    switch (header.kind) {
      case wire::FrameKind::kLeaseStart:
        MOBULA_TRY(on_lease_start(channel, *frame));
        break;
      case wire::FrameKind::kFunction:
        MOBULA_TRY(on_function_frame(channel, *frame));
        break;
      case wire::FrameKind::kTask: {
        const auto its_header = wire::read_header<wire::TaskHeader>(*frame);
        MOBULA_TRY(its_header);
        // Numbered one after another: one that is missing, or whose number was written over, would be a
        // task that nobody runs.
        if (its_header->claim_tag != channel.last_tag + 1) {
          return fail(ErrorCode::kInvalidArgument, "task out of sequence");
        }
        channel.last_tag = its_header->claim_tag;
        if (role_ != nullptr && !role_->groups.empty()) {
          const Result<uint32_t> its_group = group_of(channel, *its_header);
          MOBULA_TRY(its_group);
          if (*its_group != group) {
            stash(channel, *frame, *its_group);
            break;
          }
        }
        const Result<bool> started = on_task_frame(channel, *its_header, *frame, task);
        MOBULA_TRY(started);
        if (*started) return true;
        break;
      }
      default:
        return fail(ErrorCode::kInvalidArgument, "frame of a kind that a caller never sends");
    }
  }
}

Result<void> RuntimeImpl::on_lease_start(InboundChannel& channel,
                                         std::span<const std::byte> frame) {
  const auto header = wire::read_header<wire::LeaseStartHeader>(frame);
  MOBULA_TRY(header);
  const size_t room = (frame.size() - sizeof(wire::LeaseStartHeader)) / sizeof(uint32_t);
  if (header->gpu_count > room) return fail(ErrorCode::kInvalidArgument, "lease of too many GPUs");
  channel.lease.epoch = header->epoch;
  channel.lease.cpus = header->cpu_amount;
  channel.lease.depth = header->depth;
  channel.lease.priority = header->priority;
  channel.lease.bundle = {header->group, std::max(header->bundle_index, kAnyBundle),
                          header->captures != 0};
  channel.lease.gpus.resize(header->gpu_count);
  if (header->gpu_count > 0) {
    std::memcpy(channel.lease.gpus.data(), frame.data() + sizeof(wire::LeaseStartHeader),
                header->gpu_count * sizeof(uint32_t));
  }
  const auto text =
      frame.subspan(sizeof(wire::LeaseStartHeader) + header->gpu_count * sizeof(uint32_t));
  if (header->resources_size > text.size()) {
    return fail(ErrorCode::kInvalidArgument, "lease with too long a list of resources");
  }
  channel.lease.resources.assign(reinterpret_cast<const char*>(text.data()),
                                 header->resources_size);
  channel.lease_changed = true;
  return {};
}

Result<void> RuntimeImpl::on_function_frame(InboundChannel& channel,
                                            std::span<const std::byte> frame) {
  const auto header = wire::read_header<wire::FunctionHeader>(frame);
  MOBULA_TRY(header);
  const size_t name_end = sizeof(wire::FunctionHeader) + wire::padded(header->name_size);
  if (name_end > frame.size()) return fail(ErrorCode::kInvalidArgument, "function name too long");
  size_t offset = 0;
  const auto value = wire::read_value(frame.subspan(name_end), offset);
  MOBULA_TRY(value);
  auto function = std::make_unique<ReceivedFunction>();
  function->full_name.assign(
      reinterpret_cast<const char*>(frame.data()) + sizeof(wire::FunctionHeader),
      header->name_size);
  function->name = shown_name(function->full_name);
  function->value.assign(value->whole);
  function->group = header->frame.flags;
  for (uint32_t i = 0; i < value->header.ref_count; ++i) {
    function->refs.push_back(known_object(value->ref(i)));
  }
  if (!function->refs.empty()) {
    // Captured refs live as long as this process knows the function: hold them.
    std::vector<ObjectId> ids;
    for (const Object* object : function->refs) ids.push_back(object->id);
    objects::UplinkRecords records;
    refs_.on_task(channel.peer, CallId{~uint64_t{0}}, ids);
    refs_.end_task(channel.peer, CallId{~uint64_t{0}}, records);
    send_records(records);
  }
  trace_.forget_functions();
  channel.functions[header->function] = std::move(function);
  return {};
}

// True if the task is ours to run; false if it was taken back.
Result<bool> RuntimeImpl::on_task_frame(InboundChannel& channel, const wire::TaskHeader& header,
                                        std::span<const std::byte> frame, ClaimedTask& task) {
  if (header.claim_slot >= shm::kClaimSlots) {
    return fail(ErrorCode::kInvalidArgument, "task with an impossible claim slot");
  }
  const uint32_t epoch = channel.header().lease_epoch.load(std::memory_order_acquire);
  if (header.lease_epoch != epoch ||
      !channel.claim(header.claim_slot).move(header.claim_tag, shm::ClaimState::kStarted)) {
    const uint64_t word = channel.claim(header.claim_slot).word.load();
    const bool queued = word == shm::claim_word(header.claim_tag, shm::ClaimState::kQueued);
    const bool taken_back = word == shm::claim_word(header.claim_tag, shm::ClaimState::kRevoked) ||
                            shm::claim_tag(word) > header.claim_tag;  // Its slot has another task.
    // An actor's lease ends with it, so only tasks that came before it have another one. Nobody would
    // take back a call whose epoch was written over: calls may be set aside, and stay queued then.
    if (queued && role_ != nullptr && epoch != 0 && header.lease_epoch != epoch &&
        header.lease_epoch != channel.lease.epoch) {
      return fail(ErrorCode::kInvalidArgument, "call under a lease that there never was");
    }
    if (queued || taken_back) return false;  // Queued: the lease is over, its caller will be told.
    return fail(ErrorCode::kInvalidArgument, "task with a claim that its caller did not make");
  }
  const auto function = channel.functions.find(header.function);
  if (function == channel.functions.end()) {
    return fail(ErrorCode::kInvalidArgument, "task of a function that was never sent");
  }
  const auto values = frame.subspan(sizeof(wire::TaskHeader));
  MOBULA_TRY(wire::check_values(values, header.value_count));
  if (header.keyword_count >= std::max<uint32_t>(header.value_count, 1)) {
    return fail(ErrorCode::kInvalidArgument, "task with more keywords than values");
  }
  task.function = function->second.get();
  task.values.assign(values.begin(), values.end());
  task.value_count = header.value_count;
  task.keyword_count = header.keyword_count;
  task.streaming = (header.num_returns & wire::kStreaming) != 0;
  task.ahead_max = task.streaming ? header.num_returns & ~wire::kStreaming : 0;
  task.num_returns = task.streaming ? 1 : header.num_returns;
  task.yielded = 0;
  task.attempt = header.attempt;
  task.time_limit_ms = header.time_limit_ms;
  task.error_type = 0;
  task.error_text.clear();
  task.first_return = header.first_return;
  if (role_ != nullptr) {
    task.lease = &role_->lease;
    task.lease_changed = false;
  } else {
    task.lease = &channel.lease;
    task.lease_changed = std::exchange(channel.lease_changed, false) || lease_of_last_ != &channel;
    lease_of_last_ = &channel;
    depth_ = channel.lease.depth + 1;
    priority_ = channel.lease.priority;
    bundle_ = channel.lease.bundle;
    children_ = bundle_.of_children();
    captured_.store(children_.group, std::memory_order_relaxed);
  }
  task.call = header.call;
  task.claim_tag = header.claim_tag;
  task.channel = number(channel.id);
  task.claim_slot = header.claim_slot;
  task.function_number = header.function;
  task.refs = receive_refs(task.values, task.value_count);
  if (!task.refs.empty()) {
    std::vector<ObjectId> ids;
    for (const Object* object : task.refs) ids.push_back(object->id);
    refs_.on_task(channel.peer, task.call, ids);
  }
  return true;
}

std::vector<Object*> RuntimeImpl::receive_refs(std::span<const std::byte> values, uint32_t count) {
  std::vector<Object*> received;
  size_t offset = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const auto value = wire::read_value(values, offset);
    const size_t first = received.size();
    for (uint32_t r = 0; r < value->header.ref_count; ++r) {
      received.push_back(known_object(value->ref(r)));
    }
    // An argument in the store comes with its location, and with the refs inside behind its own: no
    // need to ask the daemon.
    if (value->header.kind != wire::ValueKind::kInStore || received.size() == first) continue;
    Object& stored = *received[first];
    if (stored.is_ready()) continue;
    std::vector<Object*> inner(received.begin() + static_cast<ptrdiff_t>(first) + 1,
                               received.end());
    for (Object* ref : inner) ref->retain();
    wire::StoreLocation location{};
    std::memcpy(&location, value->payload.data(), sizeof location);
    complete(stored, stored_value(location), std::move(inner));
  }
  return received;
}

void RuntimeImpl::finish_task(ClaimedTask& task, TaskOutcome outcome) {
  const Instant now = monotonic_now();
  Locked lock(*this);
  finish(task, outcome, now);
}

void RuntimeImpl::finish(ClaimedTask& task, TaskOutcome& outcome, Instant now) {
  auto& [results, failed, stored] = outcome;
  execution_.running = false;
  clock_.limit.finish();
  drain_dropped();
  if (const size_t bytes = results.bytes.size(); bytes > wire::kValuesBytesMax) [[unlikely]] {
    for (Object* ref : results.refs) release(ref);
    for (StoreWrite& write : std::exchange(stored, {})) discard_store(write);
    results = {};
    results.bytes =
        system_error(wire::SystemErrorCode::kInternal, too_many_bytes("results", bytes));
    failed = true;
  }
  trace_.end(task, next_index_, failed, now);
  if (role_ != nullptr) {
    if (!role_->running.empty()) role_->running.erase({task.channel, task.claim_tag});
    if (!role_->cancelled.empty()) role_->cancelled.erase({task.channel, task.claim_tag});
  }
  const auto found = inbound_.find(ChannelId{task.channel});
  if (found == inbound_.end() || found->second->gone) {  // The caller is dead: nobody wants it.
    drop_result(task, results, stored);
    return;
  }
  InboundChannel& channel = *found->second;
  const bool had_refs = !task.refs.empty();
  for (Object* ref : task.refs) release(ref);
  task.refs.clear();
  if (had_refs) {
    objects::UplinkRecords records;
    refs_.end_task(channel.peer, task.call, records);
    send_records(records);
  }
  const bool parcel = hand_over(channel, task.call, results, stored);
  wire::ResultHeader header{};
  header.frame.kind = wire::FrameKind::kResult;
  header.frame.flags = static_cast<uint16_t>((failed ? wire::kResultFailed : 0) |
                                             (parcel ? wire::kResultParcel : 0));
  header.call = task.call;
  header.claim_tag = task.claim_tag;
  header.run_time_ns = static_cast<uint64_t>(std::max<int64_t>((now - task.started).count(), 0));
  header.num_returns = failed ? 1 : task.num_returns;
  header.claim_slot = task.claim_slot;
  publish_result(channel, std::as_writable_bytes(std::span(&header, 1)), results);
}

// What the values carry along becomes the caller's. True if there is a parcel for it.
bool RuntimeImpl::hand_over(InboundChannel& channel, CallId parcel, const PackedValues& results,
                            std::span<StoreWrite> stored) {
  for (StoreWrite& write : stored) {
    seal_store(write);
    store_->give_away(write.location);
  }
  if (results.refs.empty() && stored.empty()) return false;
  send_parcel(channel, parcel, results, stored);
  return true;
}

// Writes header (whose size is set here) and values into the result ring and drops the values' refs.
void RuntimeImpl::publish_result(InboundChannel& channel, std::span<std::byte> header,
                                 const PackedValues& results) {
  const size_t size = wire::padded(header.size() + results.bytes.size());
  wire::FrameHeader frame_header{};
  std::memcpy(&frame_header, header.data(), sizeof frame_header);
  const bool failed = (frame_header.flags & wire::kResultFailed) != 0;
  const auto frame_size = static_cast<uint32_t>(size);
  std::memcpy(header.data(), &frame_size, sizeof frame_size);
  const auto write = [&](std::byte* to) {
    std::memcpy(to, header.data(), header.size());
    if (results.bytes.empty()) return;
    std::memcpy(to + header.size(), results.bytes.data(), results.bytes.size());
  };
  // What the result depends on must be in the uplink first (OWNERSHIP.md R3): SHAREs and PARCEL, and
  // CLAIMs of arguments that live on.
  std::byte* room = uplink_->waiting() ? nullptr : channel.results.reserve(size);
  if (room != nullptr) {
    write(room);
    channel.results.publish();
  } else {
    std::vector<std::byte> frame(size);
    write(frame.data());
    send_result_frame(channel, std::move(frame));
  }
  ++channel.results_pushed;
  channel.header().results_pushed.store(channel.results_pushed, std::memory_order_relaxed);
  // The bit must be out before we look at the position: who publishes one looks at the bits once more
  // before it sleeps (sleep_on_bell).
  shm::announce(channel.peer_bell(), channel.peer_bit);
  // An error may end a wait for many.
  if (failed || channel.results_pushed >= channel.header().wake_at_result.load()) {
    wake_later(channel);
  }
  for (Object* ref : results.refs) release(ref);
}

// Frames of results stay in order, and none overtakes the records in the uplink.
void RuntimeImpl::send_result_frame(InboundChannel& channel, std::vector<std::byte> frame) {
  channel.results.hold(std::move(frame));
  if (!uplink_->waiting() && channel.results.flush()) return;
  senders_waiting_ = true;
  wake_reader_thread();
}

void RuntimeImpl::drop_result(ClaimedTask& task, const PackedValues& results,
                              std::vector<StoreWrite>& stored) {
  for (Object* ref : results.refs) release(ref);
  for (Object* ref : task.refs) release(ref);
  task.refs.clear();
  for (StoreWrite& write : stored) discard_store(write);
}

// The refs and in-store bytes of a result: SHAREs, then PARCEL, before the RESULT (R8).
void RuntimeImpl::send_parcel(InboundChannel& channel, CallId parcel, const PackedValues& results,
                              std::span<const StoreWrite> stored) {
  share(results.refs);
  std::vector<ObjectId> ids;
  for (const Object* object : results.refs) ids.push_back(object->id);
  std::vector<wire::StoreLocation> locations;
  for (const StoreWrite& write : stored) locations.push_back(write.location);
  const std::span<const ObjectId> last = send_refs_ahead(ids);
  uplink_->send([&](wire::Builder& builder) {
    const auto refs = wire::build_objects(builder, last);
    const auto where = wire::build_locations(builder, locations);
    return wire::fb::CreateParcel(builder, number(channel.peer), number(parcel), refs, where);
  });
  ring_daemon_later();
}

}  // namespace mobula::process
