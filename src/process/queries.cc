// RuntimeImpl: questions to the node daemon.

#include <algorithm>
#include <cstring>
#include <utility>

#include "process/runtime_impl.h"

namespace mobula::process {

namespace {

// Of a name that is looked for: longer ones do not exist.
constexpr size_t kNameBytesMax = 64 * 1024;
// How often a waiting thread looks whether it is to stop: signals do not wake it.
constexpr auto kLookForInterrupt = std::chrono::milliseconds(100);

std::vector<std::pair<std::string, double>> amounts(const wire::ResourceList* list) {
  std::vector<std::pair<std::string, double>> read;
  if (list == nullptr) return read;
  for (const auto* resource : *list) {
    read.emplace_back(resource->name()->str(),
                      static_cast<double>(resource->amount()) / static_cast<double>(kResourceUnit));
  }
  return read;
}

std::string text_of(const flatbuffers::String* text) { return text != nullptr ? text->str() : ""; }

}  // namespace

void RuntimeImpl::on_answer(const wire::fb::Answer& message, std::vector<shm::Fd> fds) {
  const auto found = questions_.find(message.request());
  if (found == questions_.end()) return;
  Question& question = *found->second;
  for (auto& amount : amounts(message.resources())) question.resources.push_back(amount);
  if (message.nodes() != nullptr) {
    for (const auto* node : *message.nodes()) {
      question.nodes.push_back({node->node(), node->alive(), text_of(node->hostname()),
                                text_of(node->address()), node->pid(),
                                text_of(node->session_directory()), amounts(node->resources()),
                                node->metrics_port()});
    }
  }
  if (message.traces() != nullptr) {
    for (const auto* trace : *message.traces()) {
      if (trace->descriptor() >= fds.size()) continue;
      question.traces.push_back({std::move(fds[trace->descriptor()]), trace->pid(),
                                 trace->process(), trace->job(), trace->is_driver(),
                                 trace->alive()});
    }
  }
  if (message.live() != nullptr) {
    for (const auto* live : *message.live()) {
      Question::Contents contents{
          {}, live->bytes(), live->pid(), live->process(), text_of(live->error())};
      if (live->descriptor() < fds.size()) contents.memory = std::move(fds[live->descriptor()]);
      question.live.push_back(std::move(contents));
    }
  }
  if (const auto* state = message.state(); state != nullptr && state->descriptor() < fds.size()) {
    question.daemon.memory = std::move(fds[state->descriptor()]);
    question.daemon.bytes = state->bytes();
  }
  question.found = message.found();
  question.count = message.count();
  question.error = text_of(message.error());
  if (message.full()) question.refused = ErrorCode::kRetryLater;
  if (!message.last()) return;
  question.done = true;
  answered_.notify_all();
}

// Waits without both locks. The question leaves the table in any case.
// `refused`: the code of the daemon's own "no". kCancelled: the gate says stop.
Result<void> RuntimeImpl::wait_for_answer(uint64_t request, Question& question, Locked& lock,
                                          Gate& gate, ErrorCode refused) {
  lock.unlock();
  const Instant give_up = monotonic_now() + question.patience;
  const auto over = [&] { return question.done || !disconnected_.empty(); };
  bool stop = false;
  bool answered = false;
  while (!answered && !stop && monotonic_now() < give_up) {
    gate.release();
    {
      std::unique_lock<std::mutex> wait(lock_);
      answered = answered_.wait_for(wait, kLookForInterrupt, over);
    }
    gate.acquire();
    stop = !answered && gate.interrupted();
  }
  lock.lock();
  questions_.erase(request);
  if (question.done) {
    if (!question.error.empty()) return fail(question.refused.value_or(refused), question.error);
    return {};
  }
  if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
  if (stop) return fail(ErrorCode::kCancelled, "interrupted");
  return fail(ErrorCode::kUnavailable, "the node daemon did not answer");
}

Result<Question> RuntimeImpl::ask(wire::fb::QueryKind kind, Gate& gate,
                                  const StateRequest& request) {
  Question question;
  Locked lock(*this);
  if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
  const uint64_t id = next_question_++;
  questions_[id] = &question;
  uplink_->send([&](wire::Builder& builder) {
    const auto name =
        request.name.empty() ? 0 : builder.CreateString(request.name.substr(0, kNameBytesMax));
    return wire::fb::CreateQuery(builder, id, kind, request.patience_ms, request.tasks_max, name,
                                 request.task, request.phases, request.objects_max);
  });
  ring_daemon_later();
  MOBULA_TRY(wait_for_answer(id, question, lock, gate, ErrorCode::kUnavailable));
  return question;
}

Result<std::vector<std::pair<std::string, double>>> RuntimeImpl::cluster_resources(Gate& gate) {
  auto answer = ask(wire::fb::QueryKind::cluster_resources, gate);
  MOBULA_TRY(answer);
  return std::move(answer->resources);
}

Result<std::vector<std::pair<std::string, double>>> RuntimeImpl::available_resources(Gate& gate) {
  auto answer = ask(wire::fb::QueryKind::available_resources, gate);
  MOBULA_TRY(answer);
  return std::move(answer->resources);
}

Result<std::vector<NodeInfo>> RuntimeImpl::nodes(Gate& gate) {
  auto answer = ask(wire::fb::QueryKind::nodes, gate);
  MOBULA_TRY(answer);
  return std::move(answer->nodes);
}

Result<bool> RuntimeImpl::has_value(ObjectId id, Gate& gate) {
  Question question;
  Locked lock(*this);
  pump();
  bool here = false;
  pool_.for_each([&](const Object& object) {
    here = here || (object.id == id && object.is_ready() && object.count.load() > 0);
  });
  if (here) return true;
  if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
  const uint64_t request = next_question_++;
  questions_[request] = &question;
  uplink_->send([&](wire::Builder& builder) {
    const wire::fb::ObjectId object = wire::to_wire(id);
    return wire::fb::CreateFindObject(builder, request, &object);
  });
  ring_daemon_later();
  MOBULA_TRY(wait_for_answer(request, question, lock, gate, ErrorCode::kUnavailable));
  return question.found;
}

std::optional<wire::StoreLocation> RuntimeImpl::location(const Object& object) {
  Locked lock(*this);
  if (!object.is_ready() || object.value.kind() != wire::ValueKind::kInStore) return std::nullopt;
  wire::StoreLocation location{};
  std::memcpy(&location, object.value.payload().data(), sizeof location);
  return location;
}

std::string RuntimeImpl::debug_state() {
  Locked lock(*this);
  drain_dropped();
  return "unfinished_tasks=" + std::to_string(unfinished_) +
         " queued=" + std::to_string(dispatcher_.queued()) +
         " in_flight=" + std::to_string(dispatcher_.in_flight()) +
         " outbound=" + std::to_string(outbound_.size()) +
         " inbound=" + std::to_string(inbound_.size()) +
         " objects=" + std::to_string(pool_.size()) +
         " known_objects=" + std::to_string(known_.size()) +
         " refs=" + std::to_string(refs_.ref_count()) +
         " kept_tasks=" + std::to_string(lineage_.task_count()) +
         " kept_bytes=" + std::to_string(lineage_.bytes()) +
         " guards=" + std::to_string(refs_.guard_count()) +
         " parcels=" + std::to_string(refs_.parcel_count()) +
         " credit_get=" + std::to_string(get_credit_.microseconds) +
         " credit_task=" + std::to_string(task_credit_.microseconds);
}

}  // namespace mobula::process
