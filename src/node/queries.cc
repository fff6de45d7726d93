#include "node/queries.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

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
      return answer_state(session, query.request());
  }
}

ResourceSet Queries::resources(bool total) const {
  ResourceSet resources = total ? scheduler_.total() : scheduler_.available();
  // Just-woken workers may overdraw the CPUs, which is nothing to show to users.
  if (resources.get(kCpu) < 0) resources.set(kCpu, 0);
  const uint64_t capacity = store_.capacity_bytes();
  const uint64_t left = capacity - std::min(capacity, total ? 0 : store_.granted_bytes());
  resources.set("object_store_memory", static_cast<ResourceAmount>(left) * kResourceUnit);
  return resources;
}

void Queries::answer_resources(Session& session, uint64_t request, bool total) {
  sessions_.send(session, [&](wire::Builder& builder) {
    const auto list = wire::build_resources(builder, resources(total));
    return wire::fb::CreateAnswer(builder, request, list, 0, 0, 0, true);
  });
}

void Queries::answer_nodes(Session& session, uint64_t request) {
  sessions_.send(session, [&](wire::Builder& builder) {
    const auto host = builder.CreateString(identity_.host_name);
    const auto address = builder.CreateString("127.0.0.1");
    const auto directory = builder.CreateString(identity_.session_directory);
    const auto list = wire::build_resources(builder, resources(true));
    const auto node = wire::fb::CreateNodeInfo(builder, number(identity_.id), true, host, address,
                                               static_cast<uint32_t>(::getpid()), directory, list);
    const auto nodes = builder.CreateVector(&node, 1);
    return wire::fb::CreateAnswer(builder, request, 0, nodes, 0, 0, true);
  });
}

void Queries::keep_trace(Session& session) {
  if (!session.home_fd.valid() || session.is_driver) return;
  std::deque<Trace>& traces = dead_[session.job];
  traces.push_back({session.id, session.pid, std::move(session.home_fd)});
  if (traces.size() > kDeadTracesMax) traces.pop_front();
}

void Queries::answer_timeline(Session& session, uint64_t request) {
  std::vector<Source> sources;
  for (const Trace& trace : dead_[session.job]) {
    sources.push_back({trace.process, trace.pid, trace.home.get()});
  }
  for (const auto& [id, other] : sessions_.all()) {
    if (other->job != session.job || other->is_driver || !other->home_fd.valid()) continue;
    sources.push_back({id, other->pid, other->home_fd.get()});
  }
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
            traces.push_back(wire::fb::CreateTraceSource(
                builder, static_cast<uint32_t>(sources[i].pid), number(sources[i].process),
                static_cast<uint32_t>(i - next), false));
          }
          const auto list = builder.CreateVector(traces);
          return wire::fb::CreateAnswer(builder, request, 0, 0, list, 0, end == sources.size());
        },
        descriptors);
    next = end;
  } while (next < sources.size());
}

void Queries::answer_state(Session& session, uint64_t request) {
  const nlohmann::json state = {{"workers", scheduler_.worker_count()},
                                {"leases", scheduler_.lease_count()},
                                {"segments", store_.segment_count()},
                                {"store_bytes", store_.granted_bytes()}};
  sessions_.send(session, [&](wire::Builder& builder) {
    const auto text = builder.CreateString(state.dump());
    return wire::fb::CreateAnswer(builder, request, 0, 0, 0, text, true);
  });
}

}  // namespace mobula::node
