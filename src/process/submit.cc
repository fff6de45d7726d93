// RuntimeImpl: tasks on their way out.

#include <algorithm>
#include <cstring>

#include "base/function_name.h"
#include "process/oversized.h"
#include "process/runtime_impl.h"
#include "wire/frame_reader.h"

namespace mobula::process {

namespace {

// The daemon keeps books for each, for as long as this process lives.
constexpr size_t kShapesMax = 4096;
// Those in placement groups come and go with them, and so are many.
constexpr size_t kShapesInGroupsMax = 60'000;

void append(std::vector<std::byte>& to, const void* from, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(from);
  to.insert(to.end(), bytes, bytes + size);
}

void pad(std::vector<std::byte>& to) { to.resize(wire::padded(to.size())); }

// The arguments with each reference replaced by the value it stands for: inline bytes, or where the
// bytes lie (which is sending the ref, and the refs inside: they are listed behind it).
std::vector<std::byte> substituted_arguments(const Task& task) {
  std::vector<std::byte> bytes;
  bytes.reserve(task.arguments.size());
  size_t offset = 0;
  size_t ref_at = 0;
  for (uint32_t i = 0; i < task.value_count; ++i) {
    const auto value = wire::read_value(task.arguments, offset);
    if (value->header.kind != wire::ValueKind::kReference) {
      append(bytes, value->whole.data(), value->whole.size());
    } else {
      const Object& object = *task.refs.at(ref_at);
      if (object.value.kind() == wire::ValueKind::kInStore) {
        const auto ref_count = static_cast<uint32_t>(1 + object.inner.size());
        const wire::ValueHeader header{
            sizeof(wire::StoreLocation), ref_count, wire::ValueKind::kInStore, {}};
        append(bytes, &header, sizeof header);
        append(bytes, &object.id, sizeof object.id);
        for (const Object* inner : object.inner) append(bytes, &inner->id, sizeof inner->id);
        append(bytes, object.value.payload().data(), sizeof(wire::StoreLocation));
      } else {
        append(bytes, object.value.bytes().data(), object.value.bytes().size());
      }
    }
    pad(bytes);
    ref_at += value->header.ref_count;
  }
  return bytes;
}

// The refs that the task's frame will name. A reference argument itself does not leave if its value is
// sent inline, but the refs inside that value do.
std::vector<Object*> leaving_refs(const Task& task) {
  if (!task.has_references) return task.refs;
  std::vector<Object*> leaving;
  size_t offset = 0;
  size_t ref_at = 0;
  for (uint32_t i = 0; i < task.value_count; ++i) {
    const auto value = wire::read_value(task.arguments, offset);
    const auto refs = std::span(task.refs).subspan(ref_at, value->header.ref_count);
    ref_at += value->header.ref_count;
    const bool is_reference = value->header.kind == wire::ValueKind::kReference;
    if (!is_reference || refs[0]->value.kind() == wire::ValueKind::kInStore) {
      leaving.insert(leaving.end(), refs.begin(), refs.end());
    }
    if (is_reference) {
      leaving.insert(leaving.end(), refs[0]->inner.begin(), refs[0]->inner.end());
    }
  }
  return leaving;
}

}  // namespace

Function* RuntimeImpl::define_function(std::string_view name, PackedValues pickled,
                                       uint16_t group) {
  Locked lock(*this);
  auto function = std::make_unique<Function>();
  function->number = static_cast<uint32_t>(functions_.size() + 1);
  function->name = shown_name(name);
  function->full_name = name;
  function->group = group;
  function->pickled = std::move(pickled.bytes);
  function->refs = std::move(pickled.refs);
  functions_.push_back(std::move(function));
  return functions_.back().get();
}

uint32_t RuntimeImpl::shape(const ResourceSet& resources, const RuntimeEnvironment& environment,
                            const std::optional<BundleRef>& bundle, const LeaseLimit& limit) {
  Locked lock(*this);
  const Request request{resources, environment, bundle, limit};
  for (size_t at = requests_.size(); at > 0; --at) {  // Most often a late one.
    if (requests_[at - 1] == request) return static_cast<uint32_t>(at);
  }
  requests_.push_back(request);
  return static_cast<uint32_t>(requests_.size());
}

// The dispatcher's shape: a request at the depth of the task that is executing here, with a
// priority. 0: there are too many.
uint32_t RuntimeImpl::shape_for(const Submission& submission) {
  const int32_t priority = submission.priority.value_or(priority_);
  const std::tuple key(submission.shape, depth_, priority, children_.group);
  const auto found = shape_numbers_.find(key);
  if (found != shape_numbers_.end()) return found->second;
  const auto& [resources, environment, bundle, limit] = requests_.at(submission.shape - 1);
  const BundleRef where = bundle.value_or(children_);
  if (where.in_group()) {
    if (shapes_in_groups_ >= kShapesInGroupsMax) return 0;
    ++shapes_in_groups_;
  } else if (shapes_.size() - shapes_in_groups_ >= kShapesMax) {
    return 0;
  }
  shapes_.push_back({resources, depth_, priority, environment, where});
  shapes_told_.push_back(false);
  const auto number = static_cast<uint32_t>(shapes_.size());
  if (limit.group != 0) dispatcher_.limit_leases(number, limit.leases_max);
  return shape_numbers_[key] = number;
}

Result<void> RuntimeImpl::submit(const Submission& submission, PackedValues arguments,
                                 std::span<Object*> returns) {
  Locked lock(*this);
  if (submission.time_limit_ms != 0) watch_time_limit(nullptr, lock);
  MOBULA_TRY(check_pending(submission, arguments));
  const Result<Task*> task = make_task(submission, std::move(arguments), returns);
  MOBULA_TRY(task);
  if (submission.actor != nullptr) return launch_call(**task, submission);
  launch(**task);
  return {};
}

Result<Task*> RuntimeImpl::make_task(const Submission& submission, PackedValues arguments,
                                     std::span<Object*> returns) {
  MOBULA_CHECK(returns.size() == submission.num_returns);
  drain_dropped();
  const bool needs_shape = submission.actor == nullptr;
  const uint32_t shape = needs_shape ? shape_for(submission) : 0;
  const size_t bytes = arguments.bytes.size();
  if (!disconnected_.empty() || (needs_shape && shape == 0) || bytes > wire::kValuesBytesMax) {
    for (Object* ref : arguments.refs) release(ref);
    if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
    if (bytes > wire::kValuesBytesMax) {
      return fail(ErrorCode::kInvalidArgument, too_many_bytes("arguments", bytes));
    }
    return fail(
        ErrorCode::kInvalidArgument,
        "this process has used " + std::to_string(kShapesMax) + " (in placement groups " +
            std::to_string(kShapesInGroupsMax) +
            ") different combinations of resources, nesting depth and priority: that is all "
            "it can. Round amounts and priorities to fewer values");
  }
  auto* task = tasks_.make();
  task->call = CallId{next_call_++};
  task->function = submission.function;
  task->shape = shape;
  task->time_limit_ms = submission.time_limit_ms;
  task->arguments = std::move(arguments.bytes);
  task->refs = std::move(arguments.refs);
  task->value_count = arguments.value_count;
  task->keyword_count = arguments.keyword_count;
  task->retries_left = submission.retries_max;
  task->parent = submission.parent;
  if (task->parent == 0 && execution_.running) task->parent = execution_.number;
  task->first_return = {node_, process_, next_index_};
  for (Object*& object : returns) {
    object = new_object();
    object->count.store(2, std::memory_order_relaxed);  // The caller's and the task's.
    object->producer = task;
    task->returns.push_back(object);
  }
  if (returns.empty()) ++next_index_;  // A task without returns still has an id.
  task->return_count = submission.num_returns;
  link_task(*task);
  return task;
}

void RuntimeImpl::link_task(Task& task) {
  ++unfinished_;
  if (task.time_limit_ms != 0 && ++clock_.limited == 1) {
    clock_.next_look = monotonic_now() + kOverdueLookEvery;
    clock_.news.notify_one();
  }
  task.live_previous = nullptr;
  task.live_next = live_tasks_;
  if (live_tasks_ != nullptr) live_tasks_->live_previous = &task;
  live_tasks_ = &task;
}

void RuntimeImpl::unlink_task(Task& task) {
  --unfinished_;
  if (task.time_limit_ms != 0) --clock_.limited;
  if (task.calls != nullptr) --live_calls_;
  if (looked_at_ == &task) looked_at_ = task.live_next;
  if (task.live_next != nullptr) task.live_next->live_previous = task.live_previous;
  (task.live_previous != nullptr ? task.live_previous->live_next : live_tasks_) = task.live_next;
}

void RuntimeImpl::launch(Task& task) {
  if (task.refs.empty() || resolve_arguments(task)) start_task(task);
  // Keep workers fed while a program only submits.
  if (dispatcher_.has_queued() && shm::has_news(*bell_)) pump();
  wake_reader_thread();
}

// True if every reference argument has its value. Else the task waits as their dependent.
bool RuntimeImpl::resolve_arguments(Task& task) {
  size_t offset = 0;
  size_t ref_at = 0;
  std::vector<Object*> foreign;
  for (uint32_t i = 0; i < task.value_count; ++i) {
    const auto value = wire::read_value(task.arguments, offset);
    MOBULA_CHECK(value.has_value());  // Our own binding packed it.
    if (value->header.kind == wire::ValueKind::kReference) {
      task.has_references = true;
      Object* object = task.refs.at(ref_at);
      if (!object->is_ready()) {
        object->dependents.push_back(&task);
        ++task.unresolved;
        if (object->sharing == Sharing::kForeign) foreign.push_back(object);
      }
    }
    ref_at += value->header.ref_count;
  }
  if (!foreign.empty()) request_values(foreign);
  return task.unresolved == 0;
}

const Object* failed_argument(const Task& task) {
  if (!task.has_references) return nullptr;
  size_t offset = 0;
  size_t ref_at = 0;
  for (uint32_t i = 0; i < task.value_count; ++i) {
    const auto value = wire::read_value(task.arguments, offset);
    const Object* object =
        value->header.kind == wire::ValueKind::kReference ? task.refs.at(ref_at) : nullptr;
    if (object != nullptr && wire::is_error(object->value.kind())) return object;
    ref_at += value->header.ref_count;
  }
  return nullptr;
}

// All arguments are known. A task whose argument is an error fails with it, unrun.
void RuntimeImpl::start_task(Task& task) {
  if (task.calls != nullptr) return start_call(task);
  if (const Object* failed = failed_argument(task)) return fail_dependent(task, *failed);
  if (const auto error = oversized(task); !error.empty()) return fail_task(task, error);
  if (const auto found = infeasible_.find(task.shape); found != infeasible_.end()) {
    fail_task(task, system_error(wire::SystemErrorCode::kTaskUnschedulable, found->second));
    return;
  }
  dispatcher_.submit(task, monotonic_now(), effects_);
  carry_out();
}

void RuntimeImpl::announce_lease(OutboundChannel& channel, const tasks::Lease& lease,
                                 uint32_t shape_number) {
  channel.epoch_announced = lease.epoch;
  const ShapeKey& shape = shapes_.at(shape_number - 1);
  wire::LeaseStartHeader header{};
  header.frame.kind = wire::FrameKind::kLeaseStart;
  header.lease = lease.id;
  header.epoch = lease.epoch;
  header.gpu_count = static_cast<uint32_t>(channel.gpus.size());
  header.cpu_amount = shape.resources.get(kCpu);
  header.depth = shape.depth;
  header.priority = shape.priority;
  header.bundle_index = shape.bundle.index;
  header.group = shape.bundle.group;
  header.captures = shape.bundle.captures ? 1 : 0;
  std::string resources;
  for (const auto& [name, amount] : shape.resources.amounts()) {
    resources += name + "=" + std::to_string(amount) + "\n";
  }
  header.resources_size = static_cast<uint32_t>(resources.size());
  std::vector<std::byte> frame;
  append(frame, &header, sizeof header);
  append(frame, channel.gpus.data(), channel.gpus.size() * sizeof(uint32_t));
  append(frame, resources.data(), resources.size());
  pad(frame);
  channel.tasks.send(std::move(frame));
}

void RuntimeImpl::announce_function(OutboundChannel& channel, Function& function) {
  if (channel.functions_sent.size() <= function.number) {
    channel.functions_sent.resize(function.number + 1);
  }
  channel.functions_sent[function.number] = true;
  wire::FunctionHeader header{};
  header.frame.kind = wire::FrameKind::kFunction;
  header.frame.flags = function.group;
  header.function = function.number;
  header.name_size = static_cast<uint32_t>(function.full_name.size());
  std::vector<std::byte> frame;
  frame.reserve(sizeof header + function.full_name.size() + function.pickled.size() + 16);
  append(frame, &header, sizeof header);
  append(frame, function.full_name.data(), function.full_name.size());
  pad(frame);
  append(frame, function.pickled.data(), function.pickled.size());
  channel.tasks.send(std::move(frame));
}

// A thread that sleeps on the bell published the results it wants to be woken for before this task was
// on its way. Called before the task's frame is visible, so before its result can be.
void RuntimeImpl::wake_for(OutboundChannel& channel, uint64_t in_flight) {
  if (bell_->sleeping.load(std::memory_order_relaxed) == 0) return;
  // A waiter may want this very result; the reader thread only keeps the worker busy.
  const uint64_t ahead = reader_ != nullptr ? 1 : std::max<uint64_t>(1, in_flight * 3 / 4);
  channel.header().wake_at_result.store(channel.results_seen + ahead);
}

// False: there is no room now. Shares what the task's frame will name; while records of that wait for
// room in the uplink, the frame waits, too (OWNERSHIP.md R3).
bool RuntimeImpl::make_ready_to_push(OutboundChannel& channel, Task& task, bool function_is_new) {
  if (channel.free_slots.empty() || channel.tasks.waiting() || uplink_->waiting()) return false;
  if (!task.refs.empty()) prepare_to_send(leaving_refs(task));
  if (function_is_new) prepare_to_send(task.own_function().refs);
  return !uplink_->waiting();
}

// Carries out a Push.
void RuntimeImpl::push_task(Task& task, tasks::Lease& lease) {
  const auto found = outbound_.find(lease.channel);
  MOBULA_CHECK(found != outbound_.end());
  OutboundChannel& channel = *found->second;
  Function& function = task.own_function();
  const bool function_is_new =
      channel.functions_sent.size() <= function.number || !channel.functions_sent[function.number];
  if (!make_ready_to_push(channel, task, function_is_new)) {
    channel.tasks.flush();
    senders_waiting_ = true;
    dispatcher_.on_push_failed(task);
    return;
  }
  if (channel.epoch_announced != lease.epoch) announce_lease(channel, lease, task.shape);
  if (function_is_new) announce_function(channel, function);
  wake_for(channel, lease.in_flight.size());
  send_task_frame(task, channel, lease.epoch);
}

// There is a free slot, and room to begin with. The claim word first, then the frame.
void RuntimeImpl::send_task_frame(Task& task, OutboundChannel& channel, uint32_t epoch) {
  const Function& function = task.own_function();
  task.slot = channel.free_slots.back();
  channel.free_slots.pop_back();
  task.tag = channel.next_tag++;
  channel.slots[task.slot] = &task;
  task.channel = &channel;
  if (task.stream) {
    channel.claim(task.slot).consumed.store(task.stream->consumed());
  }
  channel.claim(task.slot).retriable.store(task.retries_left != 0 ? 1 : 0,
                                           std::memory_order_relaxed);
  channel.claim(task.slot).queue(task.tag);

  std::vector<std::byte> substituted;
  if (task.has_references) substituted = substituted_arguments(task);
  const std::vector<std::byte>& values = task.has_references ? substituted : task.arguments;

  wire::TaskHeader header{};
  header.frame = {static_cast<uint32_t>(sizeof header + values.size()), wire::FrameKind::kTask, 0};
  header.claim_tag = task.tag;
  header.call = task.call;
  header.first_return = task.first_return;
  header.function = function.number;
  header.lease_epoch = epoch;
  header.value_count = task.value_count;
  header.keyword_count = task.keyword_count;
  header.num_returns = task.stream ? wire::kStreaming | task.stream->ahead_max
                                   : static_cast<uint32_t>(task.returns.size());
  header.claim_slot = task.slot;
  header.attempt = task.attempt;
  header.time_limit_ms = task.time_limit_ms;
  const size_t size = sizeof header + values.size();
  if (std::byte* room = channel.tasks.reserve(size)) {
    std::memcpy(room, &header, sizeof header);
    if (!values.empty()) std::memcpy(room + sizeof header, values.data(), values.size());
    channel.tasks.publish();
  } else {
    std::vector<std::byte> frame(size);
    std::memcpy(frame.data(), &header, sizeof header);
    if (!values.empty()) std::memcpy(frame.data() + sizeof header, values.data(), values.size());
    channel.tasks.send(std::move(frame));
    senders_waiting_ = senders_waiting_ || channel.tasks.waiting();
  }
  ring_later(channel, true);
}

void RuntimeImpl::fail_task(Task& task, std::span<const std::byte> error) {
  trace_.end_by_owner(task, shape_of(task), error);
  if (task.stream) finish_stream(task, error);
  for (Object* object : task.returns) complete(*object, error, {});
  finish_returns(task);
}

// An argument of the task is an error, so the task never runs.
void RuntimeImpl::fail_dependent(Task& task, const Object& argument) {
  argument.note_seen();
  const StoredValue& cause = argument.value;
  const std::string& name = task.own_function().name;
  std::span<const std::byte> payload = cause.payload();
  wire::DependencyErrorPayload fixed{static_cast<uint32_t>(name.size()), cause.kind(), {}};
  if (cause.kind() == wire::ValueKind::kDependencyError) {  // Of a chain, its ends are told.
    wire::DependencyErrorPayload before{};
    std::memcpy(&before, payload.data(), sizeof before);
    fixed.kind = before.kind;
    payload = payload.subspan(sizeof before + before.name_size);
  }
  const uint64_t size = sizeof fixed + name.size() + payload.size();
  const wire::ValueHeader header{size, cause.ref_count(), wire::ValueKind::kDependencyError, {}};
  std::vector<std::byte> error;
  append(error, &header, sizeof header);
  for (uint32_t i = 0; i < cause.ref_count(); ++i) {
    const ObjectId ref = cause.ref(i);
    append(error, &ref, sizeof ref);
  }
  append(error, &fixed, sizeof fixed);
  append(error, name.data(), name.size());
  append(error, payload.data(), payload.size());
  trace_.end_by_owner(task, shape_of(task), error);
  // A lost value is not told of as an error of the task that was to make it again.
  const bool plain = task.rebuilding && cause.kind() == wire::ValueKind::kSystemError;
  if (task.stream) finish_stream(task, plain ? cause.bytes() : std::span<const std::byte>(error));
  for (Object* object : task.returns) {
    for (Object* ref : argument.inner) ref->retain();
    complete(*object, plain ? cause.bytes() : std::span<const std::byte>(error), argument.inner);
  }
  finish_returns(task);
}

// The task is done: its returns have values.
void RuntimeImpl::finish_returns(Task& task) {
  for (Object* object : task.returns) {
    object->producer = nullptr;
    release(object);
  }
  task.returns.clear();
  if (!task.kept) return free_task(task);
  if (task.yields) return rest_generator(task);
  if (task.rebuilding) forget_task(task);  // It did not succeed this time.
  rest_task(task);
}

void RuntimeImpl::free_task(Task& task) {
  if (task.adopted) adopted_.erase(task.first_return);
  unlink_task(task);
  for (Object* ref : task.refs) release(ref);
  if (task.calls != nullptr) release(task.calls->actor);
  tasks_.free(&task);
}

}  // namespace mobula::process
