#include "process/task_trace.h"

#include <algorithm>
#include <cstring>

#include "wire/frame_reader.h"

namespace mobula::process {

namespace {

constexpr size_t kNamesMax = 64 * 1024;

uint64_t nanoseconds(Instant instant) { return static_cast<uint64_t>(instant.count()); }

// "CPU=10000\n...", as leases tell it.
std::string resource_text(const ResourceSet& resources) {
  std::string text;
  for (const auto& [name, amount] : resources.amounts()) {
    text += name + "=" + std::to_string(amount) + "\n";
  }
  return text;
}

}  // namespace

void TaskTrace::open(std::byte* home) {
  home_ = &shm::home_header(home);
  writer_ = std::make_unique<shm::TraceWriter>(home + shm::kTraceOffset);
  metrics_ = std::make_unique<shm::MetricsWriter>(home + shm::kMetricsOffset);
}

void TaskTrace::note_waiting(shm::WaitsIn what) {
  if (home_ != nullptr) home_->waits_in.store(what, std::memory_order_relaxed);
}

uint32_t TaskTrace::name_index(std::string_view name, std::string_view resources) {
  std::string key(name);
  key += '\0';
  key += resources;
  if (const auto known = names_.find(key); known != names_.end()) return known->second;
  if (names_.size() >= kNamesMax) return 0;  // The writer's table has long been full.
  const uint32_t index = writer_->name_index(name, resources);
  names_.emplace(std::move(key), index);
  return index;
}

void TaskTrace::begin(ClaimedTask& task, uint64_t next_index, bool is_call) {
  const bool same = last_.function == task.function && last_.lease == task.lease &&
                    last_.epoch == task.lease->epoch;
  if (!same) {
    last_ = {task.function, task.lease, task.lease->epoch,
             name_index(task.function->full_name, task.lease->resources)};
  }
  task.trace_name = last_.name;
  task.children_from = next_index;
  overlapped_ = running_ > 0;  // Until nothing runs, what is made could be anybody's.
  ++running_;
  is_actor_ = is_call;
  current_ = task.first_return;
  home_->running.store(
      {task.first_return.index, nanoseconds(task.started), overlapped_ ? UINT64_MAX : next_index,
       number(task.first_return.creator), last_.name, static_cast<uint16_t>(task.attempt),
       static_cast<uint16_t>(is_call ? 1 : 0), is_call ? 0 : number(task.lease->bundle.group)});
}

void TaskTrace::end(const ClaimedTask& task, uint64_t next_index, bool failed, Instant now) {
  // Items and single returns may have failed though the task has not.
  const bool has_error = failed || task.error_type != 0;
  const uint64_t children = overlapped_ ? 0 : next_index - task.children_from;
  writer_->record({.name = task.trace_name,
                   .call = number(task.call),
                   .task = task.first_return.index,
                   .start_ns = nanoseconds(task.started),
                   .end_ns = nanoseconds(now),
                   .children_from = task.children_from,
                   .children = static_cast<uint32_t>(std::min<uint64_t>(children, UINT32_MAX)),
                   .group = is_actor_ ? 0 : number(task.lease->bundle.group),
                   .caller = number(task.first_return.creator),
                   .attempt = static_cast<uint16_t>(task.attempt),
                   .flags = static_cast<uint16_t>((has_error ? shm::kTraceFailed : 0) |
                                                  (is_actor_ ? shm::kTraceCall : 0)),
                   .error_type = task.error_type != 0 ? task.error_type : kErrorRaised,
                   .error = task.error_text});
  if (running_ > 0) --running_;
  if (running_ == 0) overlapped_ = false;
  if (current_ == task.first_return) home_->running.store({});
}

void TaskTrace::end_by_owner(Task& task, const ShapeKey* shape, std::span<const std::byte> error) {
  uint32_t type = kErrorDependency;
  std::string_view text;
  size_t offset = 0;
  const auto value = wire::read_value(error, offset);
  if (value && value->header.kind == wire::ValueKind::kSystemError &&
      value->payload.size() >= sizeof(wire::SystemErrorPayload)) {
    wire::SystemErrorPayload payload{};
    std::memcpy(&payload, value->payload.data(), sizeof payload);
    type = static_cast<uint32_t>(payload.code);
    text = {reinterpret_cast<const char*>(value->payload.data()) + sizeof payload,
            value->payload.size() - sizeof payload};
    // Ids and flags go before what is for people, each with a NUL.
    if (const size_t last = text.rfind('\0'); last != std::string_view::npos) {
      text.remove_prefix(last + 1);
    }
  }
  const std::string resources = shape != nullptr ? resource_text(shape->resources) : "";
  writer_->record({.name = name_index(task.own_function().full_name, resources),
                   .call = number(task.call),
                   .task = task.first_return.index,
                   .end_ns = nanoseconds(monotonic_now()),
                   .group = shape != nullptr ? number(shape->bundle.group) : 0,
                   .caller = number(task.first_return.creator),
                   .attempt = task.attempt,
                   .flags = static_cast<uint16_t>(shm::kTraceFailed | shm::kTraceByOwner |
                                                  (task.calls != nullptr ? shm::kTraceCall : 0)),
                   .error_type = type,
                   .error = text});
}

void TaskTrace::publish(const LiveCounts& counts) {
  if (home_ == nullptr) return;
  shm::LiveTasks& live = home_->live;
  live.unfinished.store(counts.unfinished, std::memory_order_relaxed);
  live.queued.store(counts.queued, std::memory_order_relaxed);
  live.in_flight.store(counts.in_flight, std::memory_order_relaxed);
  live.calls.store(counts.calls, std::memory_order_relaxed);
}

}  // namespace mobula::process
