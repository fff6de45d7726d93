#include "core/objects/ref_table.h"

#include <unordered_set>

#include "base/check.h"

namespace mobula::objects {

namespace {

// Appends to the last record if it is of the same kind and has room: order is kept, ids are batched.
template <typename Record>
void append(ObjectId object, UplinkRecords& records) {
  Record* last = records.empty() ? nullptr : std::get_if<Record>(&records.back());
  if (last == nullptr || last->objects.size() >= kIdsPerRecord) {
    last = &std::get<Record>(records.emplace_back(Record{}));
  }
  last->objects.push_back(object);
}

}  // namespace

std::vector<ObjectId> share_order(
    std::span<const ObjectId> roots,
    const std::function<std::optional<std::span<const ObjectId>>(ObjectId)>& private_contents) {
  struct Visit {
    ObjectId object;
    std::span<const ObjectId> inside;
    size_t next = 0;
  };
  std::vector<ObjectId> order;
  std::vector<Visit> path;  // Not recursive: a chain of pending tasks can be 100,000 long.
  std::unordered_set<ObjectId, ObjectIdHash> seen;
  const auto enter = [&](ObjectId object) {
    if (seen.contains(object)) return;
    if (const auto inside = private_contents(object)) {
      seen.insert(object);
      path.push_back({object, *inside});
    }
  };
  for (const ObjectId root : roots) {
    enter(root);
    while (!path.empty()) {
      Visit& top = path.back();
      if (top.next < top.inside.size()) {
        enter(top.inside[top.next++]);  // May move `top`.
      } else {
        order.push_back(top.object);
        path.pop_back();
      }
    }
  }
  return order;
}

void RefTable::on_task(ProcessId caller, CallId call, std::span<const ObjectId> refs) {
  if (!refs.empty()) open_guard(TaskGuard{caller, call}, refs);
}

void RefTable::end_task(ProcessId caller, CallId call, UplinkRecords& records) {
  end_guard(TaskGuard{caller, call}, records);
}

void RefTable::on_parcel(ProcessId callee, CallId call, std::span<const ParcelPart> parts,
                         UplinkRecords& records) {
  const ParcelKey key{callee, call};
  parcels_.try_emplace(key, 0);
  for (const ParcelPart& part : parts) {
    if (part.handed_over) {
      on_value(part.result, part.refs);
    } else if (part_of_.try_emplace(part.result, key).second) {
      open_guard(PartGuard{part.result}, part.refs);
      parcels_[key]++;
    } else {  // Came twice: only one parcel can stay open for it.
      for (const ObjectId object : part.refs) {
        if (is_alive_(object)) claim(object, records);
      }
    }
  }
  close_if_done(key, records);
}

void RefTable::on_value(ObjectId container, std::span<const ObjectId> refs) {
  const Guard guard = ContainerGuard{container};
  if (!refs.empty() && !guards_.contains(guard)) open_guard(guard, refs);
}

void RefTable::on_shared(ObjectId object, UplinkRecords& records) {
  refs_[object].held = true;
  const auto part = part_of_.find(object);
  if (part == part_of_.end()) return;
  const ParcelKey key = part->second;
  part_of_.erase(part);
  // The same refs, protected by the daemon's entry instead of the parcel.
  if (auto node = guards_.extract(Guard{PartGuard{object}})) {
    std::vector<ObjectId>& refs = guards_[ContainerGuard{object}];
    refs.insert(refs.end(), node.mapped().begin(), node.mapped().end());
  }
  parcels_[key]--;
  close_if_done(key, records);
}

void RefTable::before_send(std::span<const ObjectId> refs, UplinkRecords& records) {
  for (const ObjectId object : refs) {
    if (refs_.contains(object)) claim(object, records);
  }
}

void RefTable::on_value_lost(ObjectId object, UplinkRecords& records) {
  end_part(object, records);
  end_guard(ContainerGuard{object}, records);
}

void RefTable::on_revived(ObjectId object) { refs_[object].held = true; }

void RefTable::end_part(ObjectId object, UplinkRecords& records) {
  const auto part = part_of_.find(object);
  if (part == part_of_.end()) return;
  const ParcelKey key = part->second;
  part_of_.erase(part);
  end_guard(PartGuard{object}, records);
  parcels_[key]--;
  close_if_done(key, records);
}

void RefTable::on_count_zero(ObjectId object, UplinkRecords& records) {
  end_part(object, records);
  end_guard(ContainerGuard{object}, records);
  const auto found = refs_.find(object);
  if (found == refs_.end()) return;
  if (found->second.held) append<ReleasesRecord>(object, records);
  found->second.held = false;
  if (found->second.guards == 0) refs_.erase(found);
}

void RefTable::on_peer_died(ProcessId peer, UplinkRecords& records) {
  std::vector<CallId> tasks;
  for (auto it = guards_.lower_bound(TaskGuard{peer, CallId{0}}); it != guards_.end(); ++it) {
    const TaskGuard* task = std::get_if<TaskGuard>(&it->first);
    if (task == nullptr || task->caller != peer) break;
    tasks.push_back(task->call);
  }
  for (const CallId call : tasks) end_guard(TaskGuard{peer, call}, records);
  DrainedRecord drained{.peer = peer, .open_calls = {}};
  for (auto it = parcels_.lower_bound({peer, CallId{0}}); it != parcels_.end(); ++it) {
    if (it->first.callee != peer) break;
    drained.open_calls.push_back(it->first.call);
  }
  records.emplace_back(std::move(drained));
}

RefTable::State RefTable::state(ObjectId object) const {
  const auto found = refs_.find(object);
  if (found == refs_.end()) return State::kUnknown;
  return found->second.held ? State::kHeld : State::kGuarded;
}

void RefTable::open_guard(const Guard& guard, std::span<const ObjectId> refs) {
  if (refs.empty()) return;
  std::vector<ObjectId>& list = guards_[guard];
  list.insert(list.end(), refs.begin(), refs.end());
  for (const ObjectId object : refs) refs_[object].guards++;
}

void RefTable::end_guard(const Guard& guard, UplinkRecords& records) {
  const auto found = guards_.find(guard);
  if (found == guards_.end()) return;
  for (const ObjectId object : found->second) {
    // Also if another guard protects it: that one's end would come too late for this one's.
    if (is_alive_(object)) claim(object, records);
    const auto ref = refs_.find(object);
    MOBULA_CHECK(ref != refs_.end() && ref->second.guards > 0);
    if (--ref->second.guards == 0 && !ref->second.held) refs_.erase(ref);
  }
  guards_.erase(found);
}

void RefTable::claim(ObjectId object, UplinkRecords& records) {
  Ref& ref = refs_[object];
  if (ref.held) return;
  ref.held = true;
  append<ClaimsRecord>(object, records);
}

void RefTable::close_if_done(const ParcelKey& key, UplinkRecords& records) {
  const auto parcel = parcels_.find(key);
  MOBULA_CHECK(parcel != parcels_.end());
  if (parcel->second > 0) return;
  parcels_.erase(parcel);
  records.emplace_back(CloseRecord{key.callee, key.call});
}

void RefTable::check_invariants() const {
  std::unordered_map<ObjectId, uint32_t, ObjectIdHash> guarded;
  for (const auto& [guard, refs] : guards_) {
    MOBULA_CHECK(!refs.empty());
    for (const ObjectId object : refs) guarded[object]++;
    if (const PartGuard* part = std::get_if<PartGuard>(&guard)) {
      MOBULA_CHECK(part_of_.contains(part->result));
    }
  }
  for (const auto& [object, ref] : refs_) {
    MOBULA_CHECK(ref.held || ref.guards > 0);
    MOBULA_CHECK(ref.guards == (guarded.contains(object) ? guarded[object] : 0));
  }
  for (const auto& [object, count] : guarded) MOBULA_CHECK(refs_.contains(object));
  std::map<ParcelKey, uint32_t> parts;
  for (const auto& [result, key] : part_of_) parts[key]++;
  MOBULA_CHECK(parts == parcels_);
}

}  // namespace mobula::objects
