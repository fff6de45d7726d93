// RuntimeImpl: placement groups. The daemon decides; a process asks, and waits for answers.

#include <algorithm>
#include <cstring>

#include "process/runtime_impl.h"
#include "wire/limits.h"

namespace mobula::process {

namespace {

constexpr Duration kPatienceMax = std::chrono::hours(24 * 365);

struct Run {
  const ResourceSet* bundle = nullptr;
  uint32_t count = 0;
};

// Equal ones that follow each other. kInvalidArgument: their names are too long for a message.
Result<std::vector<Run>> runs_of(const GroupCreation& creation) {
  std::vector<Run> runs;
  size_t text_bytes = creation.name.size() + creation.name_space.size();
  size_t of_bundle = 0;
  for (const ResourceSet& bundle : creation.bundles) {
    if (!runs.empty() && *runs.back().bundle == bundle) {
      ++runs.back().count;
      text_bytes += of_bundle;  // The daemon keeps each of them.
      continue;
    }
    runs.push_back({&bundle, 1});
    of_bundle = 0;
    for (const auto& [name, amount] : bundle.amounts()) {
      of_bundle += name.size() + wire::kGroupAmountBytes;
    }
    text_bytes += of_bundle;
  }
  if (text_bytes <= wire::kGroupTextBytesMax) return runs;
  return fail(ErrorCode::kInvalidArgument,
              "what its bundles reserve has " + std::to_string(text_bytes) +
                  " bytes of names in all, but at most " +
                  std::to_string(wire::kGroupTextBytesMax) + " are allowed");
}

}  // namespace

Result<PlacementGroupId> RuntimeImpl::create_group(const GroupCreation& creation, Gate& gate) {
  const auto runs = runs_of(creation);
  MOBULA_TRY(runs);
  Locked lock(*this);
  if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
  Question question;
  const uint64_t request = next_question_++;
  questions_[request] = &question;
  uplink_->send([&](wire::Builder& builder) {
    std::vector<flatbuffers::Offset<wire::fb::Bundles>> list;
    for (const Run& run : *runs) {
      const auto resources = wire::build_resources(builder, *run.bundle);
      list.push_back(wire::fb::CreateBundles(builder, resources, run.count));
    }
    return wire::fb::CreateGroupCreateDirect(
        builder, request, creation.name.c_str(), creation.name_space.c_str(),
        static_cast<wire::fb::GroupStrategy>(creation.strategy), &list, creation.detached,
        creation.infeasible);
  });
  ring_daemon_later();
  MOBULA_TRY(wait_for_answer(request, question, lock, gate, ErrorCode::kInvalidArgument));
  return PlacementGroupId{question.group};
}

void RuntimeImpl::remove_group(PlacementGroupId group) {
  Locked lock(*this);
  if (!disconnected_.empty()) return;
  uplink_->send(
      [&](wire::Builder& builder) { return wire::fb::CreateGroupRemove(builder, number(group)); });
  ring_daemon_later();
}

// Who waits gives up its CPUs: the group may need them.
Result<bool> RuntimeImpl::wait_for_group(PlacementGroupId group, Duration patience, Gate& gate) {
  Locked lock(*this);
  if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
  Question question;
  question.patience = std::clamp(patience, Duration(0), kPatienceMax);
  const uint64_t request = next_question_++;
  questions_[request] = &question;
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateGroupWait(builder, request, number(group));
  });
  ring_daemon_later();
  const bool gives_up_cpus = execution_.running && !execution_.blocked &&
                             std::this_thread::get_id() == execution_.thread &&
                             patience > Duration(0);
  if (gives_up_cpus) enter_blocked(Waiter{});
  const Result<void> answered =
      wait_for_answer(request, question, lock, gate, ErrorCode::kNotFound);
  if (gives_up_cpus) leave_blocked();
  if (answered) return true;
  if (question.done || !disconnected_.empty()) return tl::unexpected<Error>(answered.error());
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateGroupWaitOver(builder, request, number(group));
  });
  ring_daemon_later();
  if (answered.error().code == ErrorCode::kCancelled) {
    return tl::unexpected<Error>(answered.error());
  }
  return false;
}

// True if the message is about placement groups.
bool RuntimeImpl::on_group_packet(const wire::fb::ToProcess& message) {
  if (const auto* gone = message.body_as_GroupGone()) {
    fail_queued(gone->shape(), wire::SystemErrorCode::kTaskPlacementGroupRemoved, "");
    return true;
  }
  const auto* answer = message.body_as_GroupAnswer();
  if (answer == nullptr) return false;
  const auto found = questions_.find(answer->request());
  if (found == questions_.end()) return true;  // It waits no more.
  Question& question = *found->second;
  question.group = answer->group();
  if (answer->error() != nullptr) question.error = answer->error()->str();
  question.done = true;
  answered_.notify_all();
  return true;
}

BundleRef RuntimeImpl::bundle() {
  Locked lock(*this);
  return bundle_;
}

Result<std::string> RuntimeImpl::groups(Gate& gate) {
  const auto answer = ask(wire::fb::QueryKind::groups, gate);
  MOBULA_TRY(answer);
  const uint64_t bytes = answer->daemon.bytes;
  const auto mapped = shm::Mapping::map(answer->daemon.memory, bytes, shm::Access::kReadOnly);
  MOBULA_TRY(mapped);
  return std::string(reinterpret_cast<const char*>(mapped->data()), bytes);
}

}  // namespace mobula::process
