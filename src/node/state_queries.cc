#include "node/state_queries.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "node/machine.h"

namespace mobula::node {

namespace {

constexpr std::string_view kGroupsSection = "placement_groups";
constexpr uint32_t kPatienceMaxMs = 30'000;
constexpr uint32_t kObjectsMax = 100'000;
// A packet that says why there is nothing.
constexpr const char* kNoAnswer = "it does not answer: it is stopped, or too busy";

}  // namespace

void StateQueries::answer(Session& asker, const wire::fb::Query& query) {
  if (query.kind() == wire::fb::QueryKind::groups) {
    const auto groups =
        std::ranges::find(sections_, kGroupsSection, &decltype(sections_)::value_type::first);
    return send_text(asker, query.request(), groups->second(), true);
  }
  if (query.kind() != wire::fb::QueryKind::state) return queries_.answer(asker, query);
  const uint64_t id = next_gathering_++;
  Gathering& gathering = gatherings_[id];
  gathering.asker = asker.id;
  gathering.request = query.request();
  send_own_part(asker, query);
  queries_.send_traces(asker, query.request());
  if (gatherings_.size() > kGatheringsMax) return end(id);  // Without what processes would say.
  for (const auto& [process, session] : sessions_.all()) {
    if (!session->welcomed || session->broken || !session->socket || session->is_guest) continue;
    gathering.silent.insert(process);
    sessions_.send(*session, [&](wire::Builder& builder) {
      const auto name = query.name() != nullptr ? builder.CreateString(query.name()->str()) : 0;
      return wire::fb::CreateStateWanted(builder, id, query.tasks_max(), name, query.task(),
                                         query.phases(), query.objects_max());
    });
  }
  const auto patience = std::chrono::milliseconds(std::min(query.patience_ms(), kPatienceMaxMs));
  gathering.until = monotonic_now() + patience;
  look_again(id, kFirstLook);
}

void StateQueries::look_again(uint64_t id, Duration after) {
  Gathering& gathering = gatherings_.at(id);
  const Instant then = std::min(gathering.until, monotonic_now() + after);
  gathering.next_look = loop_.at(then, [this, id] { look(id); });
}

void StateQueries::look(uint64_t id) {
  const Gathering& gathering = gatherings_.at(id);
  const auto may_answer = [this](ProcessId process) {
    const Session* session = sessions_.find(process);
    return session != nullptr && session->pid > 0 && !is_stopped(session->pid);
  };
  const bool wait =
      monotonic_now() < gathering.until && std::ranges::any_of(gathering.silent, may_answer);
  return wait ? look_again(id, kNextLooks) : end(id);
}

void StateQueries::send_own_part(Session& asker, const wire::fb::Query& query) {
  std::string text = "{";
  for (const auto& [name, section] : sections_) {
    text += fmt::format("{}\"{}\":{}", text.size() > 1 ? "," : "", name, section());
  }
  const uint32_t objects_max = std::min(query.objects_max(), kObjectsMax);
  if (objects_max > 0 && objects_) text += fmt::format(",\"objects\":{}", objects_(objects_max));
  text += "}";
  send_text(asker, query.request(), text, false);
}

void StateQueries::send_text(Session& asker, uint64_t request, const std::string& text, bool last) {
  const auto memory = shm::create_memory("mobula-state", text.size());
  if (!memory) return;
  const auto mapped = shm::Mapping::map(*memory, text.size(), shm::Access::kReadWrite);
  if (!mapped) return;
  std::memcpy(mapped->data(), text.data(), text.size());
  const int descriptor = memory->get();
  sessions_.send(
      asker,
      [&](wire::Builder& builder) {
        const auto state = wire::fb::CreateStateText(builder, 0, text.size());
        return wire::fb::CreateAnswer(builder, request, 0, 0, 0, state, 0, last);
      },
      std::span(&descriptor, 1));
}

bool StateQueries::on_packet(Session& session, const wire::fb::ToDaemon& packet,
                             const std::vector<shm::Fd>& descriptors) {
  const auto* answer = packet.body_as_LiveState();
  if (answer == nullptr || !session.welcomed) return false;
  const auto found = gatherings_.find(answer->gathering());
  if (found == gatherings_.end()) return true;  // Too late.
  if (found->second.silent.erase(session.id) == 0) return true;
  pass_on(found->second, session, *answer, descriptors);
  if (found->second.silent.empty()) end(found->first);
  return true;
}

void StateQueries::pass_on(const Gathering& gathering, const Session& from,
                           const wire::fb::LiveState& answer,
                           const std::vector<shm::Fd>& descriptors) {
  const bool has_memory = !descriptors.empty();
  const int descriptor = has_memory ? descriptors.front().get() : -1;
  const std::span<const int> passed(&descriptor, has_memory ? 1 : 0);
  sessions_.send(
      gathering.asker,
      [&](wire::Builder& builder) {
        const auto error = answer.error() != nullptr && answer.error()->size() > 0
                               ? builder.CreateString(answer.error()->str())
                               : 0;
        const auto live = wire::fb::CreateLiveSource(builder, static_cast<uint32_t>(from.pid),
                                                     number(from.id), 0, answer.bytes(), error);
        const auto list = builder.CreateVector(&live, 1);
        return wire::fb::CreateAnswer(builder, gathering.request, 0, 0, 0, 0, list, false);
      },
      passed);
}

void StateQueries::end(uint64_t id) {
  const auto node = gatherings_.extract(id);
  if (node.empty()) return;
  const Gathering& gathering = node.mapped();
  sessions_.send(gathering.asker, [&](wire::Builder& builder) {
    std::vector<flatbuffers::Offset<wire::fb::LiveSource>> silent;
    for (const ProcessId process : gathering.silent) {
      const Session* session = sessions_.find(process);
      const auto pid = session != nullptr ? static_cast<uint32_t>(session->pid) : 0;
      silent.push_back(wire::fb::CreateLiveSourceDirect(builder, pid, number(process), UINT32_MAX,
                                                        0, kNoAnswer));
    }
    const auto list = builder.CreateVector(silent);
    return wire::fb::CreateAnswer(builder, gathering.request, 0, 0, 0, 0, list, true);
  });
}

void StateQueries::forget(ProcessId process) {
  std::erase_if(gatherings_,
                [process](const auto& entry) { return entry.second.asker == process; });
  std::vector<uint64_t> done;
  for (auto& [id, gathering] : gatherings_) {
    if (gathering.silent.erase(process) > 0 && gathering.silent.empty()) done.push_back(id);
  }
  for (const uint64_t id : done) end(id);
}

}  // namespace mobula::node
