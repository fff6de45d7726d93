#include "core/objects/object_directory.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::objects {

namespace {

tl::unexpected<Error> broken(const char* what, ProcessId process) {
  return fail(ErrorCode::kInvalidArgument,
              std::string(what) + " (process " + std::to_string(number(process)) + ")");
}

constexpr const char* kNobodyHolds = "no live process holds the object";
constexpr const char* kCreatorGone = "the process that made the object died before it shared it";

}  // namespace

Result<void> ObjectDirectory::add_process(ProcessId process, JobId job) {
  MOBULA_CHECK(process != kDaemonProcess && !processes_.contains(process));
  Job& owner = jobs_[job];
  if (owner.end_error != nullptr) return fail(ErrorCode::kCancelled, "the job is over");
  owner.processes.insert(process);
  owner.creators.insert(process);
  processes_[process].job = job;
  process_max_ = std::max(process_max_, process);
  return {};
}

Result<void> ObjectDirectory::on_channel_opened(ProcessId one, ProcessId other) {
  const Result<Process*> first = live_process(one);
  const Result<Process*> second = live_process(other);
  if (!first || !second) return fail(ErrorCode::kUnavailable, "the peer is dead");
  MOBULA_CHECK(one != other);
  (*first)->peers.insert(other);
  (*second)->peers.insert(one);
  return {};
}

// ---- records -----------------------------------------------------------------------------------

Result<void> ObjectDirectory::on_share(ProcessId process, ObjectId object, ValuePtr value,
                                       Effects& effects) {
  const Result<Process*> sender = check_own(process, object);
  if (!sender) return tl::unexpected(sender.error());
  if (value == nullptr) return broken("a share without a value", process);
  MOBULA_TRY(check_refs(value->refs));
  MOBULA_TRY(check_room(value->refs.size() + 1));
  Entry& entry = name(object);
  if (entry.state != State::kNamed) return broken("an object shared twice", process);
  add_hold(**sender, object);
  set_value(object, entry, std::move(value), effects);
  return {};
}

Result<void> ObjectDirectory::on_share_pending(ProcessId process, ObjectId object,
                                               std::vector<ObjectId> spec_refs, SpecPtr spec) {
  const Result<Process*> sender = check_own(process, object);
  if (!sender) return tl::unexpected(sender.error());
  MOBULA_TRY(check_refs(spec_refs));
  MOBULA_TRY(check_room(spec_refs.size() + 1));
  Entry& entry = name(object);
  if (entry.state != State::kNamed) return broken("an object shared twice", process);
  add_hold(**sender, object);
  entry.state = State::kPending;
  add_holds(spec_refs, object);
  entry.spec_refs = std::move(spec_refs);
  entry.spec = std::move(spec);
  return {};
}

Result<void> ObjectDirectory::on_claim(ProcessId process, std::span<const ObjectId> objects) {
  const Result<Process*> sender = live_process(process);
  if (!sender) return tl::unexpected(sender.error());
  MOBULA_TRY(check_refs(objects));
  MOBULA_TRY(check_room(objects.size()));
  for (const ObjectId object : objects) add_hold(**sender, object);
  return {};
}

Result<void> ObjectDirectory::on_release(ProcessId process, std::span<const ObjectId> objects) {
  const Result<Process*> sender = live_process(process);
  if (!sender) return tl::unexpected(sender.error());
  for (const ObjectId object : objects) {
    if ((*sender)->holds.erase(object) == 0) return broken("a release without a hold", process);
    drop_hold(object);
  }
  return {};
}

Result<void> ObjectDirectory::on_job_holds(ProcessId process, std::span<const ObjectId> objects) {
  const Result<Process*> sender = live_process(process);
  if (!sender) return tl::unexpected(sender.error());
  MOBULA_TRY(check_refs(objects));
  MOBULA_TRY(check_room(objects.size()));
  Job& job = jobs_.at((*sender)->job);
  if (job.end_error != nullptr) return {};  // It ended; its holds did with it.
  for (const ObjectId object : objects) {
    if (job.holds.insert(object).second) name(object).holds++;
  }
  return {};
}

Result<void> ObjectDirectory::on_ready(ProcessId process, ObjectId object, ValuePtr value,
                                       Effects& effects) {
  MOBULA_TRY(check_own(process, object));
  if (value == nullptr) return broken("a ready object without a value", process);
  MOBULA_TRY(check_refs(value->refs));
  const auto found = entries_.find(object);
  if (found == entries_.end()) {
    // Nobody wanted it any more. Its bytes, if the parcel does not hold them, are free.
    if (value->location) {
      adopt(*value->location, effects);
      disown(*value->location);
    }
    return {};
  }
  if (found->second.state != State::kPending) return broken("an object ready twice", process);
  MOBULA_TRY(check_room(value->refs.size()));
  set_value(object, found->second, std::move(value), effects);
  return {};
}

Result<void> ObjectDirectory::on_parcel(const ParcelKey& key, std::vector<ObjectId> refs,
                                        std::span<const wire::StoreLocation> locations,
                                        Effects& effects) {
  MOBULA_TRY(live_process(key.callee));
  if (key.caller == kDaemonProcess || key.caller > process_max_) {
    return broken("a parcel for an unknown process", key.callee);
  }
  MOBULA_TRY(check_refs(refs));
  MOBULA_TRY(check_room(refs.size()));
  if (parcels_.contains(key)) return broken("a parcel sent twice", key.callee);
  for (const wire::StoreLocation& location : locations) adopt(location, effects);
  const auto caller = processes_.find(key.caller);
  const bool closed = early_closes_.erase(key) > 0;
  if (closed) caller->second.early_closes--;
  if (closed || caller == processes_.end()) {
    for (const wire::StoreLocation& location : locations) disown(location);
    return {};
  }
  add_holds(refs, ObjectId{});
  parcels_.emplace(key, Parcel{std::move(refs), {locations.begin(), locations.end()}});
  return {};
}

Result<void> ObjectDirectory::on_close(const ParcelKey& key) {
  const Result<Process*> caller = live_process(key.caller);
  if (!caller) return tl::unexpected(caller.error());
  if (key.callee == kDaemonProcess || key.callee > process_max_) {
    return broken("a close of a parcel of an unknown process", key.caller);
  }
  if (const auto parcel = parcels_.find(key); parcel != parcels_.end()) {
    drop_parcel(parcel);
    return {};
  }
  // Of a dead callee everything has been read: this parcel was dropped, or there never was one.
  if (!live_process(key.callee)) return {};
  if ((*caller)->early_closes >= options_.early_closes_max) {
    return fail(ErrorCode::kRetryLater, "too many closes without a parcel");
  }
  if (early_closes_.insert(key).second) (*caller)->early_closes++;
  return {};
}

Result<void> ObjectDirectory::on_get(ProcessId process, std::span<const ObjectId> objects,
                                     Effects& effects) {
  const Result<Process*> sender = live_process(process);
  if (!sender) return tl::unexpected(sender.error());
  MOBULA_TRY(check_refs(objects));
  MOBULA_TRY(check_room(objects.size()));
  if ((*sender)->waits.size() + objects.size() > options_.waits_max) {
    return fail(ErrorCode::kRetryLater, "too many values asked for at once");
  }
  for (const ObjectId object : objects) {
    Entry& entry = name(object);
    if (entry.state == State::kReady) {
      effects.emplace_back(DeliverValue{process, object, entry.value, {}});
    } else if (entry.state == State::kNamed && creator_is_gone(object)) {
      effects.emplace_back(DeliverValue{process, object, nullptr, kCreatorGone});
    } else if ((*sender)->waits.insert(object).second) {
      entry.waiters.push_back(process);
    }
    // Asking is no hold. If nobody has one, the next pass tells.
    if (entry.holds == 0 && entry.since == 0) consider(object, entry);
  }
  return {};
}

Result<void> ObjectDirectory::on_lost(ProcessId process, ObjectId object,
                                      const wire::StoreLocation& location, Effects& effects) {
  MOBULA_TRY(live_process(process));
  MOBULA_TRY(check_refs({&object, 1}));
  const auto found = entries_.find(object);
  if (found != entries_.end() && found->second.state == State::kReady) {
    const auto& at = found->second.value->location;
    const bool same = at && at->segment == location.segment && at->entry == location.entry &&
                      at->generation == location.generation;
    if (same) lose_value(object, found->second, effects);
  }
  return on_get(process, {&object, 1}, effects);
}

Result<void> ObjectDirectory::on_revive(ProcessId process, std::span<const ObjectId> objects,
                                        Effects& effects) {
  const Result<Process*> sender = live_process(process);
  if (!sender) return tl::unexpected(sender.error());
  MOBULA_TRY(check_refs(objects));
  for (const ObjectId object : objects) {
    const auto found = entries_.find(object);
    // A full entry until it is dropped, also during a sweep (R11).
    const bool held = found != entries_.end() &&
                      (found->second.state != State::kNamed || found->second.holds > 0);
    if (held) add_hold(**sender, object);
    effects.emplace_back(Revived{process, object, held});
  }
  return {};
}

// ---- checks ------------------------------------------------------------------------------------

Result<ObjectDirectory::Process*> ObjectDirectory::live_process(ProcessId process) {
  const auto found = processes_.find(process);
  if (found == processes_.end() || found->second.life != Life::kAlive) {
    return broken("no such live process", process);
  }
  return &found->second;
}

Result<ObjectDirectory::Process*> ObjectDirectory::check_own(ProcessId process, ObjectId object) {
  if (object.is_nil() || object.node != options_.node || object.creator != process) {
    return broken("an object of another process", process);
  }
  return live_process(process);
}

Result<void> ObjectDirectory::check_refs(std::span<const ObjectId> refs) const {
  for (const ObjectId object : refs) {
    if (object.is_nil() || object.node != options_.node || object.creator == kDaemonProcess ||
        object.creator > process_max_) {
      return fail(ErrorCode::kInvalidArgument,
                  "an object that no process of this node can have made");
    }
  }
  return {};
}

Result<void> ObjectDirectory::check_room(size_t more) const {
  if (entries_.size() + more <= options_.entries_max) return {};
  return fail(ErrorCode::kRetryLater, "too many shared objects on this node");
}

// ---- holds -------------------------------------------------------------------------------------

ObjectDirectory::Entry& ObjectDirectory::name(ObjectId object) {
  const auto [found, is_new] = entries_.try_emplace(object);
  if (is_new) {
    if (const auto creator = processes_.find(object.creator); creator != processes_.end()) {
      creator->second.owes.insert(object);
    }
  }
  return found->second;
}

void ObjectDirectory::add_hold(Process& process, ObjectId object) {
  if (process.holds.insert(object).second) name(object).holds++;
}

// A value does not hold its own id.
void ObjectDirectory::add_holds(std::span<const ObjectId> refs, ObjectId except) {
  for (const ObjectId object : refs) {
    if (object != except) name(object).holds++;
  }
}

void ObjectDirectory::drop_holds(std::span<const ObjectId> refs, ObjectId except) {
  for (const ObjectId object : refs) {
    if (object != except) drop_hold(object);
  }
}

void ObjectDirectory::drop_hold(ObjectId object) {
  const auto found = entries_.find(object);
  MOBULA_CHECK(found != entries_.end() && found->second.holds > 0);
  if (--found->second.holds == 0) consider(object, found->second);
}

void ObjectDirectory::consider(ObjectId object, Entry& entry) {
  if (entry.since == passes_begun_) return;  // Stands in the list with this very number.
  entry.since = passes_begun_;
  sweep_.push_back({object, passes_begun_});
}

void ObjectDirectory::adopt(const wire::StoreLocation& location, Effects& effects) {
  const ExtentKey key{location.segment, location.entry, location.generation};
  const auto [found, is_new] = extents_.try_emplace(key, Extent{location, 0, 0});
  if (is_new) effects.emplace_back(AdoptExtent{location});
  found->second.owners++;
}

// Extents are swept like entries: a value that came too late and the parcel that brings the same
// bytes may be read in either order.
void ObjectDirectory::disown(const wire::StoreLocation& location) {
  const ExtentKey key{location.segment, location.entry, location.generation};
  const auto found = extents_.find(key);
  MOBULA_CHECK(found != extents_.end() && found->second.owners > 0);
  Extent& extent = found->second;
  if (--extent.owners > 0 || extent.since == passes_begun_) return;
  extent.since = passes_begun_;
  sweep_.push_back({key, passes_begun_});
}

// ---- values ------------------------------------------------------------------------------------

void ObjectDirectory::set_value(ObjectId object, Entry& entry, ValuePtr value, Effects& effects) {
  add_holds(value->refs, object);
  if (value->location) adopt(*value->location, effects);
  drop_holds(entry.spec_refs, object);
  entry.spec_refs.clear();
  entry.spec_refs.shrink_to_fit();
  entry.spec = nullptr;
  entry.state = State::kReady;
  entry.owed = false;
  entry.tell_creator = value->rebuild == Rebuild::kByCreator;
  entry.value = std::move(value);
  if (const auto creator = processes_.find(object.creator); creator != processes_.end()) {
    creator->second.owes.erase(object);
  }
  answer_waiters(object, entry, "", effects);
}

void ObjectDirectory::answer_waiters(ObjectId object, Entry& entry, const char* error,
                                     Effects& effects) {
  for (const ProcessId waiter : entry.waiters) {
    processes_.at(waiter).waits.erase(object);
    effects.emplace_back(DeliverValue{waiter, object, entry.value, error});
  }
  entry.waiters.clear();
}

// The entry is pending again. Refs that others read out of the lost value stay held: that the
// container is alive may be all that protects them over there.
void ObjectDirectory::lose_value(ObjectId object, Entry& entry, Effects& effects) {
  const ValuePtr lost = std::exchange(entry.value, nullptr);
  entry.lost_refs.insert(entry.lost_refs.end(), lost->refs.begin(), lost->refs.end());
  disown(*lost->location);
  entry.state = State::kPending;
  const auto creator = processes_.find(object.creator);
  if (creator != processes_.end()) creator->second.owes.insert(object);
  const bool alive = creator != processes_.end() && creator->second.life == Life::kAlive;
  if (alive && lost->rebuild == Rebuild::kByCreator) {
    effects.emplace_back(AskRebuild{object.creator, object});
  } else {
    entry.owed = true;
    effects.emplace_back(LostForGood{object, lost->rebuild});
  }
}

// Takes value and specification away, and with them the holds on others.
void ObjectDirectory::forget_contents(ObjectId object, Entry& entry) {
  drop_holds(entry.spec_refs, object);
  entry.spec_refs.clear();
  entry.spec = nullptr;
  drop_holds(std::exchange(entry.lost_refs, {}), object);
  if (const ValuePtr value = std::exchange(entry.value, nullptr)) {
    drop_holds(value->refs, object);
    if (value->location) disown(*value->location);
  }
  entry.state = State::kNamed;
  entry.owed = false;
}

void ObjectDirectory::drop_parcel(std::map<ParcelKey, Parcel>::iterator parcel) {
  const Parcel content = std::move(parcel->second);
  parcels_.erase(parcel);
  drop_holds(content.refs, ObjectId{});
  for (const wire::StoreLocation& location : content.locations) disown(location);
}

void ObjectDirectory::drop_entry(ObjectId object, Effects& effects) {
  Entry& entry = entries_.at(object);
  forget_contents(object, entry);
  answer_waiters(object, entry, kNobodyHolds, effects);
  if (const auto creator = processes_.find(object.creator); creator != processes_.end()) {
    creator->second.owes.erase(object);
    if (entry.tell_creator && creator->second.life == Life::kAlive) {
      effects.emplace_back(Unwanted{object.creator, object});
    }
  }
  if (entry.watched) effects.emplace_back(Dropped{object});
  entries_.erase(object);
}

// ---- counters ----------------------------------------------------------------------------------

bool ObjectDirectory::has_value(ObjectId object) const {
  const auto found = entries_.find(object);
  return found != entries_.end() && found->second.state == State::kReady;
}

uint32_t ObjectDirectory::hold_count(ObjectId object) const {
  const auto found = entries_.find(object);
  return found == entries_.end() ? 0 : found->second.holds;
}

size_t ObjectDirectory::holds_of(ProcessId process) const {
  const auto found = processes_.find(process);
  return found == processes_.end() ? 0 : found->second.holds.size();
}

}  // namespace mobula::objects
