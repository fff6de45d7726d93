// RuntimeImpl: a worker that is an actor.
//
// One that executes a call at a time, in order, takes calls like tasks (next_task). One with several
// threads or event loops takes them by concurrency group; a call whose group is busy is set aside, not
// started, so that its caller could still take it back.

#include <algorithm>
#include <cstring>
#include <tuple>

#include "process/runtime_impl.h"
#include "wire/frame_reader.h"

namespace mobula::process {

namespace {

constexpr CallId kCreation{1};
constexpr size_t kReprBytesMax = 1024;
constexpr size_t kReasonBytesMax = 16 * 1024;
constexpr int64_t kLookInVain = 40;  // So many takes without a look pay for one.
constexpr int64_t kLookPaid = 15;
constexpr int64_t kLookPaidMax = 200;
constexpr auto kFarewellWithin = std::chrono::seconds(5);

class NoGate final : public Gate {
 public:
  void release() override {}
  void acquire() override {}
  bool interrupted() override { return false; }
};

std::string text_of(const flatbuffers::String* text) { return text != nullptr ? text->str() : ""; }

// Looks for news without yielding: the interpreter's lock is held. A look in vain is paid for by many
// without one.
void look_for_calls(const shm::BellPage& bell, int64_t& credit, Duration most) {
  if (credit < 0) {
    ++credit;
    return;
  }
  const Instant begun = monotonic_now();
  while (!shm::has_news(bell)) {
    for (int i = 0; i < 8; ++i) __builtin_ia32_pause();
    if (monotonic_now() - begun < most) continue;
    credit = std::min<int64_t>(credit, 0) - kLookInVain;
    return;
  }
  credit = std::min(credit + kLookPaid, kLookPaidMax);
}

}  // namespace

void RuntimeImpl::on_actor_become(const wire::fb::ActorBecome& message) {
  if (role_ != nullptr) return;
  role_ = std::make_unique<ActorRole>();
  role_->identity = {wire::from_wire(*message.actor()),
                     wire::from_wire(*message.spec()),
                     message.restarts(),
                     text_of(message.class_name()),
                     text_of(message.name()),
                     text_of(message.namespace_name())};
  role_->lease.depth = message.depth();
  if (message.gpus() != nullptr) {
    role_->lease.gpus.assign(message.gpus()->begin(), message.gpus()->end());
  }
  const auto resources = wire::read_resources(message.resources());
  if (resources) {
    role_->lease.cpus = resources->get(kCpu);
    for (const auto& [name, amount] : resources->amounts()) {
      role_->lease.resources += name + "=" + std::to_string(amount) + "\n";
    }
  }
  role_->is_new = true;
  role_->lease.bundle = bundle_ = wire::read_bundle(message.bundle());
  depth_ = role_->lease.depth + 1;
  children_ = bundle_.of_children();
  captured_.store(children_.group, std::memory_order_relaxed);
  // The daemon keeps both until this actor was made.
  const std::array<ObjectId, 2> ids = {role_->identity.actor, role_->identity.spec};
  refs_.on_task(kDaemonProcess, kCreation, ids);
  poke_reader();
}

ActorIdentity RuntimeImpl::actor_identity() {
  Locked lock(*this);
  return role_ != nullptr ? role_->identity : ActorIdentity{};
}

LeaseInfo RuntimeImpl::actor_lease() {
  Locked lock(*this);
  return role_ != nullptr ? role_->lease : LeaseInfo{};
}

Object* RuntimeImpl::adopt_object(ObjectId id) {
  Locked lock(*this);
  Object* object = known_object(id);
  if (refs_.state(id) == objects::RefTable::State::kUnknown) {
    const std::array<ObjectId, 1> ids = {id};
    objects::UplinkRecords records;
    refs_.on_task(kDaemonProcess, CallId{2}, ids);
    refs_.end_task(kDaemonProcess, CallId{2}, records);
    send_records(records);
  }
  return object;
}

void RuntimeImpl::actor_made(uint32_t groups, const std::string& repr) {
  Locked lock(*this);
  drain_dropped();
  execution_.running = false;
  role_->made = true;
  if (groups > 1) role_->groups.resize(groups);
  objects::UplinkRecords records;
  refs_.end_task(kDaemonProcess, kCreation, records);
  send_records(records);
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateActorMadeDirect(builder, repr.substr(0, kReprBytesMax).c_str());
  });
  ring_daemon_later();
}

void RuntimeImpl::actor_failed(const std::string& text, std::span<const std::byte> error) {
  Locked lock(*this);
  execution_.running = false;
  uplink_->send([&](wire::Builder& builder) {
    const auto words = builder.CreateString(text.data(), std::min(text.size(), kReasonBytesMax));
    const auto bytes =
        builder.CreateVector(reinterpret_cast<const uint8_t*>(error.data()), error.size());
    return wire::fb::CreateActorFailed(builder, words, bytes);
  });
  ring_daemon_later();
  wait_until(lock, [this] { return !uplink_->waiting(); });
}

// Of a process that ends when this returns. Not longer than kFarewellWithin.
void RuntimeImpl::wait_until(Locked& lock, const std::function<bool()>& is_out) {
  const Instant deadline = monotonic_now() + kFarewellWithin;
  while (disconnected_.empty() && !is_out() && monotonic_now() < deadline) {
    pump();
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    lock.lock();
  }
}

void RuntimeImpl::actor_exiting(const std::string& reason) {
  Locked lock(*this);
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateActorExitingDirect(builder, reason.substr(0, kReasonBytesMax).c_str());
  });
  ring_daemon_later();
  // The calls before this one have ended: their results must be out.
  const auto is_out = [this] {
    return !uplink_->waiting() && std::ranges::none_of(inbound_, [](const auto& entry) {
      return entry.second->results.waiting();
    });
  };
  wait_until(lock, is_out);
}

// ---- calls by group
// ------------------------------------------------------------------------------

bool RuntimeImpl::has_call(uint32_t group) const {
  if (!tasks_ready_.empty()) return true;
  if (role_ == nullptr) return false;
  return role_->is_new || (group < role_->groups.size() && !role_->groups[group].empty());
}

NextTask RuntimeImpl::exit_or(NextTask otherwise) const {
  return exit_asked_ || !disconnected_.empty() ? NextTask::kExit : otherwise;
}

NextTask RuntimeImpl::next_call(uint32_t group, ClaimedTask& task, Gate& gate) {
  Locked lock(*this);
  while (true) {
    pump();
    if (exit_or(NextTask::kTask) == NextTask::kExit) return NextTask::kExit;
    if (take_of_group(group, task)) {
      note_running(task);
      if (!tasks_ready_.empty()) wake_for_calls();
      return NextTask::kTask;
    }
    Waiter waiter;
    waiter.for_task = true;
    waiter.group = group;
    const Waited waited = wait_for(waiter, std::nullopt, gate, lock, task_credit_);
    if (waited == Waited::kInterrupted) return NextTask::kInterrupted;
  }
}

bool RuntimeImpl::take_calls(uint32_t group, size_t most, Duration look,
                             std::vector<std::unique_ptr<ClaimedTask>>& calls) {
  if (look > Duration(0)) look_for_calls(*bell_, loop_credit_.microseconds, look);
  Locked lock(*this);
  pump();
  if (exit_or(NextTask::kTask) == NextTask::kExit) return false;
  while (calls.size() < most) {
    auto task = std::make_unique<ClaimedTask>();
    if (!take_of_group(group, *task)) break;
    note_running(*task);
    calls.push_back(std::move(task));
  }
  return true;
}

void RuntimeImpl::note_running(ClaimedTask& task) {
  task.started = monotonic_now();
  task.number = ++execution_.number;
  role_->running.emplace(ActorRole::CallKey{task.channel, task.claim_tag}, task.number);
  trace_.begin(task, next_index_, true);
}

bool RuntimeImpl::next_cancelled_call(uint64_t& channel, uint64_t& claim_tag) {
  std::unique_lock<std::mutex> wait(lock_);
  answered_.wait(wait, [this] {
    return !role_->cancelled_news.empty() || exit_asked_ || !disconnected_.empty();
  });
  if (role_->cancelled_news.empty()) return false;
  std::tie(channel, claim_tag) = role_->cancelled_news.front();
  role_->cancelled_news.pop_front();
  return true;
}

bool RuntimeImpl::is_cancelled(const ClaimedTask& call) {
  Locked lock(*this);
  return role_ != nullptr && role_->cancelled.contains({call.channel, call.claim_tag});
}

bool RuntimeImpl::wait_for_call(uint32_t group) {
  Locked lock(*this);
  Waiter waiter;
  waiter.for_task = true;
  waiter.group = group;
  NoGate gate;
  wait_for(waiter, std::nullopt, gate, lock, task_credit_);
  return exit_or(NextTask::kTask) != NextTask::kExit;
}

bool RuntimeImpl::take_of_group(uint32_t group, ClaimedTask& task) {
  return take_stashed(group, task) || take_task(task, group);
}

bool RuntimeImpl::take_stashed(uint32_t group, ClaimedTask& task) {
  if (role_ == nullptr || group >= role_->groups.size()) return false;
  std::deque<StashedCall>& calls = role_->groups[group];
  while (!calls.empty()) {
    const StashedCall call = std::move(calls.front());
    calls.pop_front();
    const auto found = inbound_.find(call.channel);
    if (found == inbound_.end() || found->second->gone) continue;
    const auto header = wire::read_header<wire::TaskHeader>(call.frame);
    MOBULA_CHECK(header.has_value());  // It was read when the call was set aside.
    const Result<bool> started = on_task_frame(*found->second, *header, call.frame, task);
    if (!started) {
      cut_off(*found->second, started.error().message);
    } else if (*started) {
      return true;
    }
  }
  return false;
}

Result<uint32_t> RuntimeImpl::group_of(const InboundChannel& channel,
                                       const wire::TaskHeader& header) const {
  const auto function = channel.functions.find(header.function);
  if (function == channel.functions.end() || function->second->group == 0) {
    return fail(ErrorCode::kInvalidArgument, "call of a method that was never sent");
  }
  // A group that is not there is for the binding to complain about.
  const uint32_t group = function->second->group - 1;
  return group < role_->groups.size() ? group : 0;
}

void RuntimeImpl::stash(InboundChannel& channel, std::span<const std::byte> frame, uint32_t group) {
  role_->groups[group].push_back({channel.id, {frame.begin(), frame.end()}});
  for (Waiter* waiter : parked_) {
    if (!waiter->for_task || waiter->group != group) continue;
    waiter->word.store(1);
    deferred().words.push_back(&waiter->word);
    return;
  }
  if (reader_ != nullptr && reader_->for_task && reader_->group == group) {
    poke_reader();
  }
}

// Something has come that a parked thread may execute.
void RuntimeImpl::wake_for_calls() {
  for (Waiter* waiter : parked_) {
    if (!waiter->for_task || waiter->word.load() != 0) continue;
    waiter->word.store(1);
    deferred().words.push_back(&waiter->word);
    return;
  }
}

}  // namespace mobula::process
