// RuntimeImpl: who asks for the state of the node, or for the timeline. Traces are read here, from
// memory that other processes share with us: the daemon only passes descriptors on.

#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "base/function_name.h"
#include "process/runtime_impl.h"
#include "wire/state_generated.h"

namespace mobula::process {

namespace {

// More than any daemon or process has to say; what claims to be larger is not believed.
constexpr uint64_t kContentsMax = 64 * 1024 * 1024;

TraceEventOut to_out(const Question::Trace& source, shm::TraceEvent event) {
  return {.name = std::move(event.name),
          .resources = std::move(event.resources),
          .pid = source.pid,
          .process = source.process,
          .job = source.job,
          .caller = event.caller,
          .call = event.call,
          .task = event.task,
          .start_ns = event.start_ns,
          .end_ns = event.end_ns,
          .children_from = event.children_from,
          .children = event.children,
          .group = event.group,
          .attempt = event.attempt,
          .failed = event.failed,
          .is_call = event.is_call,
          .by_owner = event.by_owner,
          .error_type = event.error_type,
          .error = std::move(event.error)};
}

// What the process executes now, if it executes something.
std::optional<TraceEventOut> running_in(const Question::Trace& source, const shm::Mapping& home,
                                        const shm::TraceReader& reader) {
  if (!source.alive) return std::nullopt;
  const auto running = shm::home_header(home.data()).running.load();
  if (!running || running->task == 0) return std::nullopt;
  shm::TraceTotal named = reader.total(running->name);
  TraceEventOut out;
  out.name = std::move(named.name);
  out.resources = std::move(named.resources);
  out.pid = source.pid;
  out.process = source.process;
  out.job = source.job;
  out.caller = running->caller;
  out.task = running->task;
  out.start_ns = running->start_ns;
  out.children_from = running->children_from;
  out.group = running->group;
  out.attempt = running->attempt;
  out.is_call = running->is_call != 0;
  return out;
}

// A private copy of what another process filled. Read, not mapped: the file may become shorter.
Result<std::vector<std::byte>> copy_of(const Question::Contents& contents) {
  if (!contents.memory.valid() || contents.bytes == 0 || contents.bytes > kContentsMax) {
    return fail(ErrorCode::kInvalidArgument, "it sent nothing that can be read");
  }
  std::vector<std::byte> copy(contents.bytes);
  size_t done = 0;
  while (done < copy.size()) {
    const ssize_t size = ::pread(contents.memory.get(), copy.data() + done, copy.size() - done,
                                 static_cast<off_t>(done));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return fail(ErrorCode::kInvalidArgument, "what it sent ends too early");
    done += static_cast<size_t>(size);
  }
  return copy;
}

StateOut::Live live_of(const Question::Contents& contents) {
  StateOut::Live live{contents.process, contents.pid, contents.error, {}};
  if (!live.error.empty()) return live;
  auto copy = copy_of(contents);
  if (!copy) {
    live.error = copy.error().message;
    return live;
  }
  flatbuffers::Verifier verifier(reinterpret_cast<const uint8_t*>(copy->data()), copy->size(), 64,
                                 UINT32_MAX / 2);
  if (!wire::fb::VerifyLiveTasksBuffer(verifier)) {
    live.error = "it sent something malformed";
    return live;
  }
  live.contents = std::move(*copy);
  return live;
}

// Which records of one trace are asked for. Names are compared once each.
class Wanted {
 public:
  Wanted(const StateRequest& request, const shm::TraceReader& reader)
      : request_(request), reader_(reader) {}

  bool operator()(const shm::TraceFacts& facts) {
    if (request_.failed_only && !facts.failed) return false;
    if (request_.finished_only && facts.failed) return false;
    if (request_.task != 0 && (facts.task != request_.task || facts.caller != request_.creator)) {
      return false;
    }
    return request_.name.empty() || is_name(facts.name_index);
  }

 private:
  bool is_name(uint32_t index) {
    const auto [known, is_new] = names_.try_emplace(index, false);
    if (is_new) known->second = same_name(shown_name(reader_.total(index).name), request_.name);
    return known->second;
  }

  const StateRequest& request_;
  const shm::TraceReader& reader_;
  std::map<uint32_t, bool> names_;
};

void add_trace(const StateRequest& request, const Question::Trace& source, StateOut& out,
               std::map<std::string, EndedTotal>& totals) {
  const auto home = shm::Mapping::map(source.home, shm::kHomeBytes, shm::Access::kReadOnly);
  if (!home.has_value()) return;
  const shm::TraceReader reader(home->data() + shm::kTraceOffset);
  for (uint32_t i = 0; i < reader.names(); ++i) {
    const shm::TraceTotal total = reader.total(i);
    if (total.finished + total.failed == 0) continue;
    EndedTotal& sum = totals[total.name];
    sum.finished += total.finished;
    sum.failed += total.failed;
  }
  std::vector<StateOut::Children>& children = out.children[source.process];
  if (auto running = running_in(source, *home, reader)) {
    if (running->children_from != UINT64_MAX) {  // Else it is one of several that run there.
      children.push_back({running->children_from, UINT64_MAX, running->caller, running->task});
    }
    out.running.push_back(std::move(*running));
  }
  // From the last on: of each trace no more than could be among the last of all.
  const uint64_t end = reader.written();
  const uint64_t first = reader.first_kept();
  uint64_t taken = 0;
  Wanted wanted(request, reader);
  out.ended_dropped += first;
  for (uint64_t i = end; i > first; --i) {
    const auto facts = reader.read_facts(i - 1);
    if (!facts) continue;
    if (facts->children > 0) {
      children.push_back({facts->children_from, facts->children_from + facts->children,
                          facts->caller, facts->task});
    }
    if (taken == request.ended_max || !wanted(*facts)) continue;
    out.ended.push_back(to_out(source, reader.complete(*facts)));
    ++taken;
  }
  std::ranges::reverse(children);
}

}  // namespace

bool same_name(std::string_view one, std::string_view other) {
  return one.size() == other.size() && ::strncasecmp(one.data(), other.data(), one.size()) == 0;
}

std::pair<uint32_t, uint64_t> StateOut::parent_of(uint32_t creator, uint64_t index) const {
  const auto found = children.find(creator);
  if (found == children.end()) return {0, 0};
  const auto after = std::ranges::upper_bound(found->second, index, {}, &Children::from);
  if (after == found->second.begin()) return {0, 0};
  const Children& made = *std::prev(after);
  if (index >= made.to) return {0, 0};
  return {made.parent_creator, made.parent};
}

Result<std::vector<TraceEventOut>> RuntimeImpl::timeline(Gate& gate) {
  auto answer = ask(wire::fb::QueryKind::timeline, gate);
  MOBULA_TRY(answer);
  gate.release();
  std::vector<TraceEventOut> events;
  for (const Question::Trace& trace : answer->traces) {
    const auto home = shm::Mapping::map(trace.home, shm::kHomeBytes, shm::Access::kReadOnly);
    if (!home.has_value()) continue;
    const shm::TraceReader reader(home->data() + shm::kTraceOffset);
    auto running = running_in(trace, *home, reader);
    const uint64_t end = reader.written();
    for (uint64_t i = reader.first_kept(); i < end; ++i) {
      auto event = reader.read(i);
      if (!event || event->by_owner) continue;
      events.push_back(to_out(trace, std::move(*event)));
    }
    // It may have ended while we read.
    if (running && (events.empty() || events.back().process != running->process ||
                    events.back().start_ns < running->start_ns)) {
      events.push_back(std::move(*running));
    }
  }
  std::ranges::sort(events, {}, &TraceEventOut::start_ns);
  gate.acquire();
  return events;
}

Result<StateOut> RuntimeImpl::state(const StateRequest& request, Gate& gate) {
  auto answer = ask(wire::fb::QueryKind::state, gate, request);
  MOBULA_TRY(answer);
  StateOut out;
  const auto daemon = copy_of(answer->daemon);
  MOBULA_TRY(daemon);
  out.daemon.assign(reinterpret_cast<const char*>(daemon->data()), daemon->size());
  for (const Question::Contents& contents : answer->live) out.live.push_back(live_of(contents));
  gate.release();
  std::map<std::string, EndedTotal> totals;
  for (const Question::Trace& source : answer->traces) add_trace(request, source, out, totals);
  for (auto& [name, total] : totals) {
    out.totals.push_back({name, total.finished, total.failed});
  }
  std::ranges::sort(out.ended, std::greater<>(), &TraceEventOut::end_ns);
  if (out.ended.size() > request.ended_max) out.ended.resize(request.ended_max);
  gate.acquire();
  return out;
}

}  // namespace mobula::process
