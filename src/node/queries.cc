#include "node/queries.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "shm/trace.h"

namespace mobula::node {

using wire::fb::QueryKind;

void Queries::answer(Session& session, const wire::fb::Query& query) {
  switch (query.kind()) {
    case QueryKind::cluster_resources:
      return answer_resources(session, query.request(), true);
    case QueryKind::available_resources:
      return answer_resources(session, query.request(), false);
    case QueryKind::nodes:
      return answer_nodes(session, query.request());
    case QueryKind::timeline:
      return answer_timeline(session, query.request());
    case QueryKind::state:
    case QueryKind::groups:
      return;  // StateQueries answers.
  }
}

ResourceSet Queries::resources(bool total) const {
  ResourceSet resources = total ? scheduler_.total() : scheduler_.available();
  // Just-woken workers may overdraw the CPUs, which is nothing to show to users.
  if (resources.get(kCpu) < 0) resources.set(kCpu, 0);
  const uint64_t capacity = store_.capacity_bytes();
  const uint64_t left = capacity - std::min(capacity, total ? 0 : store_.taken_bytes());
  constexpr uint64_t kShownMax = kAmountMax / kResourceUnit;
  resources.set("object_store_memory",
                static_cast<ResourceAmount>(std::min(left, kShownMax)) * kResourceUnit);
  return resources;
}

void Queries::answer_resources(Session& session, uint64_t request, bool total) {
  sessions_.send(session, [&](wire::Builder& builder) {
    const auto list = wire::build_resources(builder, resources(total));
    return wire::fb::CreateAnswer(builder, request, list, 0, 0, 0, 0, true);
  });
}

void Queries::answer_nodes(Session& session, uint64_t request) {
  sessions_.send(session, [&](wire::Builder& builder) {
    const auto host = builder.CreateString(identity_.host_name);
    const auto address = builder.CreateString("127.0.0.1");
    const auto directory = builder.CreateString(identity_.session_directory);
    const auto list = wire::build_resources(builder, resources(true));
    const auto node =
        wire::fb::CreateNodeInfo(builder, number(identity_.id), true, host, address,
                                 static_cast<uint32_t>(::getpid()), directory, list, metrics_port_);
    const auto nodes = builder.CreateVector(&node, 1);
    return wire::fb::CreateAnswer(builder, request, 0, nodes, 0, 0, 0, true);
  });
}

void Queries::keep_trace(Session& session, const std::string& cause, bool as_asked) {
  if (!session.home_fd.valid()) return;
  dead_processes_.push_back({session.id, session.pid, session.job, session.is_driver, as_asked,
                             session.started, monotonic_now(), cause});
  if (dead_processes_.size() > kDeadProcessesMax) dead_processes_.pop_front();
  std::deque<Trace>& traces = dead_[session.job];
  traces.push_back({session.id, session.pid, std::move(session.home_fd), session.is_driver});
  if (traces.size() <= kDeadTracesMax) return;
  add_totals(traces.front(), forgotten_);  // How many tasks ended there stays known.
  traces.pop_front();
}

void Queries::forget_job(JobId job) {
  const auto found = dead_.find(job);
  if (found == dead_.end()) return;
  for (const Trace& trace : found->second) add_totals(trace, forgotten_);
  dead_.erase(found);
}

void Queries::add_totals(const std::byte* home, Totals& totals) {
  const shm::TraceReader reader(home + shm::kTraceOffset);
  for (uint32_t i = 0; i < reader.names(); ++i) {
    shm::TraceTotal total = reader.total(i);
    if (total.finished + total.failed == 0) continue;
    if (totals.size() >= kForgottenNamesMax && !totals.contains(total.name)) total.name = "other";
    auto& [finished, failed] = totals[total.name];
    finished += total.finished;
    failed += total.failed;
  }
}

void Queries::add_totals(const Trace& trace, Totals& totals) {
  const auto home = shm::Mapping::map(trace.home, shm::kHomeBytes, shm::Access::kReadOnly);
  if (home) add_totals(home->data(), totals);
}

Queries::Totals Queries::ended_totals() const {
  Totals totals = forgotten_;
  for (const auto& [job, traces] : dead_) {
    for (const Trace& trace : traces) add_totals(trace, totals);
  }
  for (const auto& [id, session] : sessions_.all()) {
    // Without its descriptor it stands among the dead.
    if (session->home_fd.valid() && !session->is_guest) add_totals(session->home.data(), totals);
  }
  return totals;
}

std::string Queries::dead_processes_json() const {
  nlohmann::json list = nlohmann::json::array();
  for (const DeadProcess& dead : dead_processes_) {
    list.push_back({{"process", number(dead.process)},
                    {"pid", dead.pid},
                    {"job", number(dead.job)},
                    {"is_driver", dead.is_driver},
                    {"as_asked", dead.as_asked},
                    {"started_ns", dead.started.count()},
                    {"ended_ns", dead.ended.count()},
                    {"cause", dead.cause}});
  }
  return list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string Queries::forgotten_totals_json() const {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [name, counts] : forgotten_) object[name] = {counts.first, counts.second};
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<Queries::Source> Queries::trace_sources(bool with_drivers) const {
  std::vector<Source> sources;
  for (const auto& [job, traces] : dead_) {
    for (const Trace& trace : traces) {
      if (trace.is_driver && !with_drivers) continue;
      sources.push_back({trace.process, trace.pid, trace.home.get(), trace.is_driver, job, false});
    }
  }
  for (const auto& [id, session] : sessions_.all()) {
    if (!session->home_fd.valid() || session->is_guest) continue;
    if (session->is_driver && !with_drivers) continue;
    sources.push_back(
        {id, session->pid, session->home_fd.get(), session->is_driver, session->job, true});
  }
  return sources;
}

void Queries::send_traces(Session& session, uint64_t request) {
  send_sources(session, request, trace_sources(true), false);
}

void Queries::answer_timeline(Session& session, uint64_t request) {
  send_sources(session, request, trace_sources(false), true);
}

void Queries::send_sources(Session& session, uint64_t request, const std::vector<Source>& sources,
                           bool last) {
  size_t next = 0;
  do {
    std::vector<int> descriptors;
    const size_t end = std::min(sources.size(), next + io::kPacketDescriptorsMax);
    for (size_t i = next; i < end; ++i) descriptors.push_back(sources[i].home);
    sessions_.send(
        session,
        [&](wire::Builder& builder) {
          std::vector<flatbuffers::Offset<wire::fb::TraceSource>> traces;
          for (size_t i = next; i < end; ++i) {
            const Source& source = sources[i];
            traces.push_back(
                wire::fb::CreateTraceSource(builder, static_cast<uint32_t>(source.pid),
                                            number(source.process), static_cast<uint32_t>(i - next),
                                            source.is_driver, number(source.job), source.alive));
          }
          const auto list = builder.CreateVector(traces);
          return wire::fb::CreateAnswer(builder, request, 0, 0, list, 0, 0,
                                        last && end == sources.size());
        },
        descriptors);
    next = end;
  } while (next < sources.size());
}

}  // namespace mobula::node
