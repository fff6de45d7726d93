// OwnershipWorld: bytes that are lost, and what it takes to make them again (R21).

#include "core/objects/ownership_world_test_support.h"

namespace mobula::objects {

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

// A task that is to run again needs what was released (R21).
bool OwnershipWorld::wake(int p) {
  Process& process = processes_[p];
  for (const ObjectId object : process.dormant) {
    if (process.objects.contains(object) || chance(50)) continue;
    seen_.revives++;
    retain(p, object);
    process.woken.insert(object);
    process.dormant.erase(object);
    if (options_.fault != Fault::kRevivedBelieved) process.refs->on_revive_sent(object);
    send(p, ReviveRecord{object});
    return true;
  }
  return false;
}

bool OwnershipWorld::is_only_woken(int p, ObjectId object) const {
  const Process& process = processes_[p];
  if (options_.fault != Fault::kRevivedBelieved) return process.refs->is_only_asked_for(object);
  const bool unknown = process.refs->state(object) == RefTable::State::kUnknown;
  return unknown && process.woken.contains(object);
}

bool OwnershipWorld::give_up_waking(int p) {
  auto& woken = processes_[p].woken;
  if (woken.empty()) return false;
  const ObjectId object = *woken.begin();
  woken.erase(woken.begin());
  release(p, object);
  return true;
}

void OwnershipWorld::on_revived(int p, const Revived& answer) {
  Process& process = processes_[p];
  // Who notes the question only now does not know what was released since.
  if (options_.fault == Fault::kRevivedBelieved) process.refs->on_revive_sent(answer.object);
  UplinkRecords records;
  const bool counts = process.refs->on_revived(answer.object, answer.held, records);
  queue(p, records);
  if (!counts) {
    seen_.outdated++;
    return;  // The answer to a later question is still to come.
  }
  if (process.woken.erase(answer.object) == 0) return;
  if (answer.held) take_user(p, answer.object);
  release(p, answer.object);
}

}  // namespace mobula::objects
