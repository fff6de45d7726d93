// RuntimeImpl: making results again whose bytes in the store were lost (OWNERSHIP.md R21).
//
// A task with results in the store is kept after its end (core/tasks/lineage.h), without counts on its
// arguments. An argument that nobody else needs any more becomes *dormant*: its Object stays, its value
// goes, unless that is a small private one. What is shared may be needed elsewhere after its last count
// here: its Object is dormant until the daemon says that nobody holds it (ObjectsDropped).
//
// Who finds bytes gone says so by recover(). A private object is made again here and now. For a shared
// one the daemon asks its creator (RebuildObject), which runs the task for a *proxy* of the object and
// sends its value like any other (Ready). To run a task again its dormant arguments are woken: made
// again themselves, or held again (Revive).

#include <algorithm>
#include <cstring>

#include "core/objects/loss.h"
#include "process/runtime_impl.h"
#include "wire/frame_reader.h"

namespace mobula::process {

namespace {

using objects::LossReason;
using objects::Rebuild;

// What the tables of lineage cost beside the task itself, by result and by argument. Bytes.
constexpr uint64_t kBytesPerResult = 200;
constexpr uint64_t kBytesPerArgument = 120;

bool is_stored(const Object& object) {
  return object.is_ready() && object.value.kind() == wire::ValueKind::kInStore;
}

std::vector<std::byte> loss_error(ObjectId id, LossReason reason) {
  return system_error(objects::loss_code(reason), objects::loss_text(id, reason));
}

}  // namespace

// ---- keeping tasks

Rebuild rebuild_of(const Task& task) {
  if (task.calls != nullptr) return Rebuild::kCall;
  if (task.yields && task.cancelled) return Rebuild::kCancelled;
  if (task.adopted) return Rebuild::kNoRetries;
  return task.retries_left == 0 ? Rebuild::kNoRetries : Rebuild::kByCreator;
}

// The task has succeeded and its results are in, or it is a generator with a first item. It is kept if
// one of them can get lost.
void RuntimeImpl::remember(Task& task) {
  if (task.rerun_of() != nullptr) return;
  if (task.rebuilding) return remember_again(task);
  if (rebuild_of(task) != Rebuild::kByCreator) return;
  std::vector<ObjectId> results;
  for (Object* object : task.returns) {
    const bool wanted = object->sharing != Sharing::kPrivate || object->count.load() > 1;
    if (!is_stored(*object) || !wanted) continue;
    results.push_back(object->id);
    results_kept_[object->id] = object;
  }
  if (results.empty() && !task.yields) return;
  std::vector<ObjectId> arguments;
  std::vector<Object*> open = task.refs;
  while (!open.empty()) {
    Object* object = open.back();
    open.pop_back();
    arguments.push_back(object->id);
    object->is_argument = true;
    if (!arguments_kept_.try_emplace(object->id, object).second) continue;
    // A small value stays here, so what is inside must.
    if (object->is_ready() && !is_stored(*object)) {
      open.insert(open.end(), object->inner.begin(), object->inner.end());
    }
  }
  task.kept = true;
  kept_[task.lineage_key()] = &task;
  const uint64_t bytes = sizeof(Task) + task.arguments.capacity() +
                         results.size() * kBytesPerResult + arguments.size() * kBytesPerArgument;
  if (task.yields) {
    lineage_.open(task.lineage_key(), {bytes, kBytesPerResult}, arguments, lineage_effects_);
  } else {
    lineage_.keep(task.lineage_key(), bytes, results, arguments, lineage_effects_);
  }
}

void RuntimeImpl::remember_again(Task& task) {
  for (Object* object : task.returns) {
    const bool known = lineage_.task_of(object->id) == task.lineage_key();
    if (known && !is_stored(*object)) forget_result(object->id);
  }
  if (task.retries_left == 0) return forget_task(task);
  lineage_.end(task.lineage_key(), lineage_effects_);
  task.rebuilding = false;
}

void RuntimeImpl::forget_result(ObjectId id) {
  lineage_.on_result_gone(id, lineage_effects_);
  results_kept_.erase(id);
}

// The proxy's value goes to the daemon: will that say when nobody holds the object any more?
void RuntimeImpl::complete_original(const Object& proxy) {
  const auto original = known_.find(proxy.id);
  if (original == known_.end()) return;
  original->second->entry_lives = is_stored(proxy) && proxy.rebuild == Rebuild::kByCreator;
  lineage_effects_.unused.push_back(proxy.id);  // It may be unwanted now.
}

// It is not to run again. Its results are as they are.
void RuntimeImpl::forget_task(Task& task, Rebuild why) {
  task.rebuilding = false;
  if (task.yields) {  // It may run still, or once more: end() forgets it.
    for (const ObjectId id : lineage_.results_of(task.lineage_key())) {
      if (const auto kept = results_kept_.find(id); kept != results_kept_.end()) {
        kept->second->rebuild = why;
      }
      forget_result(id);
    }
    return;
  }
  std::erase_if(results_kept_, [&](const auto& entry) {
    if (lineage_.task_of(entry.first) != task.lineage_key()) return false;
    entry.second->rebuild = why;
    return true;
  });
  lineage_.forget(task.lineage_key(), lineage_effects_);
}

// The task is over and kept: it lets go of its arguments.
void RuntimeImpl::rest_task(Task& task) {
  task.resting = true;
  unlink_task(task);
  for (Object* ref : task.refs) release(ref);
}

// Frees what the lineage has let go of. Never from within free_object().
void RuntimeImpl::settle_lineage() {
  while (!lineage_effects_.empty()) {
    const tasks::Lineage::Effects effects = std::exchange(lineage_effects_, {});
    for (const tasks::Lineage::Forgotten& forgotten : effects.forgotten) {
      for (const ObjectId id : forgotten.results) {
        const auto result = results_kept_.extract(id);
        if (result.empty()) continue;
        result.mapped()->rebuild = Rebuild::kEvicted;
        delete_if_unwanted(*result.mapped());
      }
      const auto task = kept_.extract(forgotten.call);
      if (!task.empty()) tasks_.free(task.mapped());
    }
    for (const ObjectId id : effects.unused) {
      if (lineage_.is_argument(id)) continue;
      const auto argument = arguments_kept_.extract(id);
      const auto known = known_.find(id);
      if (argument.empty() && known == known_.end()) continue;
      Object& object = argument.empty() ? *known->second : *argument.mapped();
      object.is_argument = false;
      delete_if_unwanted(object);
    }
  }
}

// ---- objects without counts

// True: the object is kept without counts. False: it is to be deleted.
bool RuntimeImpl::hibernate(Object& object, objects::UplinkRecords& records) {
  if (!object.is_argument && !object.entry_lives) {
    if (results_kept_.erase(object.id) > 0) lineage_.on_result_gone(object.id, lineage_effects_);
    return false;
  }
  for (Object* inner : std::exchange(object.inner, {})) release(inner);
  if (object.calls != nullptr) forget_calls(object);
  if (object.sharing != Sharing::kPrivate || is_stored(object)) {
    free_stored_bytes(object);
    object.value.clear();
    object.ready.store(false);
  }
  if (object.in_ref_table) refs_.on_count_zero(object.id, records);
  if (object.sharing == Sharing::kPrivate) object.in_ref_table = false;
  if (object.sharing == Sharing::kShared) object.sharing = Sharing::kForeign;  // Released.
  object.requested = false;
  object.dormant = true;
  object.on_drop_list.store(false);
  return true;
}

void RuntimeImpl::delete_if_unwanted(Object& object) {
  if (!object.dormant || object.is_argument || object.entry_lives) return;
  if (object.sharing != Sharing::kPrivate) known_.erase(object.id);
  if (results_kept_.erase(object.id) > 0) lineage_.on_result_gone(object.id, lineage_effects_);
  pool_.free(&object);
}

// One more count of an argument of a task that is to run again.
void RuntimeImpl::wake(Object& argument) {
  std::vector<Object*> open{&argument};
  while (!open.empty()) {
    Object& object = *open.back();
    open.pop_back();
    object.retain();
    if (!object.dormant) continue;
    object.dormant = false;
    if (object.sharing != Sharing::kPrivate) {
      object.requested = true;  // Once it is held.
      to_revive_.push_back(object.id);
    } else if (!object.is_ready()) {
      make_again(object);
    } else {
      wake_inner(object, open);
    }
  }
}

// A small private value: what it refers to is found by its id.
void RuntimeImpl::wake_inner(Object& object, std::vector<Object*>& open) {
  std::vector<Object*> inner;
  for (uint32_t i = 0; i < object.value.ref_count(); ++i) {
    const auto found = arguments_kept_.find(object.value.ref(i));
    if (found == arguments_kept_.end()) {
      object.ready.store(false);
      complete(object, loss_error(object.id, LossReason::kArgument), {});
      return;
    }
    inner.push_back(found->second);
  }
  open.insert(open.end(), inner.begin(), inner.end());
  object.inner = std::move(inner);
}

// ---- making again

// A private object, pending now, whose value is lost.
void RuntimeImpl::make_again(Object& object) {
  Task* task = kept_task_of(object.id);
  if (task == nullptr) {
    const LossReason reason = object.rebuild == Rebuild::kByCreator
                                  ? LossReason::kEvicted
                                  : objects::loss_reason(object.rebuild);
    complete(object, loss_error(object.id, reason), {});
    return;
  }
  if (task->yields) return want_item(*task, object);
  prepare_rerun(*task);
  give_return(*task, object);
}

Task* RuntimeImpl::kept_task_of(ObjectId result) {
  const auto key = lineage_.task_of(result);
  if (!key) return nullptr;
  const auto task = kept_.find(*key);
  return task == kept_.end() ? nullptr : task->second;
}

// Its returns are objects that nobody wants; give_return() replaces those that are lost.
void RuntimeImpl::prepare_rerun(Task& task) {
  if (task.rebuilding) return;
  task.rebuilding = true;
  task.resting = false;
  lineage_.begin(task.lineage_key());
  task.call = CallId{next_call_++};  // Parcels of the last time may still be open.
  if (task.retries_left > 0) --task.retries_left;
  ++task.attempt;
  task.cancelled = false;
  task.unresolved = 0;
  task.returns.clear();
  for (uint32_t i = 0; i < task.return_count; ++i) {
    Object* object = new_object();
    object->producer = &task;
    task.returns.push_back(object);
  }
  link_task(task);
  to_rerun_.push_back(&task);
}

void RuntimeImpl::give_return(Task& task, Object& object) {
  Object*& place = task.returns.at(object.id.index - task.first_return.index);
  if (place == &object || (object.proxy && place->proxy)) return;
  place->producer = nullptr;
  release(std::exchange(place, &object));
  object.retain();
  object.producer = &task;
}

// Starts what prepare_rerun() prepared, arguments that have to be made again included.
void RuntimeImpl::start_reruns() {
  while (!to_rerun_.empty()) {
    Task& task = *to_rerun_.back();
    to_rerun_.pop_back();
    std::vector<Object*> woken;
    for (Object* ref : task.refs) {
      if (ref->dormant) woken.push_back(ref);
      wake(*ref);
    }
    for (Object* object : woken) {
      if (object->is_ready()) continue;
      object->dependents.push_back(&task);
      ++task.unresolved;
    }
    if (resolve_arguments(task) && task.unresolved == 0) startable_.push_back(&task);
  }
  if (to_revive_.empty()) return;
  const std::vector<ObjectId> ids = std::exchange(to_revive_, {});
  for (size_t at = 0; at < ids.size(); at += wire::kControlListMax) {
    const auto some = std::span(ids).subspan(at, std::min(wire::kControlListMax, ids.size() - at));
    uplink_->send([&](wire::Builder& builder) {
      return wire::fb::CreateRevive(builder, wire::build_objects(builder, some));
    });
  }
  ring_daemon_later();
}

void RuntimeImpl::recover(Object& object, const wire::StoreLocation& location) {
  Locked lock(*this);
  drain_dropped();
  if (!is_stored(object)) return;
  wire::StoreLocation now{};
  std::memcpy(&now, object.value.payload().data(), sizeof now);
  if (std::memcmp(&now, &location, sizeof now) != 0) return;
  // Until there is a new value the old one stays: a task may be about to be sent with it.
  object.ready.store(false);
  if (!disconnected_.empty()) {
    complete(object, system_error(wire::SystemErrorCode::kNodeDied, disconnected_), {});
    return;
  }
  objects::UplinkRecords records;
  refs_.on_value_lost(object.id, records);
  send_records(records);
  if (object.sharing == Sharing::kPrivate) {
    make_again(object);
  } else {
    object.sharing = Sharing::kForeign;  // Also one of ours: its value comes from the daemon now.
    object.requested = true;
    uplink_->send([&](wire::Builder& builder) {
      const wire::fb::ObjectId id = wire::to_wire(object.id);
      const wire::fb::StoreLocation where = wire::to_wire(location);
      return wire::fb::CreateLost(builder, &id, &where);
    });
    ring_daemon_later();
  }
  start_reruns();
  settle();
  wake_reader_thread();
}

// ---- what the daemon says

bool RuntimeImpl::on_lineage_packet(const wire::fb::ToProcess& message) {
  using wire::fb::DownlinkBody;
  switch (message.body_type()) {
    case DownlinkBody::Adopt:
      on_adopt(*message.body_as_Adopt());
      return true;
    case DownlinkBody::RebuildObject:
      on_rebuild_object(*message.body_as_RebuildObject());
      return true;
    case DownlinkBody::Revived:
      on_revived(*message.body_as_Revived());
      return true;
    case DownlinkBody::ObjectsDropped:
      on_objects_dropped(*message.body_as_ObjectsDropped());
      return true;
    default:
      return false;
  }
}

void RuntimeImpl::on_rebuild_object(const wire::fb::RebuildObject& message) {
  const ObjectId id = wire::from_wire(*message.object());
  if (id.creator != process_) return;
  Object* proxy = pool_.make();
  proxy->id = id;
  proxy->sharing = Sharing::kShared;
  proxy->proxy = true;
  Task* task = kept_task_of(id);
  if (task == nullptr) {
    const auto known = known_.find(id);
    const Rebuild why = known == known_.end() ? Rebuild::kEvicted : known->second->rebuild;
    const LossReason reason =
        why == Rebuild::kByCreator ? LossReason::kEvicted : objects::loss_reason(why);
    complete(*proxy, loss_error(id, reason), {});
  } else if (task->yields) {
    want_item(*task, *proxy);
  } else {
    prepare_rerun(*task);
    give_return(*task, *proxy);
  }
  release(proxy);
  start_reruns();
  settle();
  wake_reader_thread();
}

void RuntimeImpl::on_revived(const wire::fb::Revived& message) {
  std::vector<Object*> wanted;
  std::vector<ObjectId> unwanted;
  for (const ObjectId id : wire::read_objects(message.held())) {
    const auto found = known_.find(id);
    if (found == known_.end() || found->second->dormant) {
      unwanted.push_back(id);
      continue;
    }
    refs_.on_revived(id);
    found->second->requested = false;
    wanted.push_back(found->second);
  }
  request_values(wanted);
  if (!unwanted.empty()) send_records({objects::ReleasesRecord{std::move(unwanted)}});
  for (const ObjectId id : wire::read_objects(message.gone())) {
    const auto found = known_.find(id);
    if (found == known_.end() || found->second->dormant || found->second->is_ready()) continue;
    Object& object = *found->second;
    if (kept_task_of(id) == nullptr) {
      complete(object, loss_error(id, LossReason::kArgument), {});
      continue;
    }
    make_private(object);
    make_again(object);
  }
  start_reruns();
  settle();
}

void RuntimeImpl::on_objects_dropped(const wire::fb::ObjectsDropped& message) {
  for (const ObjectId id : wire::read_objects(message.objects())) {
    const auto found = known_.find(id);
    if (found == known_.end()) continue;
    Object& object = *found->second;
    object.entry_lives = false;
    if (!object.dormant) continue;  // Revived says the same.
    make_private(object);
    delete_if_unwanted(object);
  }
  settle_lineage();
}

// Nobody else knows the object any more.
void RuntimeImpl::make_private(Object& object) {
  known_.erase(object.id);
  object.sharing = Sharing::kPrivate;
  object.in_ref_table = false;
  object.entry_lives = false;
}

// With everything else, at the end.
void RuntimeImpl::free_lineage() {
  for (auto& [key, task] : kept_) {
    if (task->resting) tasks_.free(task);
  }
  kept_.clear();
  std::vector<Object*> dormant;
  for (const auto& [id, object] : arguments_kept_) {
    object->is_argument = false;
    if (object->dormant) dormant.push_back(object);
  }
  for (const auto& [id, object] : known_) {
    object->entry_lives = false;
    if (object->dormant && !arguments_kept_.contains(id)) dormant.push_back(object);
  }
  arguments_kept_.clear();
  results_kept_.clear();
  for (Object* object : dormant) {
    if (object->sharing != Sharing::kPrivate) known_.erase(object->id);
    pool_.free(object);
  }
}

}  // namespace mobula::process
