#include "core/objects/ownership_world_test_support.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::objects {

namespace {

constexpr NodeId kNode{7};
constexpr JobId kJob{1};

template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

ValuePtr error_value() { return std::make_shared<ObjectValue>(); }

}  // namespace

OwnershipWorld::OwnershipWorld(const Options& options)
    : options_(options),
      random_(options.seed),
      directory_({.node = kNode}),
      processes_(static_cast<size_t>(options.processes)),
      crashes_left_(options.crashes_max) {
  for (int p = 0; p < options.processes; p++) {
    MOBULA_CHECK(directory_.add_process(id_of(p), kJob).has_value());
    processes_[p].refs.emplace([this, p](ObjectId object) {
      const auto found = processes_[p].objects.find(object);
      return found != processes_[p].objects.end() && found->second.count > 0;
    });
    for (int q = 0; q < p; q++) {
      MOBULA_CHECK(directory_.on_channel_opened(id_of(p), id_of(q)).has_value());
    }
  }
}

std::string OwnershipWorld::run() {
  for (int step = 0; step < options_.steps && violation_.empty(); step++) {
    any_step(Mode::kPlay);
    check();
  }
  settle(Mode::kSettle);
  for (const Process& process : processes_) {
    if (process.alive && !process.asked.empty()) fail_with("a get never returns");
    if (process.alive && !process.sent.empty()) fail_with("a call never ends");
  }
  settle(Mode::kLetGo);
  check_end();
  return violation_;
}

void OwnershipWorld::fail_with(const std::string& what) {
  if (violation_.empty()) violation_ = what + " (seed " + std::to_string(options_.seed) + ")";
}

// ---- what there is -----------------------------------------------------------------------------

ObjectId OwnershipWorld::new_object(int p) {
  return {kNode, id_of(p), processes_[p].next_object++};
}

wire::StoreLocation OwnershipWorld::new_extent(int p) {
  return {SegmentId{number(id_of(p))}, next_entry_++, 1, 0, 4096, 64};
}

ValuePtr OwnershipWorld::new_value(int p, Refs refs, bool in_store) {
  auto value = std::make_shared<ObjectValue>();
  value->refs = std::move(refs);
  if (in_store) value->location = new_extent(p);
  if (in_store && options_.loss_every > 0 && pick(3) > 0) value->rebuild = Rebuild::kByCreator;
  return value;
}

OwnershipWorld::Refs OwnershipWorld::some_users(int p, size_t max) {
  Refs all;
  for (const auto& [object, count] : processes_[p].user) all.push_back(object);
  std::shuffle(all.begin(), all.end(), random_);
  all.resize(std::min(all.size(), pick(max + 1)));
  return all;
}

bool OwnershipWorld::reaches(const Refs& from, ObjectId to) const {
  std::set<ObjectId> seen;
  Refs open = from;
  while (!open.empty()) {
    const ObjectId object = open.back();
    open.pop_back();
    if (object == to) return true;
    const auto inside = contents_.find(object);
    if (inside == contents_.end() || !seen.insert(object).second) continue;
    open.insert(open.end(), inside->second.begin(), inside->second.end());
  }
  return false;
}

// ---- counts ------------------------------------------------------------------------------------

void OwnershipWorld::retain(int p, ObjectId object) { processes_[p].objects[object].count++; }

void OwnershipWorld::release(int p, ObjectId object) {
  Refs waiting{object};
  UplinkRecords records;
  while (!waiting.empty()) {
    const ObjectId next = waiting.back();
    waiting.pop_back();
    Local& local = processes_[p].objects.at(next);
    MOBULA_CHECK(local.count > 0);
    if (--local.count > 0) continue;
    // First what the value holds, then the object itself: the order that RefTable asks for.
    const ValuePtr value = local.value;
    processes_[p].objects.erase(next);
    if (value != nullptr) {
      for (const ObjectId inside : value->refs) {
        // Recursive here, to have the inner ones done before on_count_zero of the outer one.
        release(p, inside);
      }
    }
    processes_[p].refs->on_count_zero(next, records);
  }
  queue(p, records);
}

void OwnershipWorld::take_user(int p, ObjectId object) {
  retain(p, object);
  processes_[p].user[object]++;
}

void OwnershipWorld::drop_user(int p, ObjectId object) {
  const auto user = processes_[p].user.find(object);
  if (--user->second == 0) processes_[p].user.erase(user);
  release(p, object);
}

void OwnershipWorld::keep_value(int p, Local& local, const ValuePtr& value) {
  local.value = value;
  local.pending = false;
  for (const ObjectId inside : value->refs) retain(p, inside);  // A map: `local` stays.
}

void OwnershipWorld::queue(int p, UplinkRecords& records) {
  for (UplinkRecord& record : records) {
    if (std::holds_alternative<ClaimsRecord>(record)) seen_.claims++;
    if (auto* drained = std::get_if<DrainedRecord>(&record)) {
      if (options_.fault == Fault::kOpenParcelsNotListed) drained->open_calls.clear();
      if (options_.fault == Fault::kAllParcelsListed) {
        for (uint64_t call = 1; call < 100; call++) drained->open_calls.push_back(CallId{call});
      }
    }
    send(p, std::move(record));
  }
  records.clear();
}

// ---- a process's steps -------------------------------------------------------------------------

bool OwnershipWorld::put(int p) {
  if (processes_[p].user.size() >= options_.refs_max) return false;
  const ObjectId object = new_object(p);
  const ValuePtr value = new_value(p, some_users(p, 2), chance(30));
  contents_[object] = value->refs;
  take_user(p, object);
  Local& local = processes_[p].objects[object];
  local.is_private = true;
  keep_value(p, local, value);
  return true;
}

void OwnershipWorld::share_one(int p, ObjectId object) {
  Local& local = processes_[p].objects.at(object);
  local.is_private = false;
  if (local.pending) {
    for (auto& [call, sent] : processes_[p].sent) sent.result_shared |= sent.result == object;
  }
  send(p, ShareRecord{object, local.pending ? nullptr : local.value, local.spec});
  UplinkRecords records;
  processes_[p].refs->on_shared(object, records);
  queue(p, records);
}

void OwnershipWorld::share_all(int p, const Refs& roots) {
  const auto order =
      share_order(roots, [&](ObjectId object) -> std::optional<std::span<const ObjectId>> {
        const auto local = processes_[p].objects.find(object);
        if (local == processes_[p].objects.end() || !local->second.is_private) return std::nullopt;
        if (local->second.pending) return local->second.spec;
        return local->second.value->refs;
      });
  for (const ObjectId object : order) {
    const bool root = std::find(roots.begin(), roots.end(), object) != roots.end();
    if (root || options_.fault != Fault::kContentNotShared) share_one(p, object);
  }
}

bool OwnershipWorld::call(int p) {
  const int q = static_cast<int>(pick(processes_.size()));
  if (q == p || processes_[p].known_dead.contains(q)) return false;
  Refs args = some_users(p, 2);
  if (chance(30)) {  // What came with a task goes on to somebody else.
    for (const Running& task : processes_[p].running) {
      for (const ObjectId object : task.args) {
        if (args.size() < 2 && processes_[p].user.contains(object)) args.push_back(object);
      }
    }
    std::sort(args.begin(), args.end());
    args.erase(std::unique(args.begin(), args.end()), args.end());
  }
  UplinkRecords records;
  share_all(p, args);
  if (options_.fault != Fault::kNoClaimBeforeSend) processes_[p].refs->before_send(args, records);
  queue(p, records);
  const CallId id{processes_[p].next_call++};
  const ObjectId result = new_object(p);
  take_user(p, result);
  retain(p, result);  // By the call, until it is complete.
  Local& local = processes_[p].objects[result];
  local.is_private = local.pending = true;
  local.spec = args;
  contents_[result] = args;
  for (const ObjectId object : args) retain(p, object);
  processes_[p].sent[id] = {q, args, result};
  processes_[p].out.emplace_back(ToRing{q, TaskFrame{id, args}});
  return true;
}

bool OwnershipWorld::drop(int p) {
  auto& user = processes_[p].user;
  if (user.empty()) return false;
  drop_user(p, std::next(user.begin(), static_cast<int64_t>(pick(user.size())))->first);
  return true;
}

bool OwnershipWorld::get(int p) {
  for (const auto& [object, count] : processes_[p].user) {
    const Local& local = processes_[p].objects.at(object);
    const bool own_pending = object.creator == id_of(p) && local.pending;
    if (local.is_private || local.value != nullptr || own_pending) continue;
    if (chance(50) || !processes_[p].asked.insert(object).second) continue;
    send(p, GetRecord{object});
    return true;
  }
  return false;
}

// The process finds that a shared value in the store has no bytes any more.
bool OwnershipWorld::lose(int p) {
  Process& process = processes_[p];
  for (const auto& [object, count] : process.user) {
    Local& local = process.objects.at(object);
    const bool stored = local.value != nullptr && local.value->location.has_value();
    if (local.is_private || !stored || chance(50) || process.asked.contains(object)) continue;
    seen_.losses++;
    const ValuePtr value = std::exchange(local.value, nullptr);
    lost_.insert({number(value->location->segment), value->location->entry});
    for (const ObjectId inside : value->refs) release(p, inside);
    UplinkRecords records;
    process.refs->on_value_lost(object, records);
    queue(p, records);
    process.asked.insert(object);
    if (options_.fault != Fault::kLossNotTold) send(p, LostRecord{object, *value->location});
    return true;
  }
  return false;
}

// The task runs again here, with other refs in its result than before, as the case may be.
void OwnershipWorld::make_again(int p, ObjectId object) {
  if (options_.fault == Fault::kRebuildForgotten) return;
  seen_.rebuilds++;
  Refs refs = some_users(p, 2);
  std::erase(refs, object);
  if (!options_.cycles && reaches(refs, object)) refs.clear();
  UplinkRecords records;
  share_all(p, refs);
  processes_[p].refs->before_send(refs, records);
  queue(p, records);
  auto& inside = contents_[object];
  inside.insert(inside.end(), refs.begin(), refs.end());
  send(p, ReadyRecord{object, new_value(p, std::move(refs), chance(70))});
}

bool OwnershipWorld::look_inside(int p) {
  for (const auto& [object, count] : processes_[p].user) {
    const Local& local = processes_[p].objects.at(object);
    if (local.value == nullptr || local.value->refs.empty() || chance(50)) continue;
    take_user(p, local.value->refs[pick(local.value->refs.size())]);
    return true;
  }
  return false;
}

bool OwnershipWorld::finish(int p) {
  Process& process = processes_[p];
  if (process.running.empty()) return false;
  const size_t chosen = pick(process.running.size());
  const Running task = process.running[chosen];
  process.running.erase(process.running.begin() + static_cast<ptrdiff_t>(chosen));
  const ObjectId result = processes_[task.caller].sent.contains(task.call)
                              ? processes_[task.caller].sent[task.call].result
                              : ObjectId{};
  Refs returned = task.orphan ? Refs{} : some_users(p, 2);
  if (!options_.cycles && reaches(returned, result)) returned.clear();
  for (const ObjectId object : returned) retain(p, object);  // The return value.
  for (const ObjectId object : task.args) {
    release(p,
            object);  // The argument. User code may have kept it, or have dropped its own already.
    if (process.user.contains(object) && chance(70)) drop_user(p, object);
  }
  UplinkRecords claims;
  process.refs->end_task(id_of(task.caller), task.call, claims);
  const bool late = options_.fault == Fault::kClaimsAfterResult;
  if (!late) queue(p, claims);
  if (!task.orphan) {
    share_all(p, returned);
    const ValuePtr value = new_value(p, returned, chance(30));
    auto& inside = contents_[result];
    inside.insert(inside.end(), returned.begin(), returned.end());
    const bool parcel = !returned.empty() || value->location;
    if (parcel) {
      seen_.parcels++;
      ParcelRecord record{{id_of(task.caller), id_of(p), task.call}, returned, {}};
      if (value->location) record.locations.push_back(*value->location);
      send(p, std::move(record));
    }
    const bool drop_first = chance(50);
    if (drop_first) {
      for (const ObjectId object : returned) release(p, object);
    }
    process.out.emplace_back(ToRing{task.caller, ResultFrame{task.call, value, parcel}});
    if (drop_first) returned.clear();
  }
  if (late) queue(p, claims);
  for (const ObjectId object : returned) release(p, object);
  return true;
}

bool OwnershipWorld::read_ring(int p) {
  std::vector<int> full;
  for (const auto& [from, ring] : processes_[p].ring_from) {
    if (!ring.empty()) full.push_back(from);
  }
  if (full.empty()) return false;
  const int from = full[pick(full.size())];
  const Frame frame = std::move(processes_[p].ring_from[from].front());
  processes_[p].ring_from[from].pop_front();
  if (const TaskFrame* task = std::get_if<TaskFrame>(&frame)) {
    on_task(p, from, *task);
  } else {
    on_result(p, from, std::get<ResultFrame>(frame));
  }
  return true;
}

void OwnershipWorld::on_task(int p, int from, const TaskFrame& task) {
  for (const ObjectId object : task.args) {
    retain(p, object);
    take_user(p, object);
  }
  processes_[p].refs->on_task(id_of(from), task.call, task.args);
  processes_[p].running.push_back({from, task.call, task.args});
}

void OwnershipWorld::on_result(int p, int from, const ResultFrame& result) {
  complete(
      p, result.call, result.value,
      result.parcel ? std::optional(ParcelKey{id_of(p), id_of(from), result.call}) : std::nullopt);
}

void OwnershipWorld::complete(int p, CallId call, const ValuePtr& value,
                              std::optional<ParcelKey> parcel) {
  const Sent sent = std::move(processes_[p].sent.at(call));
  processes_[p].sent.erase(call);
  // The call itself has a count of its result until here.
  keep_value(p, processes_[p].objects.at(sent.result), value);
  const bool forgotten = options_.fault == Fault::kReadyForgotten;
  if (sent.result_shared && !forgotten) send(p, ReadyRecord{sent.result, value});
  UplinkRecords records;
  if (parcel) {
    const ParcelPart part{sent.result, value->refs, sent.result_shared};
    processes_[p].refs->on_parcel(parcel->callee, call, {&part, 1}, records);
  }
  queue(p, records);
  for (const ObjectId object : sent.args) release(p, object);
  release(p, sent.result);
}

bool OwnershipWorld::read_notice(int p) {
  auto& downlink = processes_[p].downlink;
  if (downlink.empty()) return false;
  if (const SendPeerDied* death = std::get_if<SendPeerDied>(&downlink.front())) {
    const int dead = index_of(death->dead);
    if (!processes_[p].ring_from[dead].empty()) return false;  // To its end first.
    downlink.pop_front();
    on_peer_died(p, dead);
  } else if (const AskRebuild* ask = std::get_if<AskRebuild>(&downlink.front())) {
    const ObjectId object = ask->object;
    downlink.pop_front();
    make_again(p, object);
  } else {
    const DeliverValue answer = std::get<DeliverValue>(downlink.front());
    downlink.pop_front();
    on_value(p, answer);
  }
  return true;
}

void OwnershipWorld::on_value(int p, const DeliverValue& answer) {
  seen_.values_delivered++;
  if (processes_[p].asked.erase(answer.object) == 0) fail_with("a value nobody asked for");
  const auto local = processes_[p].objects.find(answer.object);
  if (local == processes_[p].objects.end()) return;  // Lost interest.
  if (answer.value == nullptr) {
    fail_with("a live ref's value does not exist: " + answer.error);
    return;
  }
  if (local->second.value != nullptr) return;
  keep_value(p, local->second, answer.value);
  processes_[p].refs->on_value(answer.object, answer.value->refs);
}

void OwnershipWorld::on_peer_died(int p, int dead) {
  Process& process = processes_[p];
  process.known_dead.insert(dead);
  for (Running& task : process.running) task.orphan |= task.caller == dead;
  std::vector<CallId> failed;
  for (const auto& [call, sent] : process.sent) {
    if (sent.callee == dead) failed.push_back(call);
  }
  for (const CallId call : failed) complete(p, call, error_value(), std::nullopt);
  UplinkRecords records;
  process.refs->on_peer_died(id_of(dead), records);
  if (options_.fault == Fault::kBurialWithoutDrained) {
    std::erase_if(records, [](const auto& r) { return std::holds_alternative<DrainedRecord>(r); });
  }
  queue(p, records);
}

bool OwnershipWorld::publish(int p) {
  Process& process = processes_[p];
  if (process.out.empty()) return false;
  const bool hasty = options_.fault == Fault::kFrameBeforeRecords && process.out.size() > 1 &&
                     std::holds_alternative<Record>(process.out[0]) &&
                     std::holds_alternative<ToRing>(process.out[1]);
  if (hasty) std::swap(process.out[0], process.out[1]);
  Publication next = std::move(process.out.front());
  process.out.pop_front();
  if (Record* record = std::get_if<Record>(&next)) {
    process.uplink.push_back(std::move(*record));
  } else {
    ToRing& ring = std::get<ToRing>(next);
    if (processes_[ring.to].alive) {
      processes_[ring.to].ring_from[p].push_back(std::move(ring.frame));
    }
  }
  return true;
}

void OwnershipWorld::crash(int p) {
  Process& process = processes_[p];
  seen_.crashes++;
  crashes_left_--;
  process.alive = false;
  process.objects.clear();
  process.user.clear();
  process.sent.clear();
  process.running.clear();
  process.out.clear();  // The uplink and what stands in the others' rings stay.
  process.ring_from.clear();
  process.downlink.clear();
}

// ---- the daemon --------------------------------------------------------------------------------

bool OwnershipWorld::daemon_step() {
  if (!in_pass_) {
    bool news = directory_.wants_pass();
    for (const Process& process : processes_) news |= !process.noticed && !process.uplink.empty();
    if (!news) return false;
    directory_.begin_pass();
    in_pass_ = true;
    unread_.clear();
    return true;
  }
  if (options_.fault == Fault::kSweepReadsNothing && chance(50)) {
    in_pass_ = false;
    directory_.complete_pass(effects_);
    carry_out();
    return true;
  }
  std::vector<int> left;
  for (int p = 0; p < options_.processes; p++) {
    const auto seen = unread_.find(p);
    if (!processes_[p].noticed && (seen == unread_.end() || seen->second > 0)) left.push_back(p);
  }
  if (left.empty()) {
    in_pass_ = false;
    directory_.complete_pass(effects_);
    carry_out();
    return true;
  }
  visit(left[pick(left.size())]);
  return true;
}

void OwnershipWorld::visit(int p) {
  const auto [seen, is_new] = unread_.try_emplace(p, processes_[p].uplink.size());
  if (is_new || seen->second == 0) return;
  seen->second--;
  read_record(p);
}

void OwnershipWorld::read_record(int p) {
  const Record record = std::move(processes_[p].uplink.front());
  processes_[p].uplink.pop_front();
  const ProcessId id = id_of(p);
  const size_t early = directory_.early_close_count();
  const Result<void> done = std::visit(
      Overloaded{
          [&](const ShareRecord& share) -> Result<void> {
            share_read_.insert(share.object);
            return share.value != nullptr
                       ? directory_.on_share(id, share.object, share.value, effects_)
                       : directory_.on_share_pending(id, share.object, share.spec);
          },
          [&](const ReadyRecord& ready) {
            return directory_.on_ready(id, ready.object, ready.value, effects_);
          },
          [&](const ParcelRecord& parcel) {
            return directory_.on_parcel(parcel.key, parcel.refs, parcel.locations, effects_);
          },
          [&](const GetRecord& get) {
            return directory_.on_get(id, {&get.object, 1}, effects_);
          },
          [&](const LostRecord& lost) {
            return directory_.on_lost(id, lost.object, lost.location, effects_);
          },
          [&](const UplinkRecord& other) -> Result<void> {
            return std::visit(
                Overloaded{
                    [&](const ClaimsRecord& r) { return directory_.on_claim(id, r.objects); },
                    [&](const ReleasesRecord& r) { return directory_.on_release(id, r.objects); },
                    [&](const CloseRecord& r) {
                      return directory_.on_close({id, r.callee, r.call});
                    },
                    [&](const DrainedRecord& r) {
                      return directory_.on_drained(id, r.peer, r.open_calls, effects_);
                    }},
                other);
          }},
      record);
  if (!done) fail_with("a record was refused: " + done.error().message);
  if (directory_.early_close_count() > early) seen_.early_closes++;
  carry_out();
}

void OwnershipWorld::notice_death(int p) {
  if (options_.fault == Fault::kUplinkNotRead) processes_[p].uplink.clear();
  while (!processes_[p].uplink.empty()) read_record(p);
  processes_[p].noticed = true;
  unread_.erase(p);
  directory_.on_process_died(id_of(p), effects_);
  carry_out();
}

void OwnershipWorld::carry_out() {
  while (!effects_.empty()) {
    const Effects now = std::exchange(effects_, {});
    for (const Effect& effect : now) {
      std::visit(
          Overloaded{[&](const DeliverValue& value) {
                       Process& to = processes_[index_of(value.process)];
                       if (to.alive) to.downlink.emplace_back(value);
                     },
                     [&](const SendPeerDied& death) {
                       Process& to = processes_[index_of(death.to)];
                       if (to.alive) to.downlink.emplace_back(death);
                       if (options_.fault != Fault::kBurialWithoutDrained) return;
                       const Result<void> done =
                           directory_.on_drained(death.to, death.dead, {}, effects_);
                       if (!done) fail_with(done.error().message);
                     },
                     [&](const OwedReady& owed) { owed_.push_back(owed.object); },
                     [&](const LostForGood& lost) { owed_.push_back(lost.object); },
                     [&](const AskRebuild& ask) {
                       Process& to = processes_[index_of(ask.creator)];
                       if (to.alive) to.downlink.emplace_back(ask);
                     },
                     [&](const AdoptExtent& extent) {
                       const std::pair key{number(extent.location.segment), extent.location.entry};
                       if (!adopted_.insert(key).second) fail_with("an extent adopted twice");
                     },
                     [&](const FreeExtent& extent) {
                       seen_.extents_freed++;
                       const std::pair key{number(extent.location.segment), extent.location.entry};
                       if (!adopted_.contains(key))
                         fail_with("an extent freed that was never adopted");
                       if (!freed_.insert(key).second) fail_with("an extent freed twice");
                     },
                     [](const auto&) {}},
          effect);
    }
  }
}

bool OwnershipWorld::notice_some_death() {
  for (int p = 0; p < options_.processes; p++) {
    if (processes_[p].alive || processes_[p].noticed) continue;
    notice_death(p);
    return true;
  }
  return false;
}

bool OwnershipWorld::settle_some_estate() {
  if (owed_.empty() || options_.fault == Fault::kEstateForgotten) return false;
  const ObjectId object = owed_.back();
  owed_.pop_back();
  seen_.estates++;
  (void)directory_.settle_estate(object, error_value(), effects_);  // Nobody may want it any more.
  carry_out();
  return true;
}

// ---- a run -------------------------------------------------------------------------------------

bool OwnershipWorld::process_step(int p, Mode mode) {
  Process& process = processes_[p];
  if (!process.alive) return false;
  // Now and then one stands still for a while: most mistakes need that.
  if (process.asleep > 0) {
    process.asleep--;
    return false;
  }
  const bool did = waking_step(p, mode);
  if (did && pick(100) == 0) process.asleep = static_cast<int>(pick(60));
  return did;
}

bool OwnershipWorld::waking_step(int p, Mode mode) {
  if (publish(p)) return true;  // One thread: first what is done is published.
  if (mode != Mode::kPlay && (read_ring(p) || read_notice(p) || finish(p))) return true;
  if (mode == Mode::kSettle) return false;
  if (mode == Mode::kLetGo) return drop(p);
  if (options_.loss_every > 0 && pick(options_.loss_every) == 0 && lose(p)) return true;
  switch (pick(10)) {
    case 0:
      return put(p);
    case 1:
    case 2:
      return call(p);
    case 3:
      return drop(p);
    case 4:
      return get(p);
    case 5:
      return look_inside(p);
    case 6:
      return finish(p);
    case 7:
      return read_notice(p);
    default:
      return read_ring(p);
  }
}

bool OwnershipWorld::any_step(Mode mode) {
  seen_.steps++;
  if (mode == Mode::kPlay && crashes_left_ > 0 && pick(100) == 0) {
    const int p = static_cast<int>(pick(processes_.size()));
    // Preferably in the middle of something.
    if (processes_[p].alive && (!processes_[p].running.empty() || chance(30))) crash(p);
    return true;
  }
  const uint64_t who = pick(processes_.size() * 3 + 3);
  if (who < processes_.size() * 3) return process_step(static_cast<int>(who / 3), mode);
  if (chance(mode == Mode::kPlay ? 5 : 50)) return notice_some_death();
  if (chance(mode == Mode::kPlay ? 10 : 50)) return settle_some_estate();
  return daemon_step();
}

// Until everything that can end by itself has: a long run of steps without any effect.
void OwnershipWorld::settle(Mode mode) {
  int quiet = 0;
  for (int step = 0; violation_.empty() && quiet < 1000; step++) {
    if (step > 200'000) {
      fail_with("it never comes to rest");
      return;
    }
    quiet = any_step(mode) ? 0 : quiet + 1;
    if (quiet == 0) check();
  }
}

void OwnershipWorld::check() {
  if (!violation_.empty()) return;
  directory_.check_invariants();
  for (int p = 0; p < options_.processes; p++) {
    const Process& process = processes_[p];
    if (!process.alive) continue;
    process.refs->check_invariants();
    for (const auto& [object, local] : process.objects) {
      if (!local.is_private && share_read_.contains(object) && !directory_.contains(object)) {
        fail_with("a live process refers to a freed object");
      }
      if (local.value == nullptr || !local.value->location) continue;
      const wire::StoreLocation& at = *local.value->location;
      const std::pair key{number(at.segment), at.entry};
      // Others may still believe in bytes that somebody has found to be lost.
      if (freed_.contains(key) && !lost_.contains(key)) {
        fail_with("a live process refers to an object whose bytes are freed");
      }
    }
  }
}

void OwnershipWorld::check_end() {
  if (!violation_.empty()) return;
  for (const Process& process : processes_) {
    if (!process.alive) {
      if (!process.noticed) fail_with("a death was not noticed");
      continue;
    }
    if (options_.cycles) continue;  // Values kept here may hold each other.
    if (process.refs->ref_count() > 0) fail_with("a process still has refs");
    if (process.refs->parcel_count() > 0) fail_with("a process keeps a parcel open");
    if (process.refs->guard_count() > 0) fail_with("a guard never ends");
  }
  if (options_.cycles) {
    // What holds itself goes with the job.
    directory_.on_job_ended(kJob, error_value(), effects_);
    for (int p = 0; p < options_.processes; p++) {
      if (!processes_[p].alive) continue;
      crash(p);
      notice_death(p);
    }
    for (int step = 0; step < 10'000 && (in_pass_ || directory_.wants_pass()); step++)
      daemon_step();
    directory_.check_invariants();
  }
  size_t expected = 0;
  for (const Process& process : processes_) expected += process.alive ? 1 : 0;
  if (directory_.process_count() != expected) fail_with("a dead process is never buried");
  if (directory_.entry_count() > 0) fail_with("an entry remains");
  if (directory_.parcel_count() > 0) fail_with("a parcel remains");
  if (directory_.extent_count() > 0) fail_with("an extent remains");
  if (directory_.early_close_count() > 0) fail_with("a close remains");
  if (adopted_ != freed_) fail_with("an extent was adopted and never freed");
}

}  // namespace mobula::objects
