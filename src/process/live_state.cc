// RuntimeImpl: what this process tells of its tasks that have not ended. Runs on the link thread.
//
// The lock is held for a slice of the tasks at a time. Between two slices tasks end and new ones come,
// so a task may be told twice (once in flight, once queued) or not at all; who reads the answer keeps
// the last word for each.

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "process/live_objects.h"
#include "process/runtime_impl.h"
#include "wire/state_generated.h"

namespace mobula::process {

namespace {

namespace fb = wire::fb;

constexpr size_t kSlice = 512;
constexpr uint64_t kLookedAtMax = 200'000;  // Of tasks that are not in flight.
constexpr size_t kWaitsForMax = 8;
constexpr uint32_t kTasksMax = 100'000;
constexpr uint32_t kObjectsMax = 100'000;

struct Counts {
  uint64_t waiting = 0;
  uint64_t queued = 0;
  uint64_t sent = 0;
  uint64_t running = 0;
  uint64_t blocked = 0;
};

// Collects the answer, task by task.
class Answer {
 public:
  explicit Answer(const fb::StateWanted& wanted)
      : tasks_max_(std::min(wanted.tasks_max(), kTasksMax)),
        task_(wanted.task()),
        phases_(wanted.phases()),
        name_(wanted.name() != nullptr ? wanted.name()->str() : "") {}

  bool is_full() const { return rows_.size() >= tasks_max_; }
  Counts& counts_of(const Function& function) { return entry(function).counts; }

  bool wants(Task& task, fb::TaskPhase phase) const {
    if (is_full() || (task_ != 0 && task.first_return.index != task_)) return false;
    if (phases_ != 0 && (phases_ >> static_cast<uint32_t>(phase)) % 2 == 0) return false;
    return name_.empty() || same_name(task.own_function().name, name_);
  }
  void add(Task& task, fb::TaskPhase phase, const OutboundChannel* channel);
  struct Whole {
    uint32_t process = 0;
    uint64_t unfinished = 0;
    uint64_t looked_at = 0;
    uint64_t private_bytes = 0;
    std::vector<std::string> call_sites = {};
    bool records_call_sites = false;
  };
  std::span<const uint8_t> finish(const Whole& whole, LiveObjects& objects);
  void add_shape(const tasks::Dispatcher::ShapeCounts& counts, const ShapeKey& key);

 private:
  struct Entry {
    uint32_t number = 0;
    std::string name;
    Counts counts;
  };
  Entry& entry(const Function& function) {
    const auto [position, is_new] = functions_.try_emplace(function.number);
    if (is_new) {
      position->second.number = static_cast<uint32_t>(functions_.size() - 1);
      position->second.name = function.full_name;
    }
    return position->second;
  }

  const uint32_t tasks_max_;
  const uint64_t task_;
  const uint32_t phases_;
  const std::string name_;
  flatbuffers::FlatBufferBuilder builder_{64 * 1024};
  std::map<uint32_t, Entry> functions_;
  std::vector<flatbuffers::Offset<fb::LiveTask>> rows_;
  std::vector<flatbuffers::Offset<fb::LiveShape>> shapes_;
};

void Answer::add(Task& task, fb::TaskPhase phase, const OutboundChannel* channel) {
  std::vector<fb::TaskNumber> missing;
  if (phase == fb::TaskPhase::waits_for_arguments) {
    std::set<const Object*> seen;
    for (const Object* ref : task.refs) {
      if (ref->is_ready() || missing.size() == kWaitsForMax || !seen.insert(ref).second) continue;
      if (std::ranges::find(ref->dependents, &task) == ref->dependents.end()) continue;
      missing.emplace_back(ref->id.index, number(ref->id.creator), 0);
    }
  }
  const auto waits_for = missing.empty() ? 0 : builder_.CreateVectorOfStructs(missing);
  const ObjectId called = task.calls != nullptr ? task.calls->actor->id : ObjectId{};
  const fb::TaskNumber actor(called.index, number(called.creator), 0);
  fb::LiveTaskBuilder row(builder_);
  row.add_index(task.first_return.index);
  if (task.calls != nullptr) row.add_actor(&actor);
  row.add_function(entry(task.own_function()).number);
  row.add_shape(task.shape);
  row.add_phase(phase);
  row.add_attempt(task.attempt);
  row.add_retries_left(task.retries_left);
  if (channel != nullptr) {
    row.add_worker(number(channel->peer));
    row.add_worker_pid(channel->peer_pid);
  }
  row.add_missing(task.unresolved);
  if (!missing.empty()) row.add_waits_for(waits_for);
  row.add_streaming(task.stream != nullptr);
  rows_.push_back(row.Finish());
}

void Answer::add_shape(const tasks::Dispatcher::ShapeCounts& counts, const ShapeKey& key) {
  std::vector<flatbuffers::Offset<fb::LiveResource>> list;
  for (const auto& [name, amount] : key.resources.amounts()) {
    list.push_back(fb::CreateLiveResource(builder_, builder_.CreateString(name), amount));
  }
  const auto resources = builder_.CreateVector(list);
  shapes_.push_back(fb::CreateLiveShape(builder_, counts.shape, key.depth, resources, counts.queued,
                                        counts.in_flight, counts.leases, counts.blocked_leases,
                                        counts.target, number(key.bundle.group)));
}

std::span<const uint8_t> Answer::finish(const Whole& whole, LiveObjects& objects) {
  std::vector<flatbuffers::Offset<fb::LiveFunction>> functions(functions_.size());
  for (const auto& [number, entry] : functions_) {
    const Counts& counts = entry.counts;
    functions.at(entry.number) =
        fb::CreateLiveFunction(builder_, builder_.CreateString(entry.name), counts.waiting,
                               counts.queued, counts.sent, counts.running, counts.blocked);
  }
  const auto function_list = builder_.CreateVector(functions);
  const auto shape_list = builder_.CreateVector(shapes_);
  const auto rows = builder_.CreateVector(rows_);
  const auto object_list = objects.build(builder_);
  const auto call_sites = builder_.CreateVectorOfStrings(whole.call_sites);
  const LiveObjects::Sums& sums = objects.sums();
  builder_.Finish(fb::CreateLiveTasks(builder_, whole.process, function_list, shape_list, rows,
                                      whole.unfinished, whole.looked_at, object_list, sums.count,
                                      sums.bytes, whole.private_bytes, call_sites,
                                      whole.records_call_sites));
  return {builder_.GetBufferPointer(), builder_.GetSize()};
}

fb::TaskPhase phase_of(const Task& task, OutboundChannel& channel, bool blocked) {
  bool started = task.slot == kNoSlot;
  if (!started) {
    const uint64_t word = channel.claim(task.slot).word.load(std::memory_order_relaxed);
    started =
        shm::claim_tag(word) == task.tag && shm::claim_state(word) == shm::ClaimState::kStarted;
  }
  if (!started) return fb::TaskPhase::sent;
  return blocked ? fb::TaskPhase::blocked : fb::TaskPhase::running;
}

// Of one that is not in flight.
fb::TaskPhase phase_of(const Task& task) {
  const bool waits =
      task.calls != nullptr ? task.unresolved > 0 : task.state == tasks::TaskState::kHeld;
  return waits ? fb::TaskPhase::waits_for_arguments : fb::TaskPhase::queued;
}

// All that is in flight at the other end of a channel.
std::vector<Task*> sent_over(const OutboundChannel& channel) {
  std::vector<Task*> tasks;
  for (Task* task : channel.slots) {
    if (task != nullptr) tasks.push_back(task);
  }
  for (const auto& [tag, task] : channel.started) tasks.push_back(task);
  return tasks;
}

// On the socket: on the uplink, control records would have to wait behind it.
void send_live_state(int socket, uint64_t gathering, std::span<const uint8_t> contents) {
  std::string error;
  const auto memory = shm::create_memory("mobula-state", contents.size());
  if (memory) {
    const auto mapped = shm::Mapping::map(*memory, contents.size(), shm::Access::kReadWrite);
    if (mapped) {
      std::memcpy(mapped->data(), contents.data(), contents.size());
    } else {
      error = mapped.error().message;
    }
  } else {
    error = memory.error().message;
  }
  wire::Builder builder(256);
  const auto body = wire::fb::CreateLiveStateDirect(
      builder, gathering, error.empty() ? contents.size() : 0, error.c_str());
  const std::span<const std::byte> packet = wire::finish_to_daemon(builder, body);
  iovec part{const_cast<std::byte*>(packet.data()), packet.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (error.empty()) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = memory->get();
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  // Waits while the daemon does not read; if the connection ends meanwhile, the next read says so.
  while (::sendmsg(socket, &header, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

}  // namespace

fb::TaskPhase phase_of(const Task& task, const tasks::Lease* lease) {
  if (task.state != tasks::TaskState::kInFlight || task.channel == nullptr) return phase_of(task);
  return phase_of(task, *task.channel, lease != nullptr && lease->blocked);
}

void RuntimeImpl::answer_state_wanted(const wire::fb::StateWanted& wanted) {
  Answer answer(wanted);
  uint64_t unfinished = 0;
  uint64_t looked_at = 0;
  {
    const Locked lock(*this);
    unfinished = unfinished_;
    for (const tasks::Dispatcher::ShapeCounts& counts : dispatcher_.shape_counts()) {
      answer.add_shape(counts, shapes_.at(counts.shape - 1));
    }
    for (const auto& counts : dispatcher_.queued_by_function()) {
      answer.counts_of(static_cast<const Function&>(*counts.function)).queued += counts.queued;
    }
    for (const auto& [id, channel] : outbound_) {
      if (channel->gone) continue;
      const tasks::Lease* lease = dispatcher_.lease_of(id);
      const bool blocked = lease != nullptr && lease->blocked;
      for (Task* task : sent_over(*channel)) {
        const fb::TaskPhase phase = phase_of(*task, *channel, blocked);
        Counts& counts = answer.counts_of(task->own_function());
        ++looked_at;
        if (phase == fb::TaskPhase::sent) ++counts.sent;
        if (phase == fb::TaskPhase::running) ++counts.running;
        if (phase == fb::TaskPhase::blocked) ++counts.blocked;
        if (answer.wants(*task, phase)) answer.add(*task, phase, channel.get());
      }
    }
    looked_at_ = live_tasks_;
  }
  bool more = true;
  for (uint64_t done = 0; more && done < kLookedAtMax; done += kSlice) {
    const Locked lock(*this);
    for (size_t i = 0; i < kSlice && looked_at_ != nullptr; ++i) {
      Task& task = *std::exchange(looked_at_, looked_at_->live_next);
      if (task.state == tasks::TaskState::kInFlight) continue;
      ++looked_at;
      const fb::TaskPhase phase = phase_of(task);
      if (phase == fb::TaskPhase::waits_for_arguments) {
        ++answer.counts_of(task.own_function()).waiting;
      } else if (task.calls != nullptr) {  // Others were counted at once.
        ++answer.counts_of(task.own_function()).queued;
      }
      if (answer.wants(task, phase)) answer.add(task, phase, nullptr);
    }
    more = looked_at_ != nullptr;
  }
  LiveObjects objects(std::min(wanted.objects_max(), kObjectsMax));
  if (objects.wanted()) look_at_objects(objects);
  Answer::Whole whole{
      .process = number(process_), .unfinished = unfinished, .looked_at = looked_at};
  {
    const Locked lock(*this);
    looked_at_ = nullptr;
    if (objects.wanted()) {
      whole.private_bytes = store_->private_bytes();
      whole.call_sites.resize(call_sites_.size());
      for (const auto& [site, place] : call_sites_) whole.call_sites[place - 1] = site;
    }
  }
  whole.records_call_sites = options_.records_call_sites;
  send_live_state(socket_.get(), wanted.gathering(), answer.finish(whole, objects));
}

}  // namespace mobula::process
